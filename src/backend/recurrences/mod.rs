//! Recurrences over tokens: each head carries a state from token to token.
#![forbid(unsafe_code)]

mod delta;

pub use delta::DeltaRequest;

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
}
