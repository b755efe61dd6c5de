//! Short causal convolutions over the tokens.
#![forbid(unsafe_code)]

use crate::model::spec::{Activation, Vector};

/// A causal convolution of each channel with its own few taps:
/// `y[t, c] = activation(bias[c] + sum_j weight[c, j] x[t - width + 1 + j, c])`, where `x` is 0 before
/// the sequence's first token.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// `[channels, 1, width]`, as PyTorch's `nn.Conv1d` with a group a channel stores it.
    pub weight: Vector,
    /// `[channels]`
    pub bias: Option<Vector>,
    /// Taps, the last of them at the token itself.
    pub width: usize,
    /// On the sum.
    pub activation: Option<Activation>,
}

impl Convolution {
    /// Of all channels of a module.
    pub fn new(module: &str, channels: usize, width: usize, biased: bool) -> Self {
        let bias = format!("{module}.bias");
        Self {
            weight: Vector::of_shape(format!("{module}.weight"), vec![channels, 1, width]),
            bias: biased.then(|| Vector::new(bias, channels)),
            width,
            activation: None,
        }
    }

    /// Of the channels `first..first + channels` of the module.
    #[must_use]
    pub fn part(mut self, first: usize, channels: usize) -> Self {
        self.weight = self.weight.part(first, channels);
        self.bias = self.bias.map(|bias| bias.part(first, channels));
        self
    }

    /// With a nonlinearity behind it.
    #[must_use]
    pub fn activated(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// What it has learned.
    pub fn vectors(&self) -> Vec<&Vector> {
        [&self.weight].into_iter().chain(&self.bias).collect()
    }
}
