//! Several residual streams a token, that hyper-connections mix.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::error::Result;

/// How [`Streams::stream_weights`] makes weights of a token's products.
#[derive(Debug)]
pub struct StreamRequest<'a, V> {
    /// Streams of a token, at most [`crate::model::spec::MOST_STREAMS`].
    pub count: usize,
    /// `[columns]`
    pub base: &'a V,
    /// `[kinds]`
    pub scale: &'a V,
    /// Times that columns are divided by their sums, at least one.
    pub iterations: usize,
    /// Added to what must not vanish.
    pub epsilon: f32,
}

/// Streams of a token lie one behind the other in its row.
pub trait Streams: Tensors {
    /// `count` streams, each of them a copy of `x`.
    fn spread(&self, x: &Self::Tensor, count: usize) -> Result<Self::Tensor>;
    /// Turns a token's products into weights, in place, by the formulas of
    /// [`crate::model::spec::StreamWeights`]: into N, or into N, N and N x N.
    fn stream_weights(
        &self,
        products: &mut Self::Tensor,
        request: &StreamRequest<'_, Self::Vector>,
    ) -> Result<()>;
    /// `sum_n w_n x_n` of `count` streams, with the first of a token's `weights`, or without any.
    fn collapse(
        &self,
        x: &Self::Tensor,
        count: usize,
        weights: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Stream n becomes `post_n y + sum_m mix_mn x_m`; `weights` are N which play no part, then `post`,
    /// then `mix` row by row.
    fn mix_streams(
        &self,
        x: &Self::Tensor,
        y: &Self::Tensor,
        weights: &Self::Tensor,
    ) -> Result<Self::Tensor>;
}
