//! What a state space layer has beside its input.
#![forbid(unsafe_code)]

/// A state space layer of Mamba-2.
#[derive(Debug)]
pub struct StateSpaceRequest<'a, V> {
    /// Heads, each with a decay of its own.
    pub heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Head `h` reads `b` and `c` of group `h / (heads / groups)`.
    pub groups: usize,
    /// Numbers that are kept of each value.
    pub state: usize,
    /// `[heads]`: the logarithm of the decay's rate.
    pub a_log: &'a V,
    /// `[heads]`: added to `dt`.
    pub dt_bias: &'a V,
    /// `[heads]`: factor on what passes by the state.
    pub d: &'a V,
    /// Least and greatest `dt`, after its softplus.
    pub dt_limits: (f32, f32),
}
