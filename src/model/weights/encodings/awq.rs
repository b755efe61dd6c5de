//! AWQ ("gemm"): four-bit integers packed along the outputs of `[in, out]`, in an order of their own.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::{
    gptq::{misfit, scale},
    numbers::load,
};
use crate::{error::Result, model::weights::shard::Stored};

/// Outputs of a word.
const WORD: usize = 8;
/// Where in a word the code of an output is: nibble `i` holds output `[0, 2, 4, 6, 1, 3, 5, 7][i]`.
const SHIFTS: [u32; WORD] = [0, 16, 4, 20, 8, 24, 12, 28];
/// Outputs that are decoded at a time.
const CHUNK: usize = 256;

/// Words `[in, out / 8]`, zero points `[groups, out / 8]`, scales `[groups, out]`.
///
/// Value `(o, i)` is `(code - zero) * scale[g, o]` with `g = i / group`, code and zero being
/// `word[o / 8] >> [0, 16, 4, 20, 8, 24, 12, 28][o % 8] & 15`.
#[derive(Debug)]
pub struct Awq {
    /// The words.
    pub words: Stored,
    /// Packed zero points; without any, 8 is zero.
    pub zeros: Option<Stored>,
    /// Floats of 16 or 32 bits.
    pub scales: Stored,
    /// Inputs of a group.
    pub group: usize,
    /// Outputs of a line.
    pub outputs: usize,
    /// Lines.
    pub inputs: usize,
}

impl Awq {
    /// The encoding, and the shape of what it encodes; `name` is the tensor's. A group of 0 inputs is
    /// one of all.
    pub(in crate::model::weights) fn new(
        name: &str,
        words: Stored,
        zeros: Option<Stored>,
        scales: Stored,
        group: usize,
    ) -> Result<(Self, Vec<usize>)> {
        let &[inputs, packed] = words.shape() else {
            return Err(misfit(name, "packed codes", &words, "words of a matrix"));
        };
        if words.dtype() != Dtype::I32 {
            return Err(misfit(name, "packed codes", &words, "I32"));
        }
        let outputs = packed.saturating_mul(WORD);
        let group = if group == 0 { inputs } else { group };
        let count = super::check_scales(name, &scales, (inputs, outputs), group)?;
        if let Some(zeros) = &zeros
            && (zeros.dtype() != Dtype::I32 || zeros.shape() != [count, packed])
        {
            let expected = format!("I32 of [{count}, {packed}]");
            return Err(misfit(name, "zero points", zeros, &expected));
        }
        let encoding = Self {
            words,
            zeros,
            scales,
            group,
            outputs,
            inputs,
        };
        Ok((encoding, vec![outputs, inputs]))
    }

    pub(super) fn name(&self) -> String {
        super::integers(4, self.group, self.inputs)
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        let zeros = self.zeros.iter();
        zeros.chain([&self.words, &self.scales]).collect()
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let group = line / self.group;
        let Some(scales) = self.scales.elements() else {
            return;
        };
        let mut chunk = [0.0f32; CHUNK];
        for (index, out) in out.chunks_mut(CHUNK).enumerate() {
            let first = first + index * CHUNK;
            let chunk = &mut chunk[..out.len()];
            self.unpack(&self.words, line, first, out);
            match &self.zeros {
                Some(zeros) => self.unpack(zeros, group, first, chunk),
                None => chunk.fill(8.0),
            }
            for (value, zero) in out.iter_mut().zip(&*chunk) {
                *value -= zero;
            }
            scale(&scales, group * self.outputs + first, chunk, out);
        }
    }

    /// The codes of a row of words from output `first` on.
    #[inline(always)]
    fn unpack(&self, words: &Stored, row: usize, first: usize, out: &mut [f32]) {
        let size = self.outputs / 2;
        let row = &words.bytes()[row * size..(row + 1) * size];
        let one = |output: usize| {
            let code = load(row, output / WORD) >> SHIFTS[output % WORD] & 15;
            code as i32 as f32
        };
        let before = out.len().min(first.next_multiple_of(WORD) - first);
        let (start, rest) = out.split_at_mut(before);
        for (output, value) in (first..).zip(start) {
            *value = one(output);
        }
        let first = first + before;
        let (whole, last) = rest.as_chunks_mut::<WORD>();
        for (word, values) in (first / WORD..).zip(&mut *whole) {
            let word = load(row, word);
            for (value, shift) in values.iter_mut().zip(SHIFTS) {
                *value = (word >> shift & 15) as i32 as f32;
            }
        }
        for (output, value) in (first + whole.len() * WORD..).zip(last) {
            *value = one(output);
        }
    }
}
