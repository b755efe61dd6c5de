//! Attention without the T x T matrix, a query in each lane of the vectors.
//!
//! A panel is as many consecutive queries as a tile of [`Kernel`] has columns, those of the heads that share
//! keys beside each other: few positions, so that little of what a panel computes is masked. Keys pass in
//! tiles, softmax kept up to date (online softmax, Milakov & Gimelshein 2018; FlashAttention, Dao et al.
//! 2022): logits `[keys, queries] = K Q^T`, whose softmax goes down the columns without a sum across a
//! vector, and what it leaves is the packed operand of `[dimensions, queries] += V^T P`. Keys are
//! packed and values copied once a tile for several panels.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Sequence, math, vectorise};
use crate::backend::{
    Rows,
    cpu::kernels::{Begin, Kernel, Left, interleave, transpose},
};

/// Keys in a tile: 24 KiB of logits, three quarters of a first-level cache; whole tiles of every kernel.
const KEYS: usize = 192;

/// Values of queries and outputs of the panels that pass over the keys together: 256 KiB.
const TOGETHER: usize = 1 << 16;

/// Positions of a task at most.
pub(super) const POSITIONS: usize = 256;

/// Buffers of one worker.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[rows of a kernel]` lines interleaved.
    keys: Vec<f32>,
    /// `[KEYS, value_dim]`
    values: Vec<f32>,
    logits: Vec<f32>,
    /// `[panel][head_dim][lane]`
    queries: Vec<f32>,
    /// `[panel][value_dim][lane]`, not yet divided by the sums.
    outputs: Vec<f32>,
    /// Those of a panel as `[lane][value_dim]`.
    lines: Vec<f32>,
}

/// The heads that share a head of keys and values. Their queries are counted position by position, head by head.
#[derive(Clone, Copy)]
struct Heads<'a> {
    sequence: Sequence<'a>,
    kv_head: usize,
    /// How many.
    group: usize,
}

/// Some consecutive queries, one a lane.
struct Panel {
    first: usize,
    count: usize,
    /// Keys that the lanes see. Those without a query see what the last query sees.
    starts: [u32; 32],
    ends: [u32; 32],
    softmax: Softmax,
}

/// Of each lane the largest logit so far, and the sum of exponentials relative to it.
struct Softmax {
    max: [f32; 32],
    sum: [f32; 32],
}

/// All heads of the query positions `first..` that `out` has room for.
pub(super) fn attend(
    kernel: Kernel,
    sequence: Sequence<'_>,
    first: usize,
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let request = sequence.request;
    let positions = first..first + out.len() / (request.heads * request.value_dim);
    let size = (request.head_dim + request.value_dim) * kernel.width();
    for kv_head in 0..request.kv_heads {
        let heads = Heads {
            sequence,
            kv_head,
            group: sequence.group(),
        };
        let mut panels = heads.panels(&positions, kernel.width());
        for panels in panels.chunks_mut((TOGETHER / size).max(1)) {
            scratch.begin(kernel, heads, panels);
            scratch.pass(kernel, heads, panels);
            scratch.write(kernel, heads, panels, (positions.start, out));
        }
    }
}

impl<'a> Heads<'a> {
    fn position(self, query: usize) -> usize {
        query / self.group
    }

    fn head(self, query: usize) -> usize {
        self.kv_head * self.group + query % self.group
    }

    /// The values of a query.
    fn query(self, query: usize) -> &'a [f32] {
        let depth = self.sequence.request.head_dim;
        let (head, position) = (self.head(query), self.position(query));
        let values = self
            .sequence
            .head(self.sequence.q, head, depth, position)
            .values;
        &values[..depth]
    }

    /// All queries of some positions.
    fn panels(self, positions: &Range<usize>, width: usize) -> Vec<Panel> {
        let end = positions.end * self.group;
        (positions.start * self.group..end)
            .step_by(width)
            .map(|first| Panel::new(self, first, width.min(end - first)))
            .collect()
    }
}

