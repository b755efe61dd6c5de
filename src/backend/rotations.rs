//! Rotary position embedding.
#![forbid(unsafe_code)]

use super::{Rows, Tensors};
use crate::{error::Result, model::rope::RopeTable};

/// Which part of each head to rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Width of a head.
    pub head_dim: usize,
    /// First rotated dimension.
    pub first: usize,
}

/// Rotation of heads by position.
pub trait Rotations: Tensors {
    /// Rotates `2 * table.pairs` dimensions of every head; the position of a row is its distance
    /// from its sequence's first row.
    fn rotate(
        &self,
        x: &mut Self::Tensor,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()>;
}
