//! The state space layer of Mamba-2.
#![forbid(unsafe_code)]

use super::Convolution;
use crate::model::spec::{Linear, Norm, Vector};

/// `out(norm(state_space(x, b, c, dt) * silu(gate)))`, where `x`, `b` and `c` are convolved projections of
/// the input, and `gate` and `dt` projections (Dao & Gu 2024; transformers `modeling_mamba2.py`,
/// `Mamba2Mixer`).
#[derive(Debug, Clone)]
pub struct StateSpace {
    /// Heads, each with a decay of its own.
    pub heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Groups of heads, which share `b` and `c`.
    pub groups: usize,
    /// Numbers that are kept of each value.
    pub state: usize,
    /// To `heads * head_dim`.
    pub gate: Linear,
    /// To `heads * head_dim`.
    pub x: Linear,
    /// To `groups * state`: what of a token enters the state.
    pub b: Linear,
    /// To `groups * state`: what a token reads of the state.
    pub c: Linear,
    /// To `heads`: step sizes.
    pub dt: Linear,
    /// Of `x`, `b` and `c`.
    pub convolutions: [Convolution; 3],
    /// `[heads]`
    pub a_log: Vector,
    /// `[heads]`
    pub dt_bias: Vector,
    /// `[heads]`
    pub d: Vector,
    /// Least and greatest step size.
    pub dt_limits: (f32, f32),
    /// Of the output, in groups; before or behind its gate.
    pub norm: Option<Norm>,
    /// Whether the norm comes before the gate.
    pub norm_first: bool,
    /// To the residual stream.
    pub out: Linear,
}

impl StateSpace {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        vec![&self.gate, &self.x, &self.b, &self.c, &self.dt, &self.out]
    }

    pub(super) fn vectors(&self) -> Vec<&Vector> {
        let convolutions = self.convolutions.iter();
        let mut vectors: Vec<&Vector> = convolutions.flat_map(Convolution::vectors).collect();
        vectors.extend([&self.a_log, &self.dt_bias, &self.d]);
        vectors
    }

    /// Whether its numbers fit together.
    pub(super) fn fits(&self) -> bool {
        let (inner, shared) = (self.heads * self.head_dim, self.groups * self.state);
        inner != 0
            && shared != 0
            && self.heads.is_multiple_of(self.groups)
            && self
                .norm
                .as_ref()
                .is_none_or(|norm| norm.width != 0 && inner.is_multiple_of(norm.width))
    }
}
