//! Gated delta nets.
#![forbid(unsafe_code)]

use super::Convolution;
use crate::model::spec::{Activation, Linear, Norm, Vector};

/// A linear recurrence whose state is corrected towards each token's value (Yang et al. 2024, arXiv
/// 2412.06464; with a decay per key channel Kimi Linear, 2025, arXiv 2510.26692):
///
/// ```text
/// q, k, v = convolutions of projections of x      o = delta rule(q, k, v, decay(x), beta(x))
/// out(norm(o) * gate_activation(gate(x)))
/// ```
///
/// The rule itself is [`Recurrences::delta_rule`](crate::backend::Recurrences::delta_rule).
#[derive(Debug, Clone)]
pub struct GatedDelta {
    /// Heads of queries and keys, each serving as many heads of values as the others.
    pub key_heads: usize,
    /// Heads of values, each with a state.
    pub heads: usize,
    /// Width of a query or key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// To `key_heads * key_dim`.
    pub q: Linear,
    /// To `key_heads * key_dim`.
    pub k: Linear,
    /// To `heads * value_dim`.
    pub v: Linear,
    /// Of queries, keys and values.
    pub convolutions: [Convolution; 3],
    /// What the state is multiplied by, before its softplus: to `heads`, or `heads * key_dim`.
    pub decay: Narrowed,
    /// A decay for every key channel, not one a head.
    pub per_channel: bool,
    /// How far the state is corrected, before its sigmoid: to `heads`.
    pub beta: Linear,
    /// Factor on that sigmoid.
    pub beta_scale: f32,
    /// `[heads]`: logarithm of the decay's rate.
    pub a_log: Vector,
    /// Added to `decay`.
    pub dt_bias: Vector,
    /// Of each head's output.
    pub norm: Norm,
    /// To `heads * value_dim`.
    pub gate: Narrowed,
    /// On the gate.
    pub gate_activation: Activation,
    /// To the residual stream.
    pub out: Linear,
}

impl GatedDelta {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut linears = vec![&self.q, &self.k, &self.v, &self.beta];
        linears.extend(self.decay.linears());
        linears.extend(self.gate.linears());
        linears.push(&self.out);
        linears
    }

    pub(super) fn vectors(&self) -> Vec<&Vector> {
        let filters = self.convolutions.iter().flat_map(Convolution::vectors);
        [&self.a_log, &self.dt_bias]
            .into_iter()
            .chain(filters)
            .collect()
    }

    /// Whether its sizes fit together.
    pub fn fits(&self) -> bool {
        let (keys, values) = (self.key_heads * self.key_dim, self.heads * self.value_dim);
        let decays = self.heads * if self.per_channel { self.key_dim } else { 1 };
        self.heads.is_multiple_of(self.key_heads.max(1))
            && keys != 0
            && values != 0
            && [&self.q, &self.k]
                .iter()
                .all(|linear| linear.out_features == keys)
            && self.v.out_features == values
            && self.beta.out_features == self.heads
            && self.decay.last.out_features == decays
            && self.gate.last.out_features == values
            && self.out.in_features == values
    }
}

/// A projection, perhaps through a narrow middle without a norm.
#[derive(Debug, Clone)]
pub struct Narrowed {
    /// To the middle.
    pub first: Option<Linear>,
    /// From the middle, or from the input.
    pub last: Linear,
}

impl Narrowed {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.first.iter().chain([&self.last])
    }
}

impl From<Linear> for Narrowed {
    fn from(last: Linear) -> Self {
        Self { first: None, last }
    }
}