impl Panel {
    fn new(heads: Heads<'_>, first: usize, count: usize) -> Self {
        let request = heads.sequence.request;
        let query = |lane: usize| first + lane.min(count - 1);
        let visible = std::array::from_fn(|lane| request.visible(heads.position(query(lane))));
        // A sink is a logit already seen, whose value is zero.
        let softmax = match request.sinks {
            Some(sinks) => Softmax {
                max: std::array::from_fn(|lane| sinks[heads.head(query(lane))]),
                sum: [1.0; 32],
            },
            None => Softmax {
                max: [f32::NEG_INFINITY; 32],
                sum: [0.0; 32],
            },
        };
        Self {
            first,
            count,
            starts: visible.each_ref().map(|keys: &Rows| keys.start as u32),
            ends: visible.each_ref().map(|keys| keys.end as u32),
            softmax,
        }
    }

    /// The keys that some of its queries see.
    fn keys(&self) -> Rows {
        self.starts[0] as usize..self.ends[self.count - 1] as usize
    }

    /// Lets every lane see the extra key, if there is one, before the keys of the tokens.
    fn see_extra(&mut self, heads: Heads<'_>, width: usize, queries: &[f32], outputs: &mut [f32]) {
        for lane in 0..self.count {
            let head = heads.head(self.first + lane);
            let Some(value) = heads.sequence.extra_value(head) else {
                return;
            };
            let query: Vec<f32> = queries[lane..].iter().step_by(width).copied().collect();
            let Some(logit) = heads.sequence.extra_logit(head, &query) else {
                return;
            };
            let (max, sum) = (&mut self.softmax.max[lane], &mut self.softmax.sum[lane]);
            let before = *max;
            *max = before.max(logit);
            let weight = math::exp(logit - *max);
            *sum = *sum * math::exp(before - *max) + weight;
            for (output, value) in outputs[lane..].iter_mut().step_by(width).zip(value) {
                *output = weight * value;
            }
        }
    }

    /// The rows of a tile of keys that some of its queries see.
    fn rows(&self, tile: usize, keys: usize) -> Rows {
        let seen = self.keys();
        seen.start.saturating_sub(tile)..keys.min(seen.end.saturating_sub(tile))
    }

