//! GPTQ: integers packed along the inputs of `[in, out]`, with zero points packed along the outputs.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::numbers::{Halves, code_of_row, halves, load, mask};
use crate::{
    error::{Error, Result},
    model::weights::{shard::Stored, view::Elements},
};

/// Outputs that are decoded at a time.
const CHUNK: usize = 256;

/// Words `[in * bits / 32, out]`: the inputs of an output are a dense stream of `bits`-bit codes down a
/// column, the lowest bits of a little-endian word first; zero points `[groups, out * bits / 32]`, such a
/// stream along a row; scales `[groups, out]`.
///
/// Value `(o, i)` is `(code - zero[g, o]) * scale[g, o]` with `g = g_idx[i]`, or `i / group` where there
/// is no `g_idx`; zero is the stored code plus `zero_offset`, in `bits` bits.
#[derive(Debug)]
pub struct Gptq {
    /// The words.
    pub words: Stored,
    /// Packed zero points.
    pub zeros: Stored,
    /// Floats of 16 or 32 bits.
    pub scales: Stored,
    /// int32 `[in]`: the group of every input.
    pub groups: Option<Stored>,
    /// Bits of a code: 2, 3, 4 or 8.
    pub bits: usize,
    /// Inputs of a group.
    pub group: usize,
    /// 1 where zero points are stored less one, which wraps around; else 0.
    pub zero_offset: u32,
    /// Outputs of a line.
    pub outputs: usize,
    /// Lines.
    pub inputs: usize,
}

/// The tensors of a GPTQ matrix.
#[derive(Debug)]
pub(in crate::model::weights) struct GptqParts {
    pub(in crate::model::weights) words: Stored,
    pub(in crate::model::weights) zeros: Stored,
    pub(in crate::model::weights) scales: Stored,
    pub(in crate::model::weights) groups: Option<Stored>,
}

impl Gptq {
    /// The encoding, and the shape of what it encodes; `name` is the tensor's. A group of 0 inputs is
    /// one of all.
    pub(in crate::model::weights) fn new(
        name: &str,
        parts: GptqParts,
        bits: usize,
        group: usize,
        zero_offset: u32,
    ) -> Result<(Self, Vec<usize>)> {
        let GptqParts {
            words,
            zeros,
            scales,
            groups,
        } = parts;
        let &[rows, outputs] = words.shape() else {
            return Err(misfit(name, "packed codes", &words, "words of a matrix"));
        };
        let inputs = rows.saturating_mul(32) / bits.max(1);
        if !(1..=8).contains(&bits)
            || words.dtype() != Dtype::I32
            || !rows.saturating_mul(32).is_multiple_of(bits)
        {
            let expected = format!("I32, whole words of codes of {bits} bits");
            return Err(misfit(name, "packed codes", &words, &expected));
        }
        let group = if group == 0 { inputs } else { group };
        let count = super::check_scales(name, &scales, (inputs, outputs), group)?;
        let packed = outputs.saturating_mul(bits) / 32;
        if packed.saturating_mul(32) != outputs.saturating_mul(bits) {
            let expected = format!("outputs whose zero points of {bits} bits fill words");
            return Err(misfit(name, "packed codes", &words, &expected));
        }
        if zeros.dtype() != Dtype::I32 || zeros.shape() != [count, packed] {
            let expected = format!("I32 of [{count}, {packed}]");
            return Err(misfit(name, "zero points", &zeros, &expected));
        }
        if let Some(groups) = &groups {
            super::check_groups(name, groups, inputs, count)?;
        }
        let encoding = Self {
            words,
            zeros,
            scales,
            groups,
            bits,
            group,
            zero_offset,
            outputs,
            inputs,
        };
        Ok((encoding, vec![outputs, inputs]))
    }

    pub(super) fn name(&self) -> String {
        super::integers(self.bits, self.group, self.inputs)
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        let all = [&self.words, &self.zeros, &self.scales];
        all.into_iter().chain(&self.groups).collect()
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let group = match &self.groups {
            Some(groups) => load(groups.bytes(), line) as usize,
            None => line / self.group,
        };
        let Some(scales) = self.scales.elements() else {
            return;
        };
        let mut chunk = [0.0f32; CHUNK];
        for (index, out) in out.chunks_mut(CHUNK).enumerate() {
            let first = first + index * CHUNK;
            self.codes(line, first, out);
            let chunk = &mut chunk[..out.len()];
            self.zeros(group, first, chunk);
            for (value, zero) in out.iter_mut().zip(&*chunk) {
                *value -= zero;
            }
            scale(&scales, group * self.outputs + first, chunk, out);
        }
    }

    /// The codes of an input from output `first` on.
    #[inline(always)]
    fn codes(&self, input: usize, first: usize, out: &mut [f32]) {
        let (row, shift) = (input * self.bits / 32, input * self.bits % 32);
        let bytes = self.words.bytes();
        let row_of = |row: usize| {
            let at = 4 * (row * self.outputs + first);
            bytes[at..at + 4 * out.len()].as_chunks::<4>().0
        };
        let mask = mask(self.bits);
        let low = row_of(row);
        if shift + self.bits <= 32 {
            for (value, word) in out.iter_mut().zip(low) {
                *value = (u32::from_le_bytes(*word) >> shift & mask) as i32 as f32;
            }
            return;
        }
        let high = row_of(row + 1);
        for ((value, low), high) in out.iter_mut().zip(low).zip(high) {
            let (low, high) = (u32::from_le_bytes(*low), u32::from_le_bytes(*high));
            *value = ((low >> shift | high << (32 - shift)) & mask) as i32 as f32;
        }
    }

    /// The zero points of a group from output `first` on.
    #[inline(always)]
    fn zeros(&self, group: usize, first: usize, out: &mut [f32]) {
        let size = 4 * (self.outputs * self.bits / 32);
        let row = &self.zeros.bytes()[group * size..(group + 1) * size];
        let (mask, offset) = (mask(self.bits), self.zero_offset);
        if self.bits == 4 {
            let table = std::array::from_fn(|code| ((code as u32 + offset) & 15) as f32);
            halves(row, first, Halves::LowFirst, &table, 1.0, out);
            return;
        }
        for (output, value) in (first..).zip(out) {
            *value = ((code_of_row(row, output, self.bits) + offset) & mask) as i32 as f32;
        }
    }
}

/// Multiplies by the scales from `first` on, which `chunk` has room for.
#[inline(always)]
pub(super) fn scale(scales: &Elements<'_>, first: usize, chunk: &mut [f32], out: &mut [f32]) {
    scales.slice(first, first + out.len()).write_f32(chunk);
    for (value, scale) in out.iter_mut().zip(chunk) {
        *value *= *scale;
    }
}

/// A part of a tensor that is not what it should be.
pub(super) fn misfit(name: &str, what: &str, part: &Stored, expected: &str) -> Error {
    part.error(format!(
        "the {what} of `{name}` are {:?} of {:?}, expected {expected}",
        part.dtype(),
        part.shape()
    ))
    .remedy(super::DAMAGED)
}
