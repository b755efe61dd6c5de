//! How the attention kernels cut their work.
#![forbid(unsafe_code)]

use super::super::constants::{
    FORWARD_KERNELS, FORWARD_ROOMY_KERNELS, MAP_TILE, SHARED_ROW_PADDING, SINK_KEYS_16, SINK_KEYS_32, SINK_QUERIES,
    STREAM_ROW_BYTES, STREAM_STAGES,
};
use crate::model::dtype::DType;

/// The widest heads that there is a kernel for.
pub(super) const WIDEST: usize = FORWARD_KERNELS[FORWARD_KERNELS.len() - 1][0];

/// A forward kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forward {
    /// The kernel's key width, which is in its name.
    pub width: usize,
    /// Of the kernels that only cards with more shared memory run.
    pub roomy: bool,
    /// Blocks that share the values of a head.
    pub parts: usize,
    /// Query positions of a block.
    pub queries: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

impl Forward {
    /// The narrowest kernel that holds heads of these widths; of two, that which makes use of the shared memory that a
    /// block may have.
    pub(super) fn new(
        dtype: DType,
        head_dim: usize,
        value_dim: usize,
        shared_bytes: u32,
    ) -> Option<Self> {
        let [width, value_width, cut @ ..] =
            FORWARD_KERNELS
                .into_iter()
                .find(|[width, value_width, ..]| {
                    // The widest makes values in parts.
                    let reach = if *width == WIDEST { width } else { value_width };
                    head_dim <= *width && value_dim <= *reach
                })?;
        let [warps16, rows16, keys16, cut32 @ ..] = cut;
        let planned = |roomy: bool, [warps, rows, keys]: [usize; 3]| {
            let queries = warps * rows;
            let tile = shared_rows(dtype, keys, width) + shared_rows(dtype, keys, value_width);
            Self {
                width,
                roomy,
                parts: value_dim.div_ceil(value_width),
                queries,
                threads: 32 * warps,
                shared_bytes: (shared_rows(dtype, queries, width) + tile) as u32,
            }
        };
        if dtype == DType::Float32 {
            return Some(planned(false, cut32));
        }
        let roomy = FORWARD_ROOMY_KERNELS
            .into_iter()
            .find(|[of, ..]| *of == width)
            .map(|[_, _, cut @ ..]| planned(true, cut));
        roomy
            .filter(|roomy| roomy.shared_bytes <= shared_bytes)
            .or_else(|| Some(planned(false, [warps16, rows16, keys16])))
    }

    /// What the kernel does and for which heads, in its name.
    pub(super) fn name(&self) -> String {
        format!("{}{}", self.width, if self.roomy { "_roomy" } else { "" })
    }
}

/// Keys of a block of `attention_sink`.
pub(super) fn sink_keys(dtype: DType) -> usize {
    match dtype {
        DType::Float32 => SINK_KEYS_32,
        DType::BFloat16 | DType::Float16 => SINK_KEYS_16,
    }
}

/// Shared memory of a block of `attention_sink`.
pub(super) fn sink_shared_bytes(dtype: DType) -> u32 {
    stream_bytes(dtype, sink_keys(dtype) + SINK_QUERIES)
}

/// Shared memory of a block of `attention_maps`.
pub(super) fn map_shared_bytes(dtype: DType) -> u32 {
    stream_bytes(dtype, 2 * MAP_TILE)
}

/// A ring of pieces (`ScoreStream`).
fn stream_bytes(dtype: DType, rows: usize) -> u32 {
    (STREAM_STAGES * shared_rows(dtype, rows, STREAM_ROW_BYTES / dtype.size())) as u32
}

/// A tile with its spare bytes (`SharedTile`).
fn shared_rows(dtype: DType, rows: usize, width: usize) -> usize {
    rows * (width * dtype.size() + SHARED_ROW_PADDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shared memory that a block may have on the smallest cards that the kernels are built for, and on those of
    /// capability 8.0.
    const SMALLEST: u32 = 99 << 10;
    const LARGE: u32 = 163 << 10;

    #[test]
    fn every_plan_fits_its_card() {
        for dtype in [DType::Float32, DType::BFloat16, DType::Float16] {
            for [width, value_width, ..] in FORWARD_KERNELS {
                for limit in [SMALLEST, LARGE] {
                    let plan = Forward::new(dtype, width, value_width, limit).expect("listed");
                    assert!(plan.shared_bytes <= limit, "{dtype:?} {width}");
                }
            }
            assert!(sink_shared_bytes(dtype) <= SMALLEST);
            assert!(map_shared_bytes(dtype) <= SMALLEST);
        }
    }

    #[test]
    fn wide_heads_use_the_shared_memory_that_there_is() {
        let plan = |dtype, width: usize, limit| {
            let plan = Forward::new(dtype, width, width.min(128), limit).expect("listed");
            (plan.name(), plan.queries, plan.shared_bytes)
        };
        for dtype in [DType::BFloat16, DType::Float16] {
            assert_eq!(plan(dtype, 192, SMALLEST), ("192".into(), 128, 94_208));
            assert_eq!(plan(dtype, 192, 134_655), ("192".into(), 128, 94_208));
            assert_eq!(plan(dtype, 192, 134_656), ("192_roomy".into(), 256, 134_656));
            assert_eq!(plan(dtype, 256, LARGE), ("256_roomy".into(), 128, 135_168));
            assert_eq!(plan(dtype, 512, LARGE), ("512_roomy".into(), 96, 150_016));
            assert_eq!(plan(dtype, 128, LARGE), ("128".into(), 128, 69_632));
        }
        assert_eq!(plan(DType::Float32, 256, LARGE), ("256".into(), 64, 99_840));
    }

    /// A multiprocessor of capability 8.0 has 164 KiB, of which each block takes 1 beside its own.
    #[test]
    fn two_blocks_share_a_multiprocessor_up_to_width_128() {
        for dtype in [DType::Float32, DType::BFloat16, DType::Float16] {
            for width in [32, 64, 80, 96, 128] {
                let plan = Forward::new(dtype, width, width, LARGE).expect("listed");
                assert!(2 * (plan.shared_bytes + 1024) <= 164 << 10, "{dtype:?} {width}");
            }
        }
    }

    #[test]
    fn heads_take_the_next_width() {
        let width = |head_dim, value_dim| {
            Forward::new(DType::BFloat16, head_dim, value_dim, SMALLEST).map(|plan| plan.width)
        };
        assert_eq!(width(1, 1), Some(32));
        assert_eq!(width(72, 72), Some(80));
        assert_eq!(width(192, 128), Some(192));
        assert_eq!(width(192, 192), Some(256));
        assert_eq!(width(64, 128), Some(128));
        assert_eq!(width(257, 64), Some(512));
        assert_eq!(width(64, 257), Some(512));
        assert_eq!(width(513, 64), None);
        let parts = |value_dim| {
            Forward::new(DType::Float32, 512, value_dim, SMALLEST).map(|plan| plan.parts)
        };
        assert_eq!(
            [parts(256), parts(257), parts(512)],
            [Some(1), Some(2), Some(2)]
        );
    }
}
