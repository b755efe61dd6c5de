//! How numbers are packed: one file an encoding, each from the bytes of a file to float32.
//!
//! Stored codes and scales are widened and multiplied in float32, and nothing is rounded on the way to
//! a type that the checkpoint or its library computes in.

mod adapted;
mod awq;
mod blockwise;
mod eight_bits;
mod ggml;
mod gptq;
mod grid;
mod int_rows;
mod mxfp4;
mod numbers;
mod nvfp4;
mod random;
mod zeroed;

use safetensors::Dtype;

pub use awq::Awq;
pub use blockwise::{Absmax, Blockwise};
pub use eight_bits::{Byte, EightBits};
pub use ggml::{Ggml, Kind, RowOrder};
pub use gptq::Gptq;
pub use grid::{Grid, GridNumber};
pub use int_rows::{IntRows, RowZeros};
pub use mxfp4::Mxfp4;
pub use nvfp4::{Global, Nvfp4};
pub use random::Random;

pub(super) use adapted::{Adapted, Base};
pub(in crate::model) use adapted::{Factor, LowRank};
pub(super) use blockwise::Layout;
pub(super) use gptq::GptqParts;
pub(super) use grid::Blocks;
pub(super) use int_rows::IntRowsParts;
pub(super) use zeroed::Zeroed;

use super::shard::Stored;
use crate::error::Result;

/// What to do about parts that do not fit together.
pub(super) const DAMAGED: &str = "the checkpoint is damaged, or of a layout that massact does not know; download it again, or take the weights in 16 bits";

/// An encoding, and the tensors that hold its codes, scales and whatever else it needs. They are checked
/// against the shape when it is made, so that decoding cannot fail.
///
/// A packed tensor is a list of *lines* of values. A line is one output's row of a matrix, `[in]`; where
/// the format packs along the other axis it is one input's column, `[out]`.
#[derive(Debug)]
pub enum Encoding {
    /// Four-bit integers of AWQ.
    Awq(Awq),
    /// Four-bit codes of bitsandbytes.
    Blockwise(Blockwise),
    /// Eight-bit floats or integers.
    EightBits(EightBits),
    /// Integers of GPTQ.
    Gptq(Gptq),
    /// Integers of compressed-tensors.
    IntRows(IntRows),
    /// Blocks of a GGUF file.
    Ggml(Ggml),
    /// Four-bit floats, a power of two for 32 of them.
    Mxfp4(Mxfp4),
    /// Four-bit floats, an eight-bit float for 16 of them.
    Nvfp4(Nvfp4),
    /// Noise, which is stored nowhere.
    Random(Random),
    /// Another, or none, and what an adapter adds to it.
    Adapted(Adapted),
    /// Another, or none, and some weights that are zero.
    Zeroed(Zeroed),
}

impl Encoding {
    /// Its name, as `MXFP4`.
    pub fn name(&self) -> String {
        match self {
            Self::Awq(own) => own.name(),
            Self::Blockwise(own) => own.name(),
            Self::EightBits(own) => own.name(),
            Self::Gptq(own) => own.name(),
            Self::IntRows(own) => own.name(),
            Self::Ggml(own) => own.name(),
            Self::Mxfp4(_) => "MXFP4".to_owned(),
            Self::Nvfp4(_) => "NVFP4".to_owned(),
            Self::Random(_) => "random".to_owned(),
            Self::Adapted(own) => own.name(),
            Self::Zeroed(own) => own.name(),
        }
    }

    /// The tensors that it reads.
    pub fn parts(&self) -> Vec<&Stored> {
        match self {
            Self::Awq(own) => own.parts(),
            Self::Blockwise(own) => own.parts(),
            Self::EightBits(own) => own.parts(),
            Self::Gptq(own) => own.parts(),
            Self::IntRows(own) => own.parts(),
            Self::Ggml(own) => own.parts(),
            Self::Mxfp4(own) => own.parts(),
            Self::Nvfp4(own) => own.parts(),
            Self::Random(_) => Vec::new(),
            Self::Adapted(own) => own.parts(),
            Self::Zeroed(own) => own.parts(),
        }
    }