    /// Makes logits of the products of the keys `first..` with all lanes, minus infinity where a lane does
    /// not see a key.
    fn finish<const W: usize>(&self, heads: Heads<'_>, first: usize, products: &mut [f32]) {
        let (sequence, request) = (heads.sequence, heads.sequence.request);
        let (rows, _) = products.as_chunks_mut::<W>();
        if let Some(cap) = request.soft_cap {
            vectorise(
                #[inline(always)]
                || {
                    for row in rows.iter_mut() {
                        for logit in row {
                            *logit = math::soft_cap(*logit, cap);
                        }
                    }
                },
            );
        }
        if let Some(alibi) = request.alibi {
            for lane in 0..self.count {
                let head = heads.head(self.first + lane);
                let bias = alibi.bias(head, first..first + rows.len(), sequence.length);
                for (row, bias) in rows.iter_mut().zip(bias) {
                    row[lane] += bias;
                }
            }
        }
        self.hide(first, rows);
        if request.chosen.is_some() {
            for (key, row) in (first..).zip(rows) {
                for (lane, logit) in row.iter_mut().enumerate().take(self.count) {
                    if !sequence.chose(heads.position(self.first + lane), key) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }

    /// Sets the logits of the keys `first..` that a lane does not see to minus infinity.
    fn hide<const W: usize>(&self, first: usize, rows: &mut [[f32; W]]) {
        // Positions grow from lane to lane, and so do both ends of what they see.
        let seen_by_all = self.starts[W - 1] as usize..self.ends[0] as usize;
        let before = seen_by_all.start.saturating_sub(first).min(rows.len());
        let after = seen_by_all.end.saturating_sub(first).max(before);
        let after = after.min(rows.len());
        for part in [0..before, after..rows.len()] {
            let key = (first + part.start) as u32;
            let rows = &mut rows[part];
            vectorise(
                #[inline(always)]
                || {
                    for (key, row) in (key..).zip(rows.iter_mut()) {
                        let ends = self.starts.iter().zip(&self.ends);
                        for (logit, (start, end)) in row.iter_mut().zip(ends) {
                            let seen = (*start <= key) & (key < *end);
                            *logit = if seen { *logit } else { f32::NEG_INFINITY };
                        }
                    }
                },
            );
        }
    }
}

impl Softmax {
    /// Turns logits of a tile into unnormalised probabilities, and what there is of the outputs with them.
    fn update<const W: usize>(&mut self, logits: &mut [f32], outputs: &mut [f32]) {
        let (rows, _) = logits.as_chunks_mut::<W>();
        let (outputs, _) = outputs.as_chunks_mut::<W>();
        let (max, sum) = (&mut self.max[..W], &mut self.sum[..W]);
        vectorise(
            #[inline(always)]
            || {
                let mut largest = [0.0; W];
                largest.copy_from_slice(max);
                for row in rows.iter() {
                    for (largest, logit) in largest.iter_mut().zip(row) {
                        *largest = if *logit > *largest { *logit } else { *largest };
                    }
                }
                let mut shift = [0.0; W];
                let mut shrink = [0.0; W];
                for lane in 0..W {
                    // Where no key was seen yet, every exponential is that of minus infinity.
                    let none = largest[lane] == f32::NEG_INFINITY;
                    shift[lane] = if none { 0.0 } else { largest[lane] };
                    shrink[lane] = math::exp(max[lane] - shift[lane]);
                }
                let mut sums = [0.0; W];
                for row in rows.iter_mut() {
                    for lane in 0..W {
                        row[lane] = math::exp_below_zero(row[lane] - shift[lane]);
                        sums[lane] += row[lane];
                    }
                }
                for lane in 0..W {
                    sum[lane] = sum[lane] * shrink[lane] + sums[lane];
                    max[lane] = largest[lane];
                }
                if shrink != [1.0; W] {
                    for output in outputs.iter_mut() {
                        for (output, shrink) in output.iter_mut().zip(&shrink) {
                            *output *= shrink;
                        }
                    }
                }
            },
        );
    }
}

impl Scratch {
    /// Packs the queries, scaled, and begins the outputs.
    fn begin(&mut self, kernel: Kernel, heads: Heads<'_>, panels: &mut [Panel]) {
        let request = heads.sequence.request;
        let (width, depth) = (kernel.width(), request.head_dim);
        self.outputs.clear();
        self.outputs
            .resize(panels.len() * request.value_dim * width, 0.0);
        self.queries.resize(panels.len() * depth * width, 0.0);
        let queries = self.queries.chunks_exact_mut(depth * width);
        let outputs = self.outputs.chunks_exact_mut(request.value_dim * width);
        for ((panel, queries), outputs) in panels.iter_mut().zip(queries).zip(outputs) {
            let line = |lane: usize| heads.query(panel.first + lane);
            interleave(line, (panel.count, depth), queries, width);
            vectorise(
                #[inline(always)]
                || {
                    for value in queries.iter_mut() {
                        *value *= request.scale;
                    }
                },
            );
            panel.see_extra(heads, width, queries, outputs);
        }
    }

    /// Runs the panels over the keys that they see.
    fn pass(&mut self, kernel: Kernel, heads: Heads<'_>, panels: &mut [Panel]) {
        // Positions grow from panel to panel, and so do both ends of what they see.
        let (Some(first), Some(last)) = (panels.first(), panels.last()) else {
            return;
        };
        let (start, end) = (first.keys().start, last.keys().end);
        for tile in (start / KEYS * KEYS..end).step_by(KEYS) {
            let keys = KEYS.min(end - tile);
            let step = self.pack(kernel, heads, tile, keys);
            for (index, panel) in panels.iter_mut().enumerate() {
                let rows = panel.rows(tile, keys);
                if !rows.is_empty() {
                    match kernel.width() {
                        32 => self.step::<32>(kernel, heads, (index, panel), (tile, rows), step),
                        _ => self.step::<16>(kernel, heads, (index, panel), (tile, rows), step),
                    }
                }
            }
        }
    }

    /// Packs a tile of keys and copies its values; says how far apart the values of two keys are.
    fn pack(&mut self, kernel: Kernel, heads: Heads<'_>, tile: usize, keys: usize) -> usize {
        let (sequence, request) = (heads.sequence, heads.sequence.request);
        let (depth, most) = (request.head_dim, kernel.rows());
        self.keys.resize(KEYS * depth, 0.0);
        let source = sequence.head(sequence.k, heads.kv_head, depth, tile);
        for first in (0..keys).step_by(most) {
            let count = most.min(keys - first);
            let line = |line: usize| &source.values[(first + line) * source.row_stride..];
            interleave(line, (count, depth), &mut self.keys[first * depth..], most);
        }
        let step = kernel.rows_read(request.value_dim);
        self.values.resize(KEYS * step, 0.0);
        let source = sequence.values(heads.kv_head, tile);
        let lines = self.values.chunks_exact_mut(step).take(keys);
        for (line, source) in lines.zip(source.values.chunks(source.row_stride)) {
            line[..request.value_dim].copy_from_slice(&source[..request.value_dim]);
        }
        step
    }

    /// One panel over a tile's rows.
    fn step<const W: usize>(
        &mut self,
        kernel: Kernel,
        heads: Heads<'_>,
        (index, panel): (usize, &mut Panel),
        (tile, rows): (usize, Rows),
        step: usize,
    ) {
        let request = heads.sequence.request;
        let (depth, value_dim, most) = (request.head_dim, request.value_dim, kernel.rows());
        self.logits.resize(KEYS * W, 0.0);
        let queries = &self.queries[index * depth * W..(index + 1) * depth * W];
        let outputs = &mut self.outputs[index * value_dim * W..(index + 1) * value_dim * W];
        let begin = rows.start / most * most;
        for first in (begin..rows.end).step_by(most) {
            let left = Left {
                values: &self.keys[first * depth..],
                step: most,
            };
            let out = &mut self.logits[first * W..];
            let count = most.min(rows.end - first);
            kernel.multiply((count, depth), left, queries, (out, W), Begin::Zero);
        }
        let logits = &mut self.logits[begin * W..rows.end * W];
        panel.finish::<W>(heads, tile + begin, logits);
        panel.softmax.update::<W>(logits, outputs);
        for first in (0..value_dim).step_by(most) {
            let left = Left {
                values: &self.values[begin * step + first..],
                step,
            };
            let count = most.min(value_dim - first);
            let out = &mut outputs[first * W..];
            let size = (count, rows.end - begin);
            kernel.multiply(size, left, logits, (out, W), Begin::Output);
        }
    }

    /// Writes the outputs, divided by the sums, to the rows of the positions `first..`.
    fn write(
        &mut self,
        kernel: Kernel,
        heads: Heads<'_>,
        panels: &[Panel],
        (first, out): (usize, &mut [f32]),
    ) {
        let request = heads.sequence.request;
        let (width, value_dim) = (kernel.width(), request.value_dim);
        self.lines.resize(width * value_dim, 0.0);
        let outputs = self.outputs.chunks_exact(value_dim * width);
        for (panel, outputs) in panels.iter().zip(outputs) {
            let line = |dimension: usize| &outputs[dimension * width..][..width];
            let size = (value_dim, width);
            transpose(line, size, &mut self.lines, value_dim);
            let lines = self.lines.chunks_exact(value_dim).take(panel.count);
            for ((query, line), sum) in (panel.first..).zip(lines).zip(&panel.softmax.sum) {
                let row = (heads.position(query) - first) * request.heads;
                let begin = (row + heads.head(query)) * value_dim;
                // A division takes as long as ten products.
                let factor = 1.0 / sum;
                for (out, value) in out[begin..begin + value_dim].iter_mut().zip(line) {
                    *out = value * factor;
                }
            }
        }
    }
}
