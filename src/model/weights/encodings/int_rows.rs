//! Integers of a few bits, packed along the inputs (compressed-tensors, pack-quantized).
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::{
    grid::{Blocks, Grid},
    numbers::{code, code_of_row},
};
use crate::{error::Result, model::weights::shard::Stored};

/// The zero points of packed integers.
#[derive(Debug)]
pub enum RowZeros {
    /// None: the middle code, `2^(bits - 1)`, is zero.
    Middle,
    /// Packed along the outputs, `[ceil(out * bits / 32), groups]`: that of row `r` and group `g` is code
    /// `r` of the dense stream of words `[.., g]`.
    Packed(Stored),
    /// int8, one a block; zero is `2^(bits - 1)` plus it.
    Int8(Grid),
}

/// Words `[out, ceil(in * bits / 32)]`: a row is a dense stream of `bits`-bit codes, the lowest bits of a
/// little-endian word first.
///
/// Value `(r, c)` is `(code - zero) * scale`, with zero and scale of group `c / (in / groups)`, or of
/// group `g_idx[c]` where there is one.
#[derive(Debug)]
pub struct IntRows {
    /// The words.
    pub words: Stored,
    /// Bits of a code, 1 to 8.
    pub bits: usize,
    /// Inputs of a row.
    pub inputs: usize,
    /// Words of a row.
    pub row_words: usize,
    /// One a group, an output or all.
    pub scales: Grid,
    /// One where the scales are.
    pub zeros: RowZeros,
    /// int32 `[in]`: the group of every input, where they do not follow each other.
    pub groups: Option<Stored>,
}

/// The tensors of packed integers.
#[derive(Debug)]
pub(in crate::model::weights) struct IntRowsParts {
    pub(in crate::model::weights) words: Stored,
    pub(in crate::model::weights) scales: Stored,
    pub(in crate::model::weights) zeros: Option<Stored>,
    pub(in crate::model::weights) groups: Option<Stored>,
}

impl IntRows {
    /// The tensor `name` of shape `[out, in]`.
    pub(in crate::model::weights) fn new(
        name: &str,
        parts: IntRowsParts,
        shape: [usize; 2],
        bits: usize,
        blocks: Blocks,
    ) -> Result<Self> {
        let IntRowsParts {
            words,
            scales,
            zeros,
            groups,
        } = parts;
        let [outputs, inputs] = shape;
        let row_words = inputs.saturating_mul(bits).div_ceil(32);
        if !(1..=8).contains(&bits)
            || words.dtype() != Dtype::I32
            || words.shape() != [outputs, row_words]
        {
            return Err(words
                .error(format!(
                    "the packed codes of `{name}`, {shape:?} in {bits} bits, are {:?} of {:?}, expected I32 of [{outputs}, {row_words}]",
                    words.dtype(),
                    words.shape()
                ))
                .remedy(super::DAMAGED));
        }
        super::refuse_uneven(name, &words, inputs, blocks)?;
        let scales = Grid::new(name, "scales", scales, &shape, blocks)?;
        if !scales.is_float() {
            return Err(words
                .error(format!("the scales of `{name}` are no floats"))
                .remedy(super::DAMAGED));
        }
        let zeros = match zeros {
            None => RowZeros::Middle,
            Some(packed) if packed.dtype() == Dtype::I32 => {
                let expected = [(outputs * bits).div_ceil(32), scales.columns];
                if packed.shape() != expected || scales.rows != outputs {
                    return Err(packed
                        .error(format!(
                            "the zero points of `{name}` are I32 of {:?}, expected {expected:?}",
                            packed.shape()
                        ))
                        .remedy(super::DAMAGED));
                }
                RowZeros::Packed(packed)
            }
            Some(plain) => {
                let grid = Grid::new(name, "zero points", plain, &shape, blocks)?;
                if grid.is_float() {
                    return Err(grid
                        .stored
                        .error(format!(
                            "the zero points of `{name}` are {:?}, expected I32 or I8",
                            grid.stored.dtype()
                        ))
                        .remedy(super::DAMAGED));
                }
                RowZeros::Int8(grid)
            }
        };
        if let Some(groups) = &groups {
            super::check_groups(name, groups, inputs, scales.columns)?;
        }
        Ok(Self {
            words,
            bits,
            inputs,
            row_words,
            scales,
            zeros,
            groups,
        })
    }

    pub(super) fn name(&self) -> String {
        format!("int{} {}", self.bits, self.scales.blocks())
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        let zeros = match &self.zeros {
            RowZeros::Middle => None,
            RowZeros::Packed(stored) => Some(stored),
            RowZeros::Int8(grid) => Some(&grid.stored),
        };
        let more = zeros.into_iter().chain(&self.groups);
        [&self.words, &self.scales.stored]
            .into_iter()
            .chain(more)
            .collect()
    }

    /// The code that is zero in group `group` of a row.
    #[inline(always)]
    fn zero(&self, row: usize, group: usize) -> f32 {
        let middle = 1 << (self.bits - 1);
        match &self.zeros {
            RowZeros::Middle => middle as f32,
            RowZeros::Packed(stored) => {
                let zero = code(stored.bytes(), group, self.scales.columns, row, self.bits);
                zero as i32 as f32
            }
            RowZeros::Int8(grid) => middle as f32 + grid.value(grid.line(row) + group),
        }
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let size = 4 * self.row_words;
        let row = &self.words.bytes()[line * size..(line + 1) * size];
        let number = self.scales.line(line);
        if let Some(groups) = &self.groups {
            let groups = groups.bytes();
            for (index, value) in (first..).zip(out) {
                let group = super::numbers::load(groups, index) as usize;
                let scale = self.scales.value(number + group);
                let code = code_of_row(row, index, self.bits) as i32 as f32;
                *value = (code - self.zero(line, group)) * scale;
            }
            return;
        }
        let block = self.scales.block_columns;
        let mut at = 0;
        while at < out.len() {
            let group = (first + at) / block;
            let end = out.len().min((group + 1) * block - first);
            let (scale, zero) = (self.scales.value(number + group), self.zero(line, group));
            unpack(row, self.bits, first + at, &mut out[at..end]);
            for value in &mut out[at..end] {
                *value = (*value - zero) * scale;
            }
            at = end;
        }
    }
}

/// Codes of a dense stream from `first` on, as numbers.
fn unpack(row: &[u8], bits: usize, first: usize, out: &mut [f32]) {
    match bits {
        // An even start has both codes of every byte in their order.
        4 if first.is_multiple_of(2) => {
            let (pairs, last) = out.as_chunks_mut::<2>();
            let bytes = &row[first / 2..];
            for (pair, &byte) in pairs.iter_mut().zip(bytes) {
                *pair = [(byte & 15) as i8 as f32, (byte >> 4) as i8 as f32];
            }
            if let [value] = last {
                *value = f32::from(bytes[pairs.len()] & 15);
            }
        }
        8 => {
            for (value, &byte) in out.iter_mut().zip(&row[first..]) {
                *value = i32::from(byte) as f32;
            }
        }
        _ => {
            for (index, value) in (first..).zip(out) {
                *value = code_of_row(row, index, bits) as i32 as f32;
            }
        }
    }
}