    /// Whether a line belongs to an input rather than to an output.
    pub fn by_input(&self) -> bool {
        match self {
            Self::Awq(_) | Self::Gptq(_) => true,
            Self::Adapted(own) => own.by_input(),
            Self::Zeroed(own) => own.by_input(),
            _ => false,
        }
    }

    /// Values that a line is padded to a multiple of, where the format allows the last ones to mean
    /// nothing.
    pub(super) fn padding(&self) -> usize {
        match self {
            Self::Mxfp4(_) => mxfp4::BLOCK,
            Self::Adapted(own) => own.padding(),
            Self::Zeroed(own) => own.padding(),
            _ => 1,
        }
    }

    /// The values of a line from `first` on, as many as `out` takes.
    pub fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        match self {
            Self::Awq(own) => own.decode(line, first, out),
            Self::Blockwise(own) => own.decode(line, first, out),
            Self::EightBits(own) => own.decode(line, first, out),
            Self::Gptq(own) => own.decode(line, first, out),
            Self::IntRows(own) => own.decode(line, first, out),
            Self::Ggml(own) => own.decode(line, first, out),
            Self::Mxfp4(own) => own.decode(line, first, out),
            Self::Nvfp4(own) => own.decode(line, first, out),
            Self::Random(own) => own.decode(line, first, out),
            Self::Adapted(own) => own.decode(line, first, out),
            Self::Zeroed(own) => own.decode(line, first, out),
        }
    }
}

/// The name of integers of which so many of `inputs` share a scale.
fn integers(bits: usize, group: usize, inputs: usize) -> String {
    let blocks = if group == inputs {
        Blocks::Outputs
    } else {
        Blocks::Of(1, group)
    };
    format!("int{bits} {blocks}")
}

/// Refuses groups that do not divide the inputs of the tensor `name`.
fn refuse_uneven(name: &str, part: &Stored, inputs: usize, blocks: Blocks) -> Result<()> {
    match blocks {
        Blocks::Of(1, size) if size == 0 || !inputs.is_multiple_of(size) => Err(part
            .error(format!(
                "groups of {size} do not divide the {inputs} inputs of `{name}`"
            ))
            .remedy(DAMAGED)),
        _ => Ok(()),
    }
}

/// Checks scales `[groups, out]` of the tensor `name`, groups of `group` inputs; says how many groups.
fn check_scales(
    name: &str,
    scales: &Stored,
    (inputs, outputs): (usize, usize),
    group: usize,
) -> Result<usize> {
    refuse_uneven(name, scales, inputs, Blocks::Of(1, group))?;
    let count = inputs / group;
    if scales.elements().is_none() || scales.shape() != [count, outputs] || count == 0 {
        let expected = format!("floats of [{count}, {outputs}]");
        return Err(gptq::misfit(name, "scales", scales, &expected));
    }
    Ok(count)
}

/// Checks the groups `[in]` of the inputs of the tensor `name`, of which there are `count`.
fn check_groups(name: &str, groups: &Stored, inputs: usize, count: usize) -> Result<()> {
    if groups.dtype() != Dtype::I32 || groups.shape() != [inputs] {
        let expected = format!("I32 of [{inputs}]");
        return Err(gptq::misfit(name, "groups", groups, &expected));
    }
    let words = groups.bytes().as_chunks::<4>().0.iter();
    let mut numbers = words.map(|word| i32::from_le_bytes(*word));
    match numbers.find(|group| usize::try_from(*group).map_or(true, |group| group >= count)) {
        None => Ok(()),
        Some(group) => Err(groups
            .error(format!(
                "an input of `{name}` is of group {group}, and it has {count}"
            ))
            .remedy(DAMAGED)),
    }
}
