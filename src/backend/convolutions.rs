//! Short causal convolutions over tokens.
#![forbid(unsafe_code)]

use super::{Rows, Tensors};
use crate::{error::Result, model::spec::Activation};

/// Taps of a causal convolution, on the device.
#[derive(Debug)]
pub struct Filter<V> {
    /// Taps a channel, the last of them at the token itself.
    pub width: usize,
    /// `[channels, width]`
    pub weight: V,
    /// `[channels]`
    pub bias: Option<V>,
    /// On the sum.
    pub activation: Option<Activation>,
}

/// Convolutions of each channel with its own taps.
pub trait Convolutions: Tensors {
    /// `y[t, c] = activation(bias[c] + sum_j weight[c, j] x[t - width + 1 + j, c])` within each
    /// sequence; `x` is 0 before its first token. For the same part of a layer.
    fn convolve(
        &self,
        x: &Self::Tensor,
        sequences: &[Rows],
        filter: &Filter<Self::Vector>,
    ) -> Result<Self::Tensor>;
}
