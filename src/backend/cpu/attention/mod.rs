//! Causal multi-head attention in tiles, and the maps that can be captured from it.
#![forbid(unsafe_code)]

mod maps;
mod tiles;

use rayon::prelude::*;

use super::{Tensor, gemm::Operand};
use crate::{
    backend::{AttentionMaps, AttentionRequest, Rows},
    error::Result,
    interrupt,
};

/// Query positions that one task works on.
const QUERIES: usize = 64;

/// Queries, keys and values of one sequence.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    v: &'a Tensor,
    /// First row in the tensors.
    start: usize,
    /// Number of positions.
    length: usize,
    request: &'a AttentionRequest,
}

impl<'a> Sequence<'a> {
    /// Query heads that share a key/value head.
    fn group(&self) -> usize {
        self.request.heads / self.request.kv_heads
    }

    /// Head `head` of `tensor` from position `first` on, as `[positions, head_dim]`.
    fn head(&self, tensor: &'a Tensor, head: usize, first: usize) -> Operand<'a> {
        let offset = (self.start + first) * tensor.columns + head * self.request.head_dim;
        Operand {
            values: &tensor.values()[offset..],
            row_stride: tensor.columns,
            column_stride: 1,
        }
    }

    /// Keys of a head from position `first` on, as `[head_dim, positions]`.
    fn keys(&self, kv_head: usize, first: usize) -> Operand<'a> {
        let keys = self.head(self.k, kv_head, first);
        Operand {
            row_stride: keys.column_stride,
            column_stride: keys.row_stride,
            ..keys
        }
    }

    /// Copies query rows, scaled, into `out` as `[positions x heads, head_dim]`: rows of a
    /// position's heads follow each other, so that heads sharing a key make one product.
    fn gather_queries(&self, positions: Rows, heads: Rows, out: &mut Vec<f32>) {
        let width = self.request.head_dim;
        out.clear();
        for position in positions {
            let row = self.q.row(self.start + position);
            for value in &row[heads.start * width..heads.end * width] {
                out.push(value * self.request.scale);
            }
        }
    }
}

/// Attention of every sequence into `out`, and the maps that were asked for.
pub(super) fn run(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sequences: &[Rows],
    request: &AttentionRequest,
    out: &mut [f32],
) -> Result<Vec<AttentionMaps>> {
    let sequence = |rows: &Rows| Sequence {
        q,
        k,
        v,
        start: rows.start,
        length: rows.len(),
        request,
    };
    let mut tasks = Vec::new();
    let mut rest = out;
    for rows in sequences {
        let (mine, others) = rest.split_at_mut(rows.len() * q.columns);
        rest = others;
        for (block, out) in mine.chunks_mut(QUERIES * q.columns).enumerate() {
            tasks.push((sequence(rows), block * QUERIES, out));
        }
    }
    tasks.into_par_iter().for_each_init(
        tiles::Scratch::default,
        |scratch, (sequence, first, out)| {
            if !interrupt::requested() {
                tiles::attend(sequence, first, out, scratch);
            }
        },
    );
    interrupt::check()?;
    if !request.capture.any() {
        return Ok(Vec::new());
    }
    sequences
        .iter()
        .map(|rows| maps::capture(sequence(rows)))
        .collect()
}
