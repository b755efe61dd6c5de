//! Rotary position embedding.
#![forbid(unsafe_code)]

use super::{Rows, Tensors};
use crate::{error::Result, model::rope::RopeTable};

/// Which part of each head to rotate, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Width of a head.
    pub head_dim: usize,
    /// First rotated dimension.
    pub first: usize,
    /// Positions from one row to the next.
    pub step: usize,
    /// The other way around: undoes what the same without it does.
    pub back: bool,
}

impl Rotation {
    /// Of the dimensions from `first` on, a position a row.
    pub fn new(head_dim: usize, first: usize) -> Self {
        Self {
            head_dim,
            first,
            step: 1,
            back: false,
        }
    }

    /// Of rows that are so many positions apart.
    #[must_use]
    pub fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }

    /// The other way around.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            back: !self.back,
            ..self
        }
    }
}

/// Rotation of heads by position.
pub trait Rotations: Tensors {
    /// Rotates `2 * table.pairs()` dimensions of every head; the position of a row is its distance
    /// from its sequence's first row, times the rotation's step. Sequences have a table each and follow
    /// each other.
    fn rotate(
        &self,
        x: &mut Self::Tensor,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()>;
    /// The first and the second of three tensors that lie side by side, of these widths, rotated so, and the
    /// third as it is: [`Rotations::rotate`] and what takes them apart in one pass, with the same bits.
    fn split_rotated(
        &self,
        joined: &Self::Tensor,
        widths: [usize; 3],
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<[Self::Tensor; 3]>;
}
