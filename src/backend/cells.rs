//! Single values, by row and dimension.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::error::Result;

/// What becomes of a single value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It becomes this, whatever it was.
    Set(f32),
    /// It is multiplied by this.
    Scale(f32),
}

/// Reading and changing single values.
pub trait Cells: Tensors {
    /// The values at (row, dimension), in the order of `cells`.
    fn values_at(&self, x: &Self::Tensor, cells: &[(usize, usize)]) -> Result<Vec<f32>>;
    /// Changes the values at (row, dimension), each named once.
    fn overwrite(&self, x: &mut Self::Tensor, cells: &[(usize, usize, Change)]) -> Result<()>;
}
