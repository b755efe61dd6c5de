//! Weights and products with them.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Target, Tensors};
use crate::{
    error::Result,
    model::weights::{MatrixView, WeightMatrix},
};

/// Matrix products.
pub trait Products: Tensors {
    /// Makes a weight usable.
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Self::Matrix<'w>>;
    /// Several weights as one, whose outputs follow each other; none where that gains nothing or they do not
    /// lie alike.
    fn joined<'w>(&self, _weights: &[MatrixView<'w>]) -> Result<Option<Self::Matrix<'w>>> {
        Ok(None)
    }
    /// `x W^T + b`: `[rows, in] -> [rows, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Matrix<'_>,
        bias: Option<&Self::Vector>,
        target: Target,
    ) -> Result<Self::Tensor>;
    /// `x W[:, inputs]^T`: `[rows, inputs] -> [rows, out]`, what some neighbouring inputs of a weight give.
    fn linear_of(
        &self,
        x: &Self::Tensor,
        weight: &Self::Matrix<'_>,
        inputs: Range<usize>,
        target: Target,
    ) -> Result<Self::Tensor>;
}
