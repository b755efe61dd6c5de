//! How the attention kernels cut their work; the numbers are those of `kernels/attention/`.
#![forbid(unsafe_code)]

use crate::model::dtype::DType;

/// Query positions that a block of `attention_subset` works on.
pub(super) const SUBSET_QUERIES: usize = 64;
/// Threads of a block of every kernel but the forward pass.
pub(super) const CAPTURE_THREADS: u32 = 128;
/// Queries and keys of a block of `attention_maps`.
pub(super) const MAP_TILE: usize = 64;

/// Query positions that a block of `attention_sink` takes at a time.
const SINK_QUERIES: usize = 64;
/// Widths of key and value heads that the forward kernels exist for.
const WIDTHS: [(usize, usize); 7] = [
    (32, 32),
    (64, 64),
    (80, 80),
    (96, 96),
    (128, 128),
    (192, 128),
    (256, 256),
];

/// A forward kernel and the size of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forward {
    /// The kernel's key width, which is in its name.
    pub width: usize,
    /// Query positions of a block.
    pub queries: usize,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

impl Forward {
    /// The narrowest kernel that holds heads of these widths.
    pub(super) fn new(dtype: DType, head_dim: usize, value_dim: usize) -> Option<Self> {
        let (width, value_width) = WIDTHS
            .into_iter()
            .find(|(width, value_width)| head_dim <= *width && value_dim <= *value_width)?;
        // Warps, query rows of a warp, keys of a tile: `ForwardPlan`.
        let (warps, rows, keys) = match (dtype, width) {
            (DType::Float32, 256) => (4, 16, 8),
            (DType::Float32, 192) => (4, 16, 16),
            (DType::Float32, _) => (4, 16, 32),
            (_, 256) => (8, 16, 16),
            (_, 192) => (8, 16, 32),
            (_, 96 | 128) => (4, 32, 32),
            _ => (4, 32, 64),
        };
        let queries = warps * rows;
        let stage = shared_rows(dtype, keys, width) + shared_rows(dtype, keys, value_width);
        let bytes = shared_rows(dtype, queries, width) + 2 * stage;
        Some(Self {
            width,
            queries,
            threads: 32 * warps as u32,
            shared_bytes: bytes as u32,
        })
    }
}

/// Keys of a block of `attention_sink`.
pub(super) fn sink_keys(dtype: DType) -> usize {
    if dtype == DType::Float32 { 64 } else { 128 }
}

/// Shared memory of a block of `attention_sink`.
pub(super) fn sink_shared_bytes(dtype: DType) -> u32 {
    stream_bytes(dtype, sink_keys(dtype) + SINK_QUERIES)
}

/// Shared memory of a block of `attention_maps`.
pub(super) fn map_shared_bytes(dtype: DType) -> u32 {
    stream_bytes(dtype, 2 * MAP_TILE)
}

/// Three stages of pieces, 128 bytes a row (`ScoreStream`).
fn stream_bytes(dtype: DType, rows: usize) -> u32 {
    3 * shared_rows(dtype, rows, 128 / dtype.size()) as u32
}

/// A tile with its 16 spare bytes a row (`SharedTile`).
fn shared_rows(dtype: DType, rows: usize, width: usize) -> usize {
    rows * (width * dtype.size() + 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest cards that the kernels are built for offer 99 KiB a block.
    #[test]
    fn every_plan_fits_the_smallest_card() {
        for dtype in [DType::Float32, DType::BFloat16, DType::Float16] {
            for (width, value_width) in WIDTHS {
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
        assert_eq!(width(257, 64), None);
    }
}
