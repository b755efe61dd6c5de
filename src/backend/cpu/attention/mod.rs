//! Causal multi-head attention in tiles, and the maps that can be captured from it.
#![forbid(unsafe_code)]

mod maps;
mod tiles;

use pulp::Arch;
use rayon::prelude::*;

use super::{Tensor, gemm::Operand, math};
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
    request: &'a AttentionRequest<'a, Vec<f32>>,
}

impl<'a> Sequence<'a> {
    /// Query heads that share a key/value head.
    fn group(&self) -> usize {
        self.request.heads / self.request.kv_heads
    }

    /// Head `head` (of `width` values) of `tensor` from position `first` on, as
    /// `[positions, width]`.
    fn head(&self, tensor: &'a Tensor, head: usize, width: usize, first: usize) -> Operand<'a> {
        let offset = (self.start + first) * tensor.columns + head * width;
        Operand {
            values: &tensor.values()[offset..],
            row_stride: tensor.columns,
            column_stride: 1,
        }
    }

    /// Keys of a head from position `first` on, as `[head_dim, positions]`.
    fn keys(&self, kv_head: usize, first: usize) -> Operand<'a> {
        let keys = self.head(self.k, kv_head, self.request.head_dim, first);
        Operand {
            row_stride: keys.column_stride,
            column_stride: keys.row_stride,
            ..keys
        }
    }

    /// Values of a head from position `first` on, as `[positions, value_dim]`.
    fn values(&self, kv_head: usize, first: usize) -> Operand<'a> {
        self.head(self.v, kv_head, self.request.value_dim, first)
    }

    /// Turns products q.k of one head with the keys `first..` into logits, where they differ.
    fn finish_logits(&self, head: usize, first: usize, logits: &mut [f32]) {
        if let Some(cap) = self.request.soft_cap {
            Arch::new().dispatch(
                #[inline(always)]
                || {
                    for logit in logits.iter_mut() {
                        *logit = math::soft_cap(*logit, cap);
                    }
                },
            );
        }
        if let Some(alibi) = self.request.alibi {
            let bias = alibi.bias(head, first..first + logits.len(), self.length);
            for (logit, bias) in logits.iter_mut().zip(bias) {
                *logit += bias;
            }
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
    request: &AttentionRequest<'_, Vec<f32>>,
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
        let columns = request.heads * request.value_dim;
        let (mine, others) = rest.split_at_mut(rows.len() * columns);
        rest = others;
        for (block, out) in mine.chunks_mut(QUERIES * columns).enumerate() {
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
