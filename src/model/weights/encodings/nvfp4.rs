//! NVFP4: four-bit floats in groups of 16, each with an eight-bit float as its scale, and one scale for
//! all.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::{
    grid::{Blocks, Grid, GridNumber},
    numbers::{E2M1, Halves, halves},
};
use crate::{error::Result, model::weights::shard::Stored};

/// Values of a group.
const GROUP: usize = 16;

/// What the scale for all does to the groups' scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    /// Divides them (compressed-tensors).
    Divides,
    /// Multiplies them (ModelOpt).
    Multiplies,
}

/// Codes `[out, in / 2]`, two a byte, the low half first; E4M3 scales `[out, in / 16]`.
///
/// Value `(r, c)` is `E2M1[code] * (scale[r, c / 16] / global)`, or `.. * global`.
#[derive(Debug)]
pub struct Nvfp4 {
    /// The bytes.
    pub codes: Stored,
    /// One a group.
    pub scales: Grid,
    /// One float32.
    pub global: Stored,
    /// What it does.
    pub does: Global,
    /// Values of a line.
    pub inputs: usize,
}

impl Nvfp4 {
    /// The encoding, and the shape of what it encodes; `name` is the tensor's.
    pub(in crate::model::weights) fn new(
        name: &str,
        codes: Stored,
        scales: Stored,
        global: Stored,
        does: Global,
    ) -> Result<(Self, Vec<usize>)> {
        let damaged = |part: &Stored, expected: &str| {
            part.error(format!(
                "a part of `{name}` is {:?} of {:?}, expected {expected}",
                part.dtype(),
                part.shape()
            ))
            .remedy(super::DAMAGED)
        };
        let &[outputs, half] = codes.shape() else {
            return Err(damaged(&codes, "bytes of a matrix"));
        };
        if codes.dtype() != Dtype::U8 || !half.is_multiple_of(GROUP / 2) {
            return Err(damaged(&codes, "bytes, eight a group"));
        }
        if global.dtype() != Dtype::F32 || global.bytes().len() != 4 {
            return Err(damaged(&global, "one float32"));
        }
        let shape = vec![outputs, 2 * half];
        let scales = Grid::new(name, "scales", scales, &shape, Blocks::Of(1, GROUP))?;
        if scales.number != GridNumber::E4M3 {
            return Err(damaged(&scales.stored, "FP8 E4M3"));
        }
        let encoding = Self {
            codes,
            scales,
            global,
            does,
            inputs: 2 * half,
        };
        Ok((encoding, shape))
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        vec![&self.codes, &self.scales.stored, &self.global]
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let size = self.inputs / 2;
        let row = &self.codes.bytes()[line * size..(line + 1) * size];
        let number = self.scales.line(line);
        let global = f32::from_bits(super::numbers::load(self.global.bytes(), 0));
        let mut at = 0;
        while at < out.len() {
            let group = (first + at) / GROUP;
            let end = out.len().min((group + 1) * GROUP - first);
            let scale = self.scales.value(number + group);
            let scale = match self.does {
                Global::Divides => scale / global,
                Global::Multiplies => scale * global,
            };
            let part = &mut out[at..end];
            halves(row, first + at, Halves::LowFirst, &E2M1, scale, part);
            at = end;
        }
    }
}
