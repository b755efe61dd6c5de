//! bitsandbytes' four bits: codes of a table in blocks that run over the flattened matrix.
#![forbid(unsafe_code)]

use safetensors::Dtype;

use super::{
    gptq::misfit,
    numbers::{Halves, halves, load},
};
use crate::{error::Result, model::weights::shard::Stored};

/// Codes, two a byte, the high half first, of the flattened matrix.
///
/// Value `i` of the flattened matrix is `table[code] * absmax[i / block]`.
#[derive(Debug)]
pub struct Blockwise {
    /// The bytes, whatever type they are declared with.
    pub codes: Stored,
    /// What a code stands for: 16 float32.
    pub table: Stored,
    /// One a block.
    pub absmax: Absmax,
    /// Values of a block.
    pub block: usize,
    /// Values of a line.
    pub inputs: usize,
    kind: &'static str,
}

/// The largest magnitude of every block.
#[derive(Debug)]
pub enum Absmax {
    /// float32.
    Plain(Stored),
    /// Codes of another table: that of block `b` is
    /// `table[codes[b]] * absmax[b / block] + offset`.
    Nested {
        /// A byte a block.
        codes: Stored,
        /// What a byte stands for: 256 float32.
        table: Stored,
        /// A float32 for `block` blocks.
        absmax: Stored,
        /// Blocks that share one.
        block: usize,
        /// Their mean.
        offset: f32,
    },
}

/// The numbers that describe blocks: the shape `[out, in]`, and the values of a block.
#[derive(Debug, Clone, Copy)]
pub(in crate::model::weights) struct Layout {
    pub(in crate::model::weights) shape: [usize; 2],
    pub(in crate::model::weights) block: usize,
    /// `NF4` or `FP4`.
    pub(in crate::model::weights) kind: &'static str,
}

impl Blockwise {
    /// The tensor `name`; blocks have at least one value.
    pub(in crate::model::weights) fn new(
        name: &str,
        codes: Stored,
        table: Stored,
        absmax: Absmax,
        layout: Layout,
    ) -> Result<Self> {
        let Layout { shape, block, kind } = layout;
        let [outputs, inputs] = shape;
        let count = outputs.checked_mul(inputs).filter(|count| *count > 0);
        let Some(count) = count.filter(|count| codes.bytes().len() == count.div_ceil(2)) else {
            let expected = format!("two codes a byte for {shape:?}");
            return Err(misfit(name, "codes", &codes, &expected));
        };
        let floats = |what: &str, part: &Stored, count: usize| {
            if part.dtype() == Dtype::F32 && part.bytes().len() == 4 * count {
                return Ok(());
            }
            Err(misfit(name, what, part, &format!("{count} float32")))
        };
        floats("table", &table, 16)?;
        let blocks = count.div_ceil(block.max(1));
        match &absmax {
            Absmax::Plain(stored) => floats("scales", stored, blocks)?,
            Absmax::Nested {
                codes,
                table,
                absmax,
                block,
                ..
            } => {
                if codes.dtype() != Dtype::U8 || codes.bytes().len() != blocks {
                    let expected = format!("{blocks} bytes");
                    return Err(misfit(name, "scales", codes, &expected));
                }
                floats("scales' table", table, 256)?;
                floats("scales' scales", absmax, blocks.div_ceil((*block).max(1)))?;
            }
        }
        Ok(Self {
            codes,
            table,
            absmax,
            block: block.max(1),
            inputs,
            kind,
        })
    }

    pub(super) fn name(&self) -> String {
        format!("{} in blocks of {}", self.kind, self.block)
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        let mut parts = vec![&self.codes, &self.table];
        match &self.absmax {
            Absmax::Plain(stored) => parts.push(stored),
            Absmax::Nested {
                codes,
                table,
                absmax,
                ..
            } => parts.extend([codes, table, absmax]),
        }
        parts
    }

    #[inline(always)]
    fn scale(&self, index: usize) -> f32 {
        let float = |stored: &Stored, index: usize| f32::from_bits(load(stored.bytes(), index));
        match &self.absmax {
            Absmax::Plain(stored) => float(stored, index),
            Absmax::Nested {
                codes,
                table,
                absmax,
                block,
                offset,
            } => {
                let code = usize::from(codes.bytes()[index]);
                float(table, code) * float(absmax, index / (*block).max(1)) + offset
            }
        }
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        let mut table = [0.0f32; 16];
        for (index, value) in table.iter_mut().enumerate() {
            *value = f32::from_bits(load(self.table.bytes(), index));
        }
        let codes = self.codes.bytes();
        let start = line * self.inputs + first;
        let mut at = 0;
        while at < out.len() {
            let index = (start + at) / self.block;
            let end = out.len().min((index + 1) * self.block - start);
            let scale = self.scale(index);
            let part = &mut out[at..end];
            halves(codes, start + at, Halves::HighFirst, &table, scale, part);
            at = end;
        }
    }
}
