//! Moving and joining rows.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::Tensors;
use crate::error::Result;

/// Rows by number, and heads that share a part.
pub trait RowOperations: Tensors {
    /// The rows `rows` of `x`, in this order.
    fn gather_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;
    /// Writes the rows of `x` over those of `out` from row `first` on; both are of one type.
    fn put_rows(&self, out: &mut Self::Tensor, first: usize, x: &Self::Tensor) -> Result<()>;

    /// The neighbouring columns `columns` of `x`.
    fn gather_columns(&self, x: &Self::Tensor, columns: Range<usize>) -> Result<Self::Tensor>;
    /// Adds row `i` of `x` times value `i` of `factors`, `[rows, 1]`, to row `i` of `out`.
    fn add_scaled(
        &self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        factors: &Self::Tensor,
    ) -> Result<()>;
    /// Multiplies row `i` of `x` by value `i` of `factors`, `[rows]`.
    fn scale_rows(&self, x: &mut Self::Tensor, factors: &Self::Vector) -> Result<()>;
    /// Every head of `own` (there are `heads`) followed by the one head `shared`.
    fn join_heads(
        &self,
        own: &Self::Tensor,
        shared: &Self::Tensor,
        heads: usize,
    ) -> Result<Self::Tensor>;
}
