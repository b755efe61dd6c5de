//! The forward pass on cards of compute capability 9.0 (`kernels/attention_hopper.cu`): which calls it takes,
//! and what it is told beside the others' arguments.
#![forbid(unsafe_code)]

use std::mem::offset_of;

use super::{
    super::{
        Address, Argument, Boxes, Buffer, Device, Limits, Swizzle, TensorMap,
        constants::{
            ATTENTION_HOPPER_BYTES, HOPPER_CONSUMERS, HOPPER_KERNELS, HOPPER_PLACE, HOPPER_ROWS,
            HOPPER_THREADS,
        },
        tensors::int,
    },
    Call,
    arguments::Arguments,
    tiles::Tiles,
};
use crate::{backend::Rows, error::Result, model::dtype::DType};

/// The most heads of a tile: more would leave it so few positions that their keys are hardly shared.
const MOST_PACKED: usize = 16;
/// Words of a tensor map.
const MAP_WORDS: usize = 16;
/// Bytes of a value: all kernels for these cards are in 16 bits.
pub(super) const BYTES: usize = 2;
/// The most rows of a warpgroup that heads may leave over.
const MOST_IDLE_ROWS: usize = HOPPER_ROWS / 16;

/// A kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The kernel's key width, which is in its name.
    width: usize,
    value_width: usize,
    /// Keys of a tile.
    pub(super) keys: usize,
    /// Heads of a tile.
    packed: usize,
    /// Dynamic shared memory of a block.
    shared_bytes: usize,
}

impl Plan {
    /// The narrowest kernel that holds these heads, if the card has one for them: heads of 16 bits whose rows
    /// start at multiples of 16 bytes, `group` of them to a key/value head.
    pub(super) fn new(
        limits: Limits,
        dtype: DType,
        (head_dim, value_dim): (usize, usize),
        group: usize,
    ) -> Option<Self> {
        let fits = limits.capability == (9, 0)
            && dtype != DType::Float32
            && head_dim.is_multiple_of(8)
            && value_dim.is_multiple_of(8);
        let [width, value_width, keys, stages] =
            HOPPER_KERNELS
                .into_iter()
                .find(|[width, value_width, ..]| {
                    fits && head_dim <= *width && value_dim <= *value_width
                })?;
        let packed = (1..=MOST_PACKED)
            .rev()
            .find(|heads| group.is_multiple_of(*heads) && HOPPER_ROWS % heads <= MOST_IDLE_ROWS);
        let values = HOPPER_CONSUMERS * HOPPER_ROWS * width + stages * keys * (width + value_width);
        // And the barriers, and the block's place.
        let shared_bytes = values * BYTES + 8 * (1 + 4 * stages) + 4 * HOPPER_PLACE;
        (shared_bytes <= limits.shared_bytes as usize).then_some(Self {
            width,
            value_width,
            keys,
            packed: packed?,
            shared_bytes,
        })
    }

    /// Query positions of a block.
    fn positions(&self) -> usize {
        HOPPER_CONSUMERS * (HOPPER_ROWS / self.packed)
    }
}

/// `AttentionHopperArguments` of `kernels/attention/arguments.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct HopperArguments {
    attention: Arguments,
    maps: Address,
    packed: i32,
    blocks: i32,
}

const _: () = {
    assert!(size_of::<HopperArguments>() == ATTENTION_HOPPER_BYTES);
    assert!(offset_of!(HopperArguments, maps) == size_of::<Arguments>());
};

/// What the blocks of a plan work on.
pub(super) struct Work<D: Device> {
    pub(super) tiles: Tiles<D>,
    maps: Buffer<D>,
    packed: i32,
    /// Tiles of heads.
    heads: i32,
    blocks: u32,
}

impl<D: Device> Work<D> {
    /// What the kernel is told, beside the others' arguments.
    pub(super) fn told(&self, attention: Arguments) -> HopperArguments {
        HopperArguments {
            attention,
            maps: self.maps.address(),
            packed: self.packed,
            blocks: self.heads,
        }
    }
}

