//! Token mixers that carry a state from token to token: their cost is linear in the tokens.
#![forbid(unsafe_code)]

mod delta;
mod selective_scan;
mod state_space;

pub use delta::DeltaRequest;
pub use selective_scan::SelectiveScanRequest;
pub use state_space::StateSpaceRequest;

use super::{Rows, Tensors};
use crate::error::Result;

/// Token mixers whose state has a size of its own, whatever the number of tokens.
///
/// They take raw projections and compute decays and gates in float32, whatever type tensors have:
/// rounding a decay near 1 to 16 bits would change how far back a head remembers.
pub trait Recurrences: Tensors {
    /// The gated delta rule (Yang et al. 2024, arXiv 2412.06464), `o [rows, heads * value_dim]`.
    ///
    /// `q`, `k` `[rows, key_heads * key_dim]`, `v` `[rows, heads * value_dim]`, `decay` and `beta` the
    /// raw projections `a` and `b`, `[rows, heads]` (`decay` `[rows, heads * key_dim]` where
    /// [`DeltaRequest::per_channel`]). Of each sequence and head from `S = 0`, `S [key_dim, value_dim]`:
    ///
    /// ```text
    /// q, k = l2(q) / sqrt(key_dim), l2(k)      l2(x) = x / sqrt(sum x^2 + 1e-6)
    /// g = -exp(a_log) softplus(a + dt_bias)    beta = beta_scale sigmoid(b)
    /// S *= exp(g)
    /// S += k (beta (v - S^T k))^T
    /// o = S^T q
    /// ```
    #[allow(clippy::too_many_arguments)]
    fn delta_rule(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        decay: &Self::Tensor,
        beta: &Self::Tensor,
        sequences: &[Rows],
        request: &DeltaRequest<'_, Self::Vector>,
    ) -> Result<Self::Tensor>;

    /// Mamba-2 (Dao & Gu 2024): `y`, `[rows, heads * head_dim]`, of `x`, as large, of `b` and `c`,
    /// `[rows, groups * state]`, and of `dt`, `[rows, heads]`, as the projection made it. For each head,
    /// whose state `S` is `[head_dim, state]`:
    ///
    /// `dt = clamp(softplus(dt + dt_bias)); S = S exp(-exp(a_log) dt) + dt x b^T; y = S c + d x`
    fn state_space(
        &self,
        x: &Self::Tensor,
        b: &Self::Tensor,
        c: &Self::Tensor,
        dt: &Self::Tensor,
        sequences: &[Rows],
        request: &StateSpaceRequest<'_, Self::Vector>,
    ) -> Result<Self::Tensor>;

    /// Mamba (Gu & Dao 2023): `y`, `[rows, inner]`, of `x` and `dt`, as large, and of `b` and `c`,
    /// `[rows, state]`. For each channel, whose state `S` is `[state]`:
    ///
    /// `dt = softplus(dt + dt_bias); S = S exp(-exp(a_log) dt) + dt x b; y = S . c + d x`
    fn selective_scan(
        &self,
        x: &Self::Tensor,
        dt: &Self::Tensor,
        b: &Self::Tensor,
        c: &Self::Tensor,
        sequences: &[Rows],
        request: &SelectiveScanRequest<'_, Self::Vector>,
    ) -> Result<Self::Tensor>;
}
