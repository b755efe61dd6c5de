//! What the gated delta rule needs beside its projections.
#![forbid(unsafe_code)]

/// Heads and learned vectors of the gated delta rule.
#[derive(Debug)]
pub struct DeltaRequest<'a, V> {
    /// Heads of queries and keys; key head `h / (heads / key_heads)` serves value head `h`.
    pub key_heads: usize,
    /// Heads of values, each with a state.
    pub heads: usize,
    /// Width of a query or key head.
    pub key_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// `[heads]`
    pub a_log: &'a V,
    /// `[heads]`, or `[heads * key_dim]` where [`DeltaRequest::per_channel`].
    pub dt_bias: &'a V,
    /// A decay for every key channel (Kimi Linear), not one a head.
    pub per_channel: bool,
    /// 1; 2 where negative eigenvalues of the transition are allowed.
    pub beta_scale: f32,
}
