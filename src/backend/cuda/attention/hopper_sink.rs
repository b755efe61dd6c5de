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
    hopper::Heads,
    tiles::Tiles,
};
use crate::error::Result;

/// Keys of a block.
const KEYS: usize = HOPPER_CONSUMERS * HOPPER_ROWS;
/// Bytes of a value: the kernels are in 16 bits.
const BYTES: usize = 2;

/// A kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// The kernel's width, which is in its name.
    width: usize,
    /// Dynamic shared memory of a block.
    shared_bytes: usize,
}

impl Plan {
    /// The narrowest kernel that holds the heads: those of `hopper::Plan`, of whatever values.
    fn new(head_dim: usize) -> Self {
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
        let (request, inputs) = (self.request, self.inputs);
        let plan = Plan::new(request.head_dim);
        let queries = Heads {
            first: inputs.q,
            count: request.heads,
            width: request.head_dim,
            tile_width: plan.width,
            tile: [1, HOPPER_SINK_QUERIES],
        };
        let keys = Heads {
            first: inputs.k,
            count: request.kv_heads,
            tile: [1, HOPPER_ROWS],
            ..queries
        };
        let maps = self.tensor_maps([queries, keys])?;
        let arguments = SinkHopperArguments {
            sink,
            maps: maps.address(),
        };
        self.launch(
            &format!("sink_hopper_{}", plan.width),
            [super::blocks(request.heads, tiles)?, 1, 1],
            (HOPPER_THREADS, plan.shared_bytes as u32),
            Argument::of(&arguments),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::constants::HOPPER_KERNELS, hopper},
        *,
    };
    use crate::{backend::cuda::Limits, model::dtype::DType};

    /// So that the card that has room for the output has it for what keys receive.
    #[test]
    fn no_kernel_needs_more_than_the_forward_pass() {
        for [width, value_width, ..] in HOPPER_KERNELS {
            let limits = Limits {
                multiprocessors: 132,
                capability: (9, 0),
                shared_bytes: Plan::new(width).shared_bytes as u32 - 1,
                memory_bytes: 80 << 30,
                cache_bytes: 50 << 20,
            };
            let forward = hopper::Plan::new(limits, DType::BFloat16, (width, value_width), 1);
            assert_eq!(forward, None, "{width}");
        }
    }
}
