//! What a selective scan has beside its input.
#![forbid(unsafe_code)]

/// A selective scan of Mamba.
#[derive(Debug)]
pub struct SelectiveScanRequest<'a, V> {
    /// Numbers that are kept of each channel.
    pub state: usize,
    /// `[inner, state]`: the logarithm of the decay's rate.
    pub a_log: &'a V,
    /// `[inner]`: added to `dt`.
    pub dt_bias: &'a V,
    /// `[inner]`: factor on what passes by the state.
    pub d: &'a V,
}
