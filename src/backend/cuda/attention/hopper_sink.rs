//! What keys receive on cards of compute capability 9.0 (`kernels/attention_sink_hopper.cu`), where the forward pass
//! was `attention_hopper`'s.
#![forbid(unsafe_code)]

use super::{
    super::{
        Address, Argument, Device,
        constants::{
            ATTENTION_SINK_HOPPER_BYTES, HOPPER_CONSUMERS, HOPPER_ROWS, HOPPER_SINK_KERNELS,
            HOPPER_SINK_QUERIES, HOPPER_THREADS,
        },
    },
    Call,
    arguments::SinkArguments,
    hopper::BYTES,
    tiles::Tiles,
};
use crate::error::Result;

/// Keys of a block.
const KEYS: usize = HOPPER_CONSUMERS * HOPPER_ROWS;

/// A kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The kernel's width, which is in its name.
    width: usize,
    /// Dynamic shared memory of a block.
    pub(super) shared_bytes: usize,
}

impl Plan {
    /// The narrowest kernel that holds the heads: those of `hopper::Plan`, of whatever values.
    pub(super) fn new(head_dim: usize) -> Self {
        let mut kernels = HOPPER_SINK_KERNELS.into_iter();
        let found = kernels.find(|[width, _]| head_dim <= *width);
        let [width, stages] = found.expect("the forward kernels are no wider");
        let tiles = (KEYS + stages * HOPPER_SINK_QUERIES) * width * BYTES;
        let log_sums = HOPPER_CONSUMERS * 2 * HOPPER_SINK_QUERIES * size_of::<f32>();
        let barriers = 8 * (1 + 2 * stages);
        Self {
            width,
            shared_bytes: tiles + log_sums + barriers,
        }
    }
}

/// `AttentionSinkHopperArguments` of `kernels/attention/arguments.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct SinkHopperArguments {
    sink: SinkArguments,
    maps: Address,
}

const _: () = assert!(size_of::<SinkHopperArguments>() == ATTENTION_SINK_HOPPER_BYTES);

impl<D: Device> Call<'_, D> {
    /// Every sequence in tiles of keys, in the order in which the queries that they need stay in the cache.
    pub(super) fn key_tiles_on_hopper(&self) -> Result<Tiles<D>> {
        let request = self.request;
        let work = |first, length| request.viewers(first, length);
        let heads = |length: usize| self.cached(length * request.head_dim, request.heads);
        Tiles::by_sequence(self.cuda, self.sequences, KEYS, work, heads)
    }

    /// Starts the kernel on these tiles.
    pub(super) fn sink_on_hopper(&self, tiles: &Tiles<D>, sink: SinkArguments) -> Result<()> {
        let plan = Plan::new(self.request.head_dim);
        let sizes = [HOPPER_SINK_QUERIES, HOPPER_ROWS];
        let maps = self.query_and_key_maps(plan.width, sizes, self.sequences)?;
        let arguments = SinkHopperArguments {
            sink,
            maps: maps.address(),
        };
        self.launch(
            &format!("sink_hopper_{}", plan.width),
            [super::blocks(self.request.heads, tiles)?, 1, 1],
            (HOPPER_THREADS, plan.shared_bytes as u32),
            Argument::of(&arguments),
        )
    }
}
