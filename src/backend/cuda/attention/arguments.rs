//! What every attention kernel is told: the structs of `kernels/attention/arguments.cuh`, which kernels
//! take by value. Addresses are null for what is not wanted.
#![forbid(unsafe_code)]

use std::mem::offset_of;

use super::super::{
    Address,
    constants::{
        ATTENTION_ALIGNED_OFFSET, ATTENTION_BYTES, ATTENTION_MAPS_BYTES, ATTENTION_OUT_OFFSET,
        ATTENTION_ROWS_OFFSET, ATTENTION_SCALE_OFFSET, ATTENTION_SINK_BYTES,
        ATTENTION_SUBSET_BYTES,
    },
};

/// `AttentionArguments`, which says what each is.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
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
    pub chosen: Address,
    pub sections: Address,
    pub rows: i32,
    pub heads: i32,
    pub kv_heads: i32,
    pub head_dim: i32,
    pub value_dim: i32,
    pub window: i32,
    pub chunk: i32,
    pub words: i32,
    pub scale: f32,
    pub soft_cap: f32,
    pub alibi_factor: f32,
    pub alibi_from_last: i32,
    pub alibi_bfloat16: i32,
    pub aligned: i32,
}

/// `AttentionMapArguments`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct MapArguments {
    pub attention: Arguments,
    pub start: i32,
    pub length: i32,
    pub probs_mean: Address,
    pub logits_mean: Address,
    pub probs: Address,
    pub logits: Address,
}

/// `AttentionSinkArguments`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct SinkArguments {
    pub attention: Arguments,
    pub mass: Address,
    pub peak: Address,
    pub extra_mass: Address,
    pub extra_peak: Address,
    pub sequences: i32,
}

/// `AttentionSubsetArguments`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct SubsetArguments {
    pub attention: Arguments,
    pub listed: Address,
    pub rest: Address,
}

const _: () = {
    assert!(size_of::<Arguments>() == ATTENTION_BYTES);
    assert!(offset_of!(Arguments, out) == ATTENTION_OUT_OFFSET);
    assert!(offset_of!(Arguments, rows) == ATTENTION_ROWS_OFFSET);
    assert!(offset_of!(Arguments, scale) == ATTENTION_SCALE_OFFSET);
    assert!(offset_of!(Arguments, aligned) == ATTENTION_ALIGNED_OFFSET);
    assert!(size_of::<MapArguments>() == ATTENTION_MAPS_BYTES);
    assert!(size_of::<SinkArguments>() == ATTENTION_SINK_BYTES);
    assert!(size_of::<SubsetArguments>() == ATTENTION_SUBSET_BYTES);
};