impl<D: Device> Call<'_, D> {
    /// The whole output into `out`.
    pub(super) fn forward_on_hopper(&self, plan: &Plan, out: Address) -> Result<()> {
        let work = self.work_on_hopper(plan)?;
        let attention = Arguments {
            out,
            ..self.arguments(&work.tiles)?
        };
        let arguments = work.told(attention);
        self.launch_on_hopper("hopper", plan, &work, Argument::of(&arguments))
    }

    /// For the forward pass, or another like it.
    pub(super) fn work_on_hopper(&self, plan: &Plan) -> Result<Work<D>> {
        let heads = self.request.heads / plan.packed;
        let sharing = heads / self.request.kv_heads;
        let tiles = self.query_tiles(plan.positions(), sharing)?;
        Ok(Work {
            blocks: super::blocks(heads, &tiles)?,
            tiles,
            maps: self.maps_of_sequences(plan)?,
            packed: int(plan.packed)?,
            heads: int(heads)?,
        })
    }

    /// Starts a kernel that works as that of the forward pass does.
    pub(super) fn launch_on_hopper(
        &self,
        what: &str,
        plan: &Plan,
        work: &Work<D>,
        arguments: Argument<'_>,
    ) -> Result<()> {
        self.launch(
            &format!("{what}_{}", plan.width),
            [work.blocks, 1, 1],
            (HOPPER_THREADS, plan.shared_bytes as u32),
            arguments,
        )
    }

    /// Queries, keys and values of each sequence: a map ends where its sequence does, and what a tile has
    /// beyond it is zero.
    fn maps_of_sequences(&self, plan: &Plan) -> Result<Buffer<D>> {
        let queries = self.queries(plan.width, [plan.packed, HOPPER_ROWS / plan.packed]);
        let keys = self.keys(plan.width, plan.keys);
        let values = Heads {
            first: self.inputs.v,
            width: self.request.value_dim,
            tile_width: plan.value_width,
            ..keys
        };
        self.tensor_maps([queries, keys, values], self.sequences)
    }

    /// Queries and keys of each of these sequences, for kernels whose tiles have so many columns and of one head so
    /// many positions of each.
    pub(super) fn query_and_key_maps(
        &self,
        tile_width: usize,
        [queries, keys]: [usize; 2],
        sequences: &[Rows],
    ) -> Result<Buffer<D>> {
        let queries = self.queries(tile_width, [1, queries]);
        self.tensor_maps([queries, self.keys(tile_width, keys)], sequences)
    }

    /// Queries, in tiles of so many heads and positions.
    fn queries(&self, tile_width: usize, tile: [usize; 2]) -> Heads {
        Heads {
            first: self.inputs.q,
            count: self.request.heads,
            width: self.request.head_dim,
            tile_width,
            tile,
        }
    }

    /// Keys, in tiles of so many positions.
    fn keys(&self, tile_width: usize, positions: usize) -> Heads {
        Heads {
            first: self.inputs.k,
            count: self.request.kv_heads,
            width: self.request.head_dim,
            tile_width,
            tile: [1, positions],
        }
    }

    /// Of each of these sequences a map of its rows of each tensor.
    fn tensor_maps<const N: usize>(
        &self,
        tensors: [Heads; N],
        sequences: &[Rows],
    ) -> Result<Buffer<D>> {
        let mut words = Vec::with_capacity(sequences.len() * N * MAP_WORDS);
        for rows in sequences {
            if rows.is_empty() {
                // No tile asks for it, and a map of nothing is refused.
                words.extend([0; MAP_WORDS].repeat(N));
                continue;
            }
            for heads in tensors {
                words.extend(heads.map(self, rows)?.0);
            }
        }
        self.cuda.list::<u64>(&words)
    }
}

