//! The selective scan of Mamba.
#![forbid(unsafe_code)]

use super::Convolution;
use crate::model::spec::{Linear, Norm, Vector};

/// `out(selective_scan(x, up(step), b, c) * silu(gate))`, where `x` is a convolved projection of the input,
/// `gate` a projection, and `step`, `b` and `c` are projections of `x`, perhaps normalised (Gu & Dao 2023;
/// transformers `modeling_mamba.py`, `MambaMixer`). Where there are several heads, each does so with the
/// channels of its own, and what they make stands side by side (`modeling_zamba.py`, `ZambaMambaMixer`).
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
    /// Equal groups of neighbouring channels, all of them together.
    pub heads: Vec<ScanHead>,
    /// To the residual stream.
    pub out: Linear,
}

/// What neighbouring channels have of their own.
#[derive(Debug, Clone)]
pub struct ScanHead {
    /// From the channels to the narrow middle of the step sizes.
    pub step: Linear,
    /// From there to the channels, without its bias, which is `dt_bias`.
    pub up: Linear,
    /// From the channels to `state`: what of a token enters the state.
    pub b: Linear,
    /// From the channels to `state`: what a token reads of the state.
    pub c: Linear,
    /// Norms of `step`, `b` and `c`.
    pub norms: Option<[Norm; 3]>,
    /// `[channels, state]`
    pub a_log: Vector,
    /// `[channels]`
    pub dt_bias: Vector,
    /// `[channels]`
    pub d: Vector,
}

impl SelectiveScan {
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut linears = vec![&self.x, &self.gate];
        for head in &self.heads {
            linears.extend([&head.step, &head.up, &head.b, &head.c]);
        }
        linears.push(&self.out);
        linears
    }

    pub(super) fn norms(&self) -> Vec<&Norm> {
        let heads = self.heads.iter();
        heads.flat_map(|head| head.norms.iter().flatten()).collect()
    }

    pub(super) fn norms_mut(&mut self) -> Vec<&mut Norm> {
        let heads = self.heads.iter_mut();
        heads
            .flat_map(|head| head.norms.iter_mut().flatten())
            .collect()
    }

    pub(super) fn vectors(&self) -> Vec<&Vector> {
        let mut vectors = self.convolution.vectors();
        for head in &self.heads {
            vectors.extend([&head.a_log, &head.dt_bias, &head.d]);
        }
        vectors
    }

    /// Whether the heads are all channels.
    pub(super) fn fits(&self) -> bool {
        let channels = self.x.out_features;
        let count = self.heads.len();
        count != 0
            && channels.is_multiple_of(count)
            && self.heads.iter().all(|head| {
                let [own, up] = [head.step.in_features, head.up.out_features];
                own == channels / count && up == own
            })
    }
}
