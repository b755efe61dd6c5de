//! Eight-bit floats and integers, a scale a block.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::{
    grid::{Blocks, Grid},
    numbers::{E4M3, E5M2},
};
use crate::{error::Result, model::weights::shard::Stored};

/// What a byte stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Byte {
    /// FP8 E4M3, the "fn" variant.
    E4M3,
    /// FP8 E5M2.
    E5M2,
    /// int8.
    Int8,
}

/// Codes `[.., out, in]`, a byte each, and scales.
///
/// Value `(r, c)` is `(code - zero) * (scale / divisor)`, scale and zero being those of the block of
/// `(r, c)` ([`Grid`]); without zero points `code * (scale / divisor)`.
#[derive(Debug)]
pub struct EightBits {
    /// The bytes.
    pub codes: Stored,
    /// What they stand for.
    pub byte: Byte,
    /// A float a block.
    pub scales: Grid,
    /// A code a block, of integers only; in the same blocks as the scales.
    pub zeros: Option<Grid>,
    /// What scales are divided by; 1, or 127 in bitsandbytes.
    pub divisor: f32,
    /// Values of a line.
    pub inputs: usize,
}

impl EightBits {
    /// The bytes of the tensor `name`, with scales and perhaps zero points of these blocks.
    pub(in crate::model::weights) fn new(
        name: &str,
        codes: Stored,
        scales: Stored,
        zeros: Option<Stored>,
        blocks: Blocks,
    ) -> Result<Self> {
        let byte = match codes.dtype() {
            Dtype::F8_E4M3 => Byte::E4M3,
            Dtype::F8_E5M2 => Byte::E5M2,
            Dtype::I8 => Byte::Int8,
            dtype => {
                return Err(codes
                    .error(format!(
                        "tensor `{name}` is {dtype:?}, expected FP8 or int8"
                    ))
                    .remedy(super::DAMAGED));
            }
        };
        let shape = codes.shape().to_vec();
        let scales = Grid::new(name, "scales", scales, &shape, blocks)?;
        let zeros = zeros
            .map(|zeros| Grid::new(name, "zero points", zeros, &shape, blocks))
            .transpose()?;
        let whole = zeros
            .as_ref()
            .is_none_or(|zeros| !zeros.is_float() && byte == Byte::Int8);
        if !scales.is_float() || !whole {
            return Err(codes
                .error(format!(
                    "the scales of `{name}` are no floats, or its zero points no int8 beside int8"
                ))
                .remedy(super::DAMAGED));
        }
        Ok(Self {
            inputs: shape.last().copied().unwrap_or_default(),
            codes,
            byte,
            scales,
            zeros,
            divisor: 1.0,
        })
    }

    /// With scales that are to be divided by this.
    #[must_use]
    pub(in crate::model::weights) fn divided_by(self, divisor: f32) -> Self {
        Self { divisor, ..self }
    }

    pub(super) fn name(&self) -> String {
        let byte = match self.byte {
            Byte::E4M3 => "FP8 E4M3",
            Byte::E5M2 => "FP8 E5M2",
            Byte::Int8 => "int8",
        };
        format!("{byte} {}", self.scales.blocks())
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        let zeros = self.zeros.iter().map(|zeros| &zeros.stored);
        [&self.codes, &self.scales.stored]
            .into_iter()
            .chain(zeros)
            .collect()
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let start = line * self.inputs + first;
        let codes = &self.codes.bytes()[start..start + out.len()];
        let block = self.scales.block_columns;
        let number = self.scales.line(line);
        let mut at = 0;
        while at < out.len() {
            let column = (first + at) / block;
            let end = out.len().min((column + 1) * block - first);
            let scale = self.scales.value(number + column) / self.divisor;
            let zero = self.zeros.as_ref();
            let zero = zero.map_or(0.0, |zeros| zeros.value(number + column));
            let pairs = out[at..end].iter_mut().zip(&codes[at..end]);
            match self.byte {
                Byte::E4M3 => {
                    pairs.for_each(|(value, &code)| *value = E4M3[usize::from(code)] * scale)
                }
                Byte::E5M2 => {
                    pairs.for_each(|(value, &code)| *value = E5M2[usize::from(code)] * scale)
                }
                Byte::Int8 => pairs.for_each(|(value, &code)| {
                    *value = (f32::from(code as i8) - zero) * scale;
                }),
            }
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::shard::in_memory;

    #[test]
    fn blocks_zeros_and_parts_of_lines() {
        let codes = in_memory(Dtype::I8, &[2, 5], vec![1, 2, 3, 4, 5, 6, 255, 8, 9, 10]);
        let scales = [1f32, 2.0, 4.0, 8.0, 16.0, 32.0];
        let scales = scales.iter().flat_map(|scale| scale.to_le_bytes());
        let scales = in_memory(Dtype::F32, &[2, 3], scales.collect());
        let zeros = in_memory(Dtype::I8, &[2, 3], vec![0, 1, 0, 2, 0, 255]);
        let encoding = EightBits::new("x", codes, scales, Some(zeros), Blocks::Of(1, 2));
        let encoding = encoding.expect("fits");
        let mut out = [7.0; 5];
        encoding.decode(0, 0, &mut out);
        assert_eq!(out, [1.0, 2.0, 4.0, 6.0, 20.0]);
        encoding.decode(1, 1, &mut out[..4]);
        assert_eq!(out[..4], [-24.0, 128.0, 144.0, 352.0]);
    }
}
