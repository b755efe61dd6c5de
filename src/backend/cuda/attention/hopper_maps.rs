//! Maps on cards of compute capability 9.0 (`kernels/attention_maps_hopper.cu`), where the forward pass was
//! `attention_hopper`'s.
#![forbid(unsafe_code)]

use super::{
    super::{
        Address, Argument, Device,
        constants::{
            ATTENTION_MAPS_HOPPER_BYTES, HOPPER_CONSUMERS, HOPPER_MAP_KERNELS, HOPPER_ROWS,
            HOPPER_THREADS,
        },
    },
    Call,
    arguments::MapArguments,
    hopper::Heads,
};
use crate::{backend::Rows, error::Result};

/// Queries of a block.
const QUERIES: usize = HOPPER_CONSUMERS * HOPPER_ROWS;
/// Bytes of a value: the kernels are in 16 bits.
const BYTES: usize = 2;

/// A kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// The kernel's width, which is in its name.
    width: usize,
    /// Keys of a block.
    keys: usize,
    /// Dynamic shared memory of a block.
    shared_bytes: usize,
}

impl Plan {
    /// The narrowest kernel that holds the heads: those of `hopper::Plan`, of whatever values.
    fn new(head_dim: usize) -> Self {
        let mut kernels = HOPPER_MAP_KERNELS.into_iter();
        let found = kernels.find(|[width, ..]| head_dim <= *width);
        let [width, keys, stages] = found.expect("the forward kernels are no wider");
        // A stage of each ring has two barriers.
        let stage = (QUERIES + keys) * width * BYTES + 8 * 4;
        Self {
            width,
            keys,
            shared_bytes: stages * stage,
        }
    }
}

/// `AttentionMapHopperArguments` of `kernels/attention/arguments.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct MapHopperArguments {
    map: MapArguments,
    maps: Address,
}

const _: () = assert!(size_of::<MapHopperArguments>() == ATTENTION_MAPS_HOPPER_BYTES);

impl<D: Device> Call<'_, D> {
    /// Starts the kernel for one sequence.
    pub(super) fn maps_on_hopper(&self, rows: &Rows, map: MapArguments) -> Result<()> {
        let (request, inputs) = (self.request, self.inputs);
        let plan = Plan::new(request.head_dim);
        let queries = Heads {
            first: inputs.q,
            count: request.heads,
            width: request.head_dim,
            tile_width: plan.width,
            tile: [1, QUERIES],
        };
        let keys = Heads {
            first: inputs.k,
            count: request.kv_heads,
            tile: [1, plan.keys],
            ..queries
        };
        let maps = self.tensor_maps([queries, keys], std::slice::from_ref(rows))?;
        let arguments = MapHopperArguments {
            map,
            maps: maps.address(),
        };
        let tiles = |size: usize| rows.len().div_ceil(size) as u32;
        self.launch(
            &format!("maps_hopper_{}", plan.width),
            [tiles(plan.keys), tiles(QUERIES), 1],
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

    /// So that the card that has room for the output has it for maps.
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
