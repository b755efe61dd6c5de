//! How numbers are packed: one file an encoding, each from the bytes of a file to float32.
//!
//! Stored codes and scales are widened and multiplied in float32, and nothing is rounded on the way to
//! a type that the checkpoint or its library computes in.

mod adapted;
mod ggml;
mod mxfp4;

pub(super) use adapted::{Adapted, Base};
pub(in crate::model) use adapted::{Factor, LowRank};
pub use ggml::{Ggml, Kind, RowOrder};
pub(super) use mxfp4::Mxfp4;

use super::shard::Stored;

/// What to do about parts that do not fit together.
const DAMAGED: &str = "the checkpoint is damaged, or of a layout that massact does not know; download it again, or take the weights in 16 bits";

/// An encoding, and the tensors that hold its codes, scales and whatever else it needs. They are checked
/// against the shape when it is made, so that decoding cannot fail.
///
/// A packed tensor is a list of *lines* of values. A line is one output's row of a matrix, `[in]`; where
/// the format packs along the other axis it is one input's column, `[out]`.
#[derive(Debug)]
pub enum Encoding {
    /// Blocks of a GGUF file.
    Ggml(Ggml),
    /// Four-bit floats, a power of two for 32 of them.
    Mxfp4(Mxfp4),
    /// Another, or none, and what an adapter adds to it.
    Adapted(Adapted),
}

impl Encoding {
    /// Its name, as `MXFP4`.
    pub fn name(&self) -> String {
        match self {
            Self::Ggml(own) => own.name(),
            Self::Mxfp4(_) => "MXFP4".to_owned(),
            Self::Adapted(own) => own.name(),
        }
    }

    /// The tensors that it reads, the codes first.
    pub fn parts(&self) -> Vec<&Stored> {
        match self {
            Self::Ggml(own) => own.parts(),
            Self::Mxfp4(own) => own.parts(),
            Self::Adapted(own) => own.parts(),
        }
    }

    /// Whether a line belongs to an input rather than to an output.
    pub fn by_input(&self) -> bool {
        match self {
            Self::Ggml(_) | Self::Mxfp4(_) => false,
            Self::Adapted(own) => own.by_input(),
        }
    }

    /// Values that a line is padded to a multiple of, where the format allows the last ones to mean
    /// nothing.
    pub(super) fn padding(&self) -> usize {
        match self {
            Self::Ggml(_) => 1,
            Self::Mxfp4(_) => mxfp4::BLOCK,
            Self::Adapted(own) => own.padding(),
        }
    }

    /// The values of a line from `first` on, as many as `out` takes.
    pub fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        match self {
            Self::Ggml(own) => own.decode(line, first, out),
            Self::Mxfp4(own) => own.decode(line, first, out),
            Self::Adapted(own) => own.decode(line, first, out),
        }
    }
}
