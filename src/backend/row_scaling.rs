//! Scaling of rows by their own statistics, and of columns by a vector, in place.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::error::Result;

/// Operations whose factors are found in the rows, or are one a column.
pub trait RowScaling: Tensors {
    /// `x *= rms(like) / sqrt(max(mean(x^2), floor))`, row by row; both are for the same target.
    fn match_magnitude(&self, x: &mut Self::Tensor, like: &Self::Tensor, floor: f32) -> Result<()>;
    /// `x = max(x - (mean + deviations * sigma), 0)`, with mean and standard deviation of each row.
    fn keep_largest(&self, x: &mut Self::Tensor, deviations: f32) -> Result<()>;
    /// `x[:, c] *= factors[c]`
    fn multiply_columns(&self, x: &mut Self::Tensor, factors: &Self::Vector) -> Result<()>;
}
