//! The encodings of GGUF files (ggml's types): blocks of values along the inputs, each with scales of
//! its own.
//!
//! Definition: `gguf.quants.dequantize` of the Python package `gguf`, which this equals bit by bit.
#![forbid(unsafe_code)]

mod k_quants;
mod kind;
mod nonlinear;
mod order;
mod small;
mod ternary;

use half::f16;

pub use kind::Kind;
pub use order::RowOrder;

use crate::model::weights::shard::Stored;

/// The most values in a block.
const LARGEST: usize = 256;

/// A float16 as it is stored.
#[inline(always)]
fn float16(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Decodes blocks of `BYTES` bytes to `VALUES` values each.
#[inline(always)]
fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let (bytes, _) = bytes.as_chunks();
    let (out, _) = out.as_chunks_mut();
    for (block, out) in bytes.iter().zip(out) {
        decode(block, out);
    }
}

/// Rows of blocks, perhaps in another order than the model's.
#[derive(Debug)]
pub struct Ggml {
    /// Bytes `[rows, bytes of a row]`.
    rows: Stored,
    kind: Kind,
    order: RowOrder,
}

impl Ggml {
    /// Rows of `kind`, which must be one that is read; `rows` is `[rows, bytes of a row]`.
    pub(in crate::model::weights) fn new(rows: Stored, kind: Kind, order: RowOrder) -> Self {
        debug_assert!(kind.is_read() && rows.shape().len() == 2);
        Self { rows, kind, order }
    }

    /// The type of the blocks.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes `[rows, bytes of a row]`.
    pub fn rows(&self) -> &Stored {
        &self.rows
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.rows.bytes().len() / self.rows.shape()[0]
    }

    /// How the rows are ordered.
    pub fn order(&self) -> RowOrder {
        self.order
    }

    pub(super) fn name(&self) -> String {
        let plain = self.rows.elements().map(|elements| elements.dtype);
        plain.map_or_else(|| self.kind.name.to_owned(), |dtype| dtype.to_string())
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        vec![&self.rows]
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let Some(decode) = self.kind.decode else {
            return;
        };
        let Kind { values, bytes, .. } = self.kind;
        let rows = self.rows.bytes();
        let row_bytes = self.row_bytes();
        let line = self.order.stored(line) * row_bytes;
        let row = &rows[line..line + row_bytes];
        let mut block = [0.0; LARGEST];
        let (mut at, mut rest) = (first, out);
        while !rest.is_empty() {
            let (number, inside) = (at / values, at % values);
            let whole = if inside == 0 { rest.len() / values } else { 0 };
            let now;
            if whole > 0 {
                now = whole * values;
                let row = &row[number * bytes..(number + whole) * bytes];
                decode(row, &mut rest[..now]);
            } else {
                // A part of a block: all of it is decoded, and some is kept.
                now = rest.len().min(values - inside);
                let row = &row[number * bytes..(number + 1) * bytes];
                decode(row, &mut block[..values]);
                rest[..now].copy_from_slice(&block[inside..inside + now]);
            }
            at += now;
            rest = &mut rest[now..];
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;
    use crate::model::weights::shard::in_memory;

    #[test]
    fn any_part_of_a_row_equals_the_whole() {
        for code in [0, 1, 3, 12, 14, 23, 30, 34, 39] {
            let kind = Kind::of(code).expect("known");
            let (rows, width) = (4, 512);
            let row_bytes = width / kind.values * kind.bytes;
            let bytes = (0..rows * row_bytes).map(|byte| (byte * 37 % 61) as u8);
            let stored = in_memory(Dtype::U8, &[rows, row_bytes], bytes.collect());
            let encoding = Ggml::new(stored, kind, RowOrder::Rotary { head_rows: 4 });
            let mut whole = vec![0.0; width];
            encoding.decode(2, 0, &mut whole);
            for (first, length) in [(0, 512), (3, 7), (31, 2), (250, 262), (256, 256), (511, 1)] {
                let mut part = vec![7.0; length];
                encoding.decode(2, first, &mut part);
                assert_eq!(part, whole[first..first + length], "{kind:?} {first}");
            }
        }
    }
}
