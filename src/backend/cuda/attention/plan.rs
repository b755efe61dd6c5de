//! How the attention kernels cut their work.
#![forbid(unsafe_code)]

use super::super::constants::{
    FORWARD_KERNELS, MAP_TILE, SHARED_ROW_PADDING, SINK_KEYS_16, SINK_KEYS_32, SINK_QUERIES,
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
    /// The narrowest kernel that holds heads of these widths.
    pub(super) fn new(dtype: DType, head_dim: usize, value_dim: usize) -> Option<Self> {
        let [width, value_width, cut @ ..] =
            FORWARD_KERNELS
                .into_iter()
                .find(|[width, value_width, ..]| {
                    // The widest makes values in parts.
                    let reach = if *width == WIDEST { width } else { value_width };
                    head_dim <= *width && value_dim <= *reach
                })?;
        let [warps16, rows16, keys16, warps32, rows32, keys32] = cut;
        let (warps, rows, keys) = match dtype {
            DType::Float32 => (warps32, rows32, keys32),
            DType::BFloat16 | DType::Float16 => (warps16, rows16, keys16),
        };
        let queries = warps * rows;
        let stage = shared_rows(dtype, keys, width) + shared_rows(dtype, keys, value_width);
        let bytes = shared_rows(dtype, queries, width) + 2 * stage;
        Some(Self {
            width,
            parts: value_dim.div_ceil(value_width),
            queries,
            threads: 32 * warps,
            shared_bytes: bytes as u32,
        })
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

    /// The smallest cards that the kernels are built for offer 99 KiB a block.
    #[test]
    fn every_plan_fits_the_smallest_card() {
        for dtype in [DType::Float32, DType::BFloat16, DType::Float16] {
            for [width, value_width, ..] in FORWARD_KERNELS {
                let plan = Forward::new(dtype, width, value_width).expect("listed");
                assert!(plan.shared_bytes <= 99 << 10, "{dtype:?} {width}");
            }
            assert!(sink_shared_bytes(dtype) <= 99 << 10);
            assert!(map_shared_bytes(dtype) <= 99 << 10);
        }
    }

    #[test]
    fn heads_take_the_next_width() {
        let width = |head_dim, value_dim| {
            Forward::new(DType::BFloat16, head_dim, value_dim).map(|plan| plan.width)
        };
        assert_eq!(width(1, 1), Some(32));
        assert_eq!(width(72, 72), Some(80));
        assert_eq!(width(192, 128), Some(192));
        assert_eq!(width(192, 192), Some(256));
        assert_eq!(width(64, 128), Some(128));
        assert_eq!(width(257, 64), Some(512));
        assert_eq!(width(64, 257), Some(512));
        assert_eq!(width(513, 64), None);
        let parts = |value_dim| Forward::new(DType::Float32, 512, value_dim).map(|plan| plan.parts);
        assert_eq!(
            [parts(256), parts(257), parts(512)],
            [Some(1), Some(2), Some(2)]
        );
    }
}