/// A tensor `[rows, count * width]` and the tiles of it that a kernel copies.
#[derive(Debug, Clone, Copy)]
struct Heads {
    first: Address,
    count: usize,
    width: usize,
    /// Columns of a tile, and its heads and positions.
    tile_width: usize,
    tile: [usize; 2],
}

impl Heads {
    /// The rows of a sequence. A box is a chunk of a tile's columns (`SwizzledTile` of `kernels/warpgroup.cuh`).
    fn map<D: Device>(&self, call: &Call<'_, D>, rows: &Rows) -> Result<TensorMap> {
        let (swizzle, columns) = if self.tile_width.is_multiple_of(64) {
            (Swizzle::Bytes128, 64)
        } else if self.tile_width.is_multiple_of(32) {
            (Swizzle::Bytes64, 32)
        } else {
            (Swizzle::Bytes32, 16)
        };
        let (head, row) = (self.width * BYTES, self.count * self.width * BYTES);
        let [heads, positions] = self.tile;
        call.cuda.device.tensor_map(&Boxes {
            address: self.first.offset(rows.start * row),
            dtype: call.inputs.dtype,
            sizes: &[self.width, self.count, rows.len()],
            strides: &[head, row],
            box_sizes: &[columns, heads, positions],
            swizzle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{hopper_maps, hopper_sink},
        *,
    };

    const HOPPER: Limits = Limits {
        multiprocessors: 132,
        capability: (9, 0),
        shared_bytes: 227 << 10,
        memory_bytes: 80 << 30,
        cache_bytes: 50 << 20,
    };

    #[test]
    fn every_kernel_fits_its_card() {
        for [width, value_width, ..] in HOPPER_KERNELS {
            let plan = Plan::new(HOPPER, DType::Float16, (width, value_width), 1);
            assert_eq!(plan.map(|plan| plan.width), Some(width));
        }
    }

    /// So that the card that has room for the output has it for maps and for what keys receive.
    #[test]
    fn no_kernel_needs_more_than_the_forward_pass() {
        for [width, value_width, ..] in HOPPER_KERNELS {
            for needed in [
                hopper_maps::Plan::new(width).shared_bytes,
                hopper_sink::Plan::new(width).shared_bytes,
            ] {
                let limits = Limits {
                    shared_bytes: needed as u32 - 1,
                    ..HOPPER
                };
                let forward = Plan::new(limits, DType::BFloat16, (width, value_width), 1);
                assert_eq!(forward, None, "{width}");
            }
        }
    }

    #[test]
    fn other_cards_types_and_shapes_have_todays_kernel() {
        let planned = |limits, dtype, widths| Plan::new(limits, dtype, widths, 1).is_some();
        assert!(planned(HOPPER, DType::BFloat16, (8, 16)));
        assert!(!planned(HOPPER, DType::Float32, (64, 64)));
        for widths in [(64, 12), (20, 64), (264, 64), (64, 264)] {
            assert!(!planned(HOPPER, DType::BFloat16, widths), "{widths:?}");
        }
        for capability in [(8, 0), (8, 9), (10, 0), (12, 0)] {
            let limits = Limits {
                capability,
                ..HOPPER
            };
            assert!(!planned(limits, DType::BFloat16, (64, 64)));
        }
        let limits = Limits {
            shared_bytes: 99 << 10,
            ..HOPPER
        };
        assert!(!planned(limits, DType::BFloat16, (128, 128)));
    }

    #[test]
    fn heads_that_share_keys_are_packed_in_equal_tiles() {
        let packed = |group| {
            let plan = Plan::new(HOPPER, DType::BFloat16, (128, 128), group).expect("planned");
            (plan.packed, plan.positions())
        };
        assert_eq!(packed(1), (1, 128));
        assert_eq!(packed(3), (3, 42));
        assert_eq!(packed(7), (7, 18));
        assert_eq!(packed(8), (8, 16));
        assert_eq!(packed(13), (1, 128));
        assert_eq!(packed(14), (7, 18));
        assert_eq!(packed(48), (16, 8));
        assert_eq!(packed(71), (1, 128));
    }
}
