//! Short causal convolutions over the tokens.
#![forbid(unsafe_code)]

use crate::model::spec::{Activation, Vector};

/// A causal convolution of each channel with its own few taps:
/// `y[t, c] = activation(bias[c] + sum_j weight[c, j] x[t - width + 1 + j, c])`, where `x` is 0 before
/// the sequence's first token.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// `[channels, 1, width]`, as PyTorch's `nn.Conv1d` with a group a channel stores it; in one tensor,
    /// or in several end to end.
    pub weight: Vec<Vector>,
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
            weight: vec![Vector::of_shape(
                format!("{module}.weight"),
                vec![channels, 1, width],
            )],
            bias: biased.then(|| Vector::new(bias, channels)),
            width,
            activation: None,
        }
    }

    /// Of the channels `first..first + channels` of the module.
    #[must_use]
    pub fn part(mut self, first: usize, channels: usize) -> Self {
        let mut start = 0;
        let mut parts = Vec::new();
        for weight in self.weight {
            let (from, end) = (first.max(start), first + channels);
            let until = end.min(start + weight.rows);
            let before = weight.first + from.saturating_sub(start);
            start += weight.rows;
            if from < until {
                parts.push(weight.part(before, until - from));
            }
        }
        self.weight = parts;
        self.bias = self.bias.map(|bias| bias.part(first, channels));
        self
    }

    /// With the channels of another one behind its own; neither has a bias.
    #[must_use]
    pub fn followed_by(mut self, other: Self) -> Self {
        self.weight.extend(other.weight);
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
        self.weight.iter().chain(&self.bias).collect()
    }
}
