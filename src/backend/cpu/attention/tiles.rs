//! Attention without the T x T matrix: keys in tiles, softmax kept up to date as they pass
//! (online softmax, Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022).
#![forbid(unsafe_code)]

use super::{QUERIES, Sequence};
use crate::backend::{
    Rows,
    cpu::{
        gemm::{self, Operand, Output, Shape},
        math,
        simd::vectorise,
    },
};

/// Keys in a tile. 64 x 4 query rows by 256 keys are 256 KiB of logits, half a second-level cache.
const KEYS: usize = 256;
/// Query rows (positions x heads that share a key) in one product.
const ROWS: usize = 256;

/// Buffers of one worker.
#[derive(Default)]
pub(super) struct Scratch {
    queries: Vec<f32>,
    logits: Vec<f32>,
    /// Unnormalised output `[rows, head_dim]`.
    output: Vec<f32>,
    /// Largest logit of each row so far, and the sum of exponentials relative to it.
    softmax: Vec<(f32, f32)>,
}

/// All heads of the query positions `first..` that `out` has room for.
pub(super) fn attend(sequence: Sequence<'_>, first: usize, out: &mut [f32], scratch: &mut Scratch) {
    let request = sequence.request;
    let columns = request.heads * request.value_dim;
    let positions = out.len() / columns;
    let group = sequence.group();
    let step = (ROWS / QUERIES).clamp(1, group);
    for kv_head in 0..request.kv_heads {
        for offset in (0..group).step_by(step) {
            let head = kv_head * group + offset;
            let heads = head..(head + step).min((kv_head + 1) * group);
            let count = heads.len();
            sequence.gather_queries(first..first + positions, heads, &mut scratch.queries);
            scratch.attend_heads(sequence, head, first, positions, count);
            scratch.write(out, columns, head * request.value_dim, count);
        }
    }
}

impl Scratch {
    /// Runs the gathered queries (`heads` rows a position, from `head` on) over the keys they can
    /// see.
    fn attend_heads(
        &mut self,
        sequence: Sequence<'_>,
        head: usize,
        first: usize,
        positions: usize,
        heads: usize,
    ) {
        let request = sequence.request;
        let kv_head = head / sequence.group();
        let (width, value_width) = (request.head_dim, request.value_dim);
        let rows = positions * heads;
        self.output.clear();
        self.output.resize(rows * value_width, 0.0);
        self.softmax.clear();
        self.softmax.resize(rows, (f32::NEG_INFINITY, 0.0));
        if let Some(sinks) = request.sinks {
            // A sink is a logit already seen, whose value is zero.
            for (row, state) in self.softmax.iter_mut().enumerate() {
                *state = (sinks[head + row % heads], 1.0);
            }
        }
        self.see_extra(sequence, head, heads);
        let changed = request.soft_cap.is_some() || request.alibi.is_some();
        let end = first + positions;
        // The first position sees furthest back.
        let start = request.visible(first).start / KEYS * KEYS;
        for tile in (start..end).step_by(KEYS) {
            let keys = KEYS.min(end - tile);
            self.logits.resize(rows * KEYS, 0.0);
            gemm::multiply(
                Shape {
                    m: rows,
                    n: keys,
                    k: width,
                },
                Output {
                    values: &mut self.logits,
                    row_stride: keys,
                    accumulate: false,
                },
                Operand {
                    values: &self.queries,
                    row_stride: width,
                    column_stride: 1,
                },
                sequence.keys(kv_head, tile),
            );
            for row in 0..rows {
                let visible = request.visible(first + row / heads);
                let visible = visible.start.saturating_sub(tile).min(keys)
                    ..visible.end.saturating_sub(tile).min(keys);
                let logits = &mut self.logits[row * keys..(row + 1) * keys];
                if changed {
                    sequence.finish_logits(head + row % heads, tile, logits);
                }
                let seen = visible.start..visible.end.max(visible.start);
                sequence.hide_unchosen(first + row / heads, tile + seen.start, &mut logits[seen]);
                let output = &mut self.output[row * value_width..(row + 1) * value_width];
                update(&mut self.softmax[row], logits, visible, output);
            }
            gemm::multiply(
                Shape {
                    m: rows,
                    n: value_width,
                    k: keys,
                },
                Output {
                    values: &mut self.output,
                    row_stride: value_width,
                    accumulate: true,
                },
                Operand {
                    values: &self.logits,
                    row_stride: keys,
                    column_stride: 1,
                },
                sequence.values(kv_head, tile),
            );
        }
    }

    /// Lets every row see the extra key, if there is one, before the keys of the tokens.
    fn see_extra(&mut self, sequence: Sequence<'_>, head: usize, heads: usize) {
        let width = sequence.request.value_dim;
        let queries = self.queries.chunks_exact(sequence.request.head_dim);
        let outputs = self.output.chunks_exact_mut(width);
        let rows = queries.zip(outputs).zip(&mut self.softmax);
        for (row, ((query, output), (max, sum))) in rows.enumerate() {
            let head = head + row % heads;
            let (Some(logit), Some(value)) = (
                sequence.extra_logit(head, query),
                sequence.extra_value(head),
            ) else {
                return;
            };
            let before = *max;
            *max = before.max(logit);
            let weight = math::exp(logit - *max);
            *sum = *sum * math::exp(before - *max) + weight;
            for (output, value) in output.iter_mut().zip(value) {
                *output = weight * value;
            }
        }
    }

    /// Divides by the softmax sums and places the heads in their columns.
    fn write(&self, out: &mut [f32], columns: usize, start: usize, heads: usize) {
        let width = self.output.len() / self.softmax.len();
        for (row, (output, (_, sum))) in self
            .output
            .chunks_exact(width)
            .zip(&self.softmax)
            .enumerate()
        {
            let place = row / heads * columns + start + row % heads * width;
            for (out, value) in out[place..place + width].iter_mut().zip(output) {
                *out = value / sum;
            }
        }
    }
}

/// Turns a tile's logits of one row into unnormalised probabilities; only `visible` ones count.
fn update(state: &mut (f32, f32), logits: &mut [f32], visible: Rows, output: &mut [f32]) {
    logits[visible.end..].fill(0.0);
    logits[..visible.start].fill(0.0);
    let seen = &mut logits[visible];
    if seen.is_empty() {
        return;
    }
    vectorise(
        #[inline(always)]
        || {
            let max = state.0.max(math::max(seen));
            if max == f32::NEG_INFINITY {
                // No key of the tile was chosen, nor any before.
                seen.fill(0.0);
                return;
            }
            if max > state.0 {
                let shrink = math::exp(state.0 - max);
                state.1 *= shrink;
                for value in output.iter_mut() {
                    *value *= shrink;
                }
                state.0 = max;
            }
            state.1 += math::exp_sum(seen, max);
        },
    );
}
