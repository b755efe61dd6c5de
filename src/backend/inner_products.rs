//! Products of rows with each other, from which norms and angles follow.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::error::Result;

/// Inner products.
pub trait InnerProducts: Tensors {
    /// For each row and each of `parts` equal parts of the columns the sum of `a * b`, in float64:
    /// `[rows, parts]`, brought to the host. Both tensors are for the same target.
    fn inner_products(&self, a: &Self::Tensor, b: &Self::Tensor, parts: usize) -> Result<Vec<f64>>;
}
