//! MXFP4: four-bit floats in blocks of 32 with a shared power of two (OCP Microscaling Formats
//! 1.0, sections 5.3 and 6.3).
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::numbers::{E2M1, Halves, halves};
use crate::{error::Result, model::weights::shard::Stored};

/// Values that share a scale.
pub(super) const BLOCK: usize = 32;
/// Bytes of a block; the low half of a byte holds the earlier value.
const BLOCK_BYTES: usize = BLOCK / 2;

/// Codes `[.., blocks, 16]` and E8M0 scales `[.., blocks]`, `2^(byte - 127)`.
#[derive(Debug)]
pub struct Mxfp4 {
    codes: Stored,
    scales: Stored,
    /// Blocks of a line.
    blocks: usize,
}

impl Mxfp4 {
    /// The encoding, and the shape of what it encodes; `name` is the tensor's.
    pub(in crate::model::weights) fn new(
        name: &str,
        codes: Stored,
        scales: Stored,
    ) -> Result<(Self, Vec<usize>)> {
        let bytes = codes.dtype() == Dtype::U8 && scales.dtype() == Dtype::U8;
        let Some((&BLOCK_BYTES, lines)) = codes.shape().split_last().filter(|_| bytes) else {
            return Err(codes
                .error(format!(
                    "the blocks of `{name}` are {:?} of {:?}, expected bytes in sixteens",
                    codes.dtype(),
                    codes.shape()
                ))
                .remedy(super::DAMAGED));
        };
        if scales.shape() != lines || lines.is_empty() {
            return Err(scales
                .error(format!(
                    "the scales of `{name}` have shape {:?}, its blocks {:?}",
                    scales.shape(),
                    codes.shape()
                ))
                .remedy(super::DAMAGED));
        }
        let mut shape = lines.to_vec();
        let blocks = shape.pop().unwrap_or_default();
        shape.push(blocks * BLOCK);
        let encoding = Self {
            codes,
            scales,
            blocks,
        };
        Ok((encoding, shape))
    }

    /// Blocks of a line.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Codes and scales.
    pub fn both(&self) -> [&Stored; 2] {
        [&self.codes, &self.scales]
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        self.both().to_vec()
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let (codes, scales) = (self.codes.bytes(), self.scales.bytes());
        let line = line * self.blocks;
        let mut at = first;
        let mut rest = out;
        while !rest.is_empty() {
            let block = line + at / BLOCK;
            let codes = &codes[block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES];
            let scale = (f64::from(scales[block]) - 127.0).exp2() as f32;
            let inside = at % BLOCK;
            let (now, later) = rest.split_at_mut(rest.len().min(BLOCK - inside));
            halves(codes, inside, Halves::LowFirst, &E2M1, scale, now);
            at += now.len();
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::shard::in_memory;

    #[test]
    fn low_half_first_and_scaled() {
        let mut blocks = vec![0u8; 4 * BLOCK_BYTES];
        blocks[2 * BLOCK_BYTES] = 0x72;
        blocks[2 * BLOCK_BYTES + 15] = 0xF9;
        let codes = in_memory(Dtype::U8, &[2, 2, BLOCK_BYTES], blocks);
        let scales = in_memory(Dtype::U8, &[2, 2], vec![127, 127, 128, 127]);
        let (encoding, shape) = Mxfp4::new("x", codes, scales).expect("fits");
        assert_eq!(shape, [2, 2 * BLOCK]);
        let mut out = [7.0; 40];
        encoding.decode(1, 0, &mut out);
        assert_eq!((out[0], out[1], out[2]), (2.0, 12.0, 0.0));
        assert_eq!((out[30], out[31], out[32]), (-1.0, -12.0, 0.0));
        encoding.decode(1, 31, &mut out[..2]);
        assert_eq!((out[0], out[1]), (-12.0, 0.0));
    }

    #[test]
    fn scales_must_fit() {
        let codes = || in_memory(Dtype::U8, &[2, 2, BLOCK_BYTES], vec![0; 4 * BLOCK_BYTES]);
        let scales = in_memory(Dtype::U8, &[2, 1], vec![0; 2]);
        assert!(Mxfp4::new("x", codes(), scales).is_err());
        let scales = in_memory(Dtype::F32, &[2, 2], vec![0; 16]);
        assert!(Mxfp4::new("x", codes(), scales).is_err());
    }
}
