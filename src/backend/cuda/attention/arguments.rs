//! What every attention kernel is told.
#![forbid(unsafe_code)]

use super::super::{Address, Argument};

/// `ATTENTION_PARAMETERS` of `kernels/attention/arguments.cuh`, which says what each is. Addresses
/// are null for what is not wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arguments {
    pub q: Address,
    pub k: Address,
    pub v: Address,
    pub tiles: Address,
    pub sinks: Address,
    pub extra_key: Address,
    pub extra_value: Address,
    pub slopes: Address,
    pub out: Address,
    pub log_sums: Address,
    pub extra_logits: Address,
    pub rows: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub head_dim: i32,
    pub value_dim: i32,
    pub window: i32,
    pub scale: f32,
    pub soft_cap: f32,
    pub alibi_factor: f32,
    pub alibi_from_last: bool,
    pub alibi_bfloat16: bool,
    pub aligned: bool,
}

impl Arguments {
    /// The arguments in the kernels' order, followed by `more`.
    pub(super) fn list(&self, more: &[Argument]) -> Vec<Argument> {
        let addresses = [
            self.q,
            self.k,
            self.v,
            self.tiles,
            self.sinks,
            self.extra_key,
            self.extra_value,
            self.slopes,
            self.out,
            self.log_sums,
            self.extra_logits,
        ];
        let sizes = [
            self.rows,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.value_dim,
            self.window,
        ];
        let factors = [self.scale, self.soft_cap, self.alibi_factor];
        let flags = [self.alibi_from_last, self.alibi_bfloat16, self.aligned];
        let mut list = Vec::with_capacity(23 + more.len());
        list.extend(addresses.map(Argument::from));
        list.extend(sizes.map(Argument::from));
        list.extend(factors.map(Argument::from));
        list.extend(flags.map(|flag| Argument::from(i32::from(flag))));
        list.extend_from_slice(more);
        list
    }
}

/// A kernel's `int`. What is larger (a window without end) is as good as the largest.
pub(super) fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
