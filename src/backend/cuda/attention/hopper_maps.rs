//! Maps on cards of compute capability 9.0 (`kernels/attention_maps_hopper.cu`), where the forward pass was
//! `attention_hopper`'s.
#![forbid(unsafe_code)]

use std::slice;

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
    hopper::BYTES,
};
use crate::{backend::Rows, error::Result};

/// Queries of a block.
const QUERIES: usize = HOPPER_CONSUMERS * HOPPER_ROWS;

/// A kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The kernel's width, which is in its name.
    width: usize,
    /// Keys of a block.
    keys: usize,
    /// Dynamic shared memory of a block.
    pub(super) shared_bytes: usize,
}

impl Plan {
    /// The narrowest kernel that holds the heads: those of `hopper::Plan`, of whatever values.
    pub(super) fn new(head_dim: usize) -> Self {
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
        let plan = Plan::new(self.request.head_dim);
        let sizes = [QUERIES, plan.keys];
        let maps = self.query_and_key_maps(plan.width, sizes, slice::from_ref(rows))?;
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
