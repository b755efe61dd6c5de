//! The selective scan of Mamba.
#![forbid(unsafe_code)]

use super::Convolution;
use crate::model::spec::{Linear, Norm, Vector};

/// `out(selective_scan(x, up(step), b, c) * silu(gate))`, where `x` is a convolved projection of the input,
/// `gate` a projection, and `step`, `b` and `c` are projections of `x`, perhaps normalised (Gu & Dao 2023;
/// transformers `modeling_mamba.py`, `MambaMixer`).
#[derive(Debug, Clone)]
pub struct SelectiveScan {
    /// Numbers that are kept of each channel.
    pub state: usize,
    /// To the channels.
    pub x: Linear,
    /// To the channels.
    pub gate: Linear,
    /// Of `x`.
    pub convolution: Convolution,
    /// From `x` to the narrow middle of the step sizes.
    pub step: Linear,
    /// From there to the channels, without its bias, which is `dt_bias`.
    pub up: Linear,
    /// From `x` to `state`: what of a token enters the state.
    pub b: Linear,
    /// From `x` to `state`: what a token reads of the state.
    pub c: Linear,
    /// Norms of `step`, `b` and `c`.
    pub norms: Option<[Norm; 3]>,
    /// `[channels, state]`
    pub a_log: Vector,
    /// `[channels]`
    pub dt_bias: Vector,
    /// `[channels]`
    pub d: Vector,
    /// To the residual stream.
    pub out: Linear,
}

impl SelectiveScan {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        vec![
            &self.x, &self.gate, &self.step, &self.up, &self.b, &self.c, &self.out,
        ]
    }

    pub(super) fn vectors(&self) -> Vec<&Vector> {
        let mut vectors = self.convolution.vectors();
        vectors.extend([&self.a_log, &self.dt_bias, &self.d]);
        vectors
    }
}
