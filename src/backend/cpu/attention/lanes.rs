//! Attention without the T x T matrix, a query in each lane of the vectors.
//!
//! A panel is as many consecutive positions of one head as a tile of [`Kernel`] has columns. Keys pass in
//! tiles, softmax kept up to date (online softmax, Milakov & Gimelshein 2018; FlashAttention, Dao et al.
//! 2022): logits `[keys, queries] = K Q^T`, whose softmax goes down the columns without a sum across a
//! vector, and what it leaves is the packed operand of `[dimensions, queries] += V^T P`. Keys are
//! packed and values copied once a tile for several panels, those of all heads that share them.
#![forbid(unsafe_code)]

use super::{Sequence, math, vectorise};
use crate::backend::{
    Rows,
    cpu::kernels::{Begin, Kernel, Left, interleave},
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
}

/// Some positions of one head.
struct Panel {
    head: usize,
    /// The first.
    position: usize,
    count: usize,
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
    let columns = request.heads * request.value_dim;
    let end = first + out.len() / columns;
    let size = (request.head_dim + request.value_dim) * kernel.width();
    for kv_head in 0..request.kv_heads {
        let heads = kv_head * sequence.group()..(kv_head + 1) * sequence.group();
        let mut panels: Vec<Panel> = heads
            .flat_map(|head| {
                (first..end).step_by(kernel.width()).map(move |position| {
                    let count = kernel.width().min(end - position);
                    Panel::new(sequence, head, position, count)
                })
            })
            .collect();
        for panels in panels.chunks_mut((TOGETHER / size).max(1)) {
            scratch.begin(kernel, sequence, panels);
            scratch.pass(kernel, sequence, kv_head, panels);
            for (panel, outputs) in panels.iter().zip(scratch.outputs_of(kernel, sequence)) {
                panel.write(kernel, request.value_dim, outputs, first, columns, out);
            }
        }
    }
}

impl Panel {
    fn new(sequence: Sequence<'_>, head: usize, position: usize, count: usize) -> Self {
        // A sink is a logit already seen, whose value is zero.
        let (max, sum) = match sequence.request.sinks {
            Some(sinks) => (sinks[head], 1.0),
            None => (f32::NEG_INFINITY, 0.0),
        };
        Self {
            head,
            position,
            count,
            softmax: Softmax {
                max: [max; 32],
                sum: [sum; 32],
            },
        }
    }

    /// Lets every lane see the extra key, if there is one, before the keys of the tokens.
    fn see_extra(
        &mut self,
        sequence: Sequence<'_>,
        width: usize,
        queries: &[f32],
        outputs: &mut [f32],
    ) {
        let Some(value) = sequence.extra_value(self.head) else {
            return;
        };
        for lane in 0..self.count {
            let query: Vec<f32> = queries[lane..].iter().step_by(width).copied().collect();
            let Some(logit) = sequence.extra_logit(self.head, &query) else {
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

    /// The rows of a tile of keys that some of its positions see.
    fn rows(&self, sequence: Sequence<'_>, tile: usize, keys: usize) -> Rows {
        let last = self.position + self.count - 1;
        let start = sequence.request.visible(self.position).start;
        start.saturating_sub(tile)..keys.min((last + 1).saturating_sub(tile))
    }

    /// Makes logits of the products of the keys `first..` with all lanes, minus infinity where a lane does
    /// not see a key.
    fn finish<const W: usize>(&self, sequence: Sequence<'_>, first: usize, products: &mut [f32]) {
        let request = sequence.request;
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
            let bias = alibi.bias(self.head, first..first + rows.len(), sequence.length);
            for (row, bias) in rows.iter_mut().zip(bias) {
                row.iter_mut().for_each(|logit| *logit += bias);
            }
        }
        let visible = |lane: usize| request.visible(self.position + lane.min(self.count - 1));
        let starts: [u32; W] = std::array::from_fn(|lane| visible(lane).start as u32);
        let ends: [u32; W] = std::array::from_fn(|lane| visible(lane).end as u32);
        let all = starts[W - 1] as usize..ends[0] as usize;
        vectorise(
            #[inline(always)]
            || {
                for (key, row) in (first..).zip(rows.iter_mut()) {
                    if all.contains(&key) {
                        continue;
                    }
                    let key = key as u32;
                    for ((logit, start), end) in row.iter_mut().zip(&starts).zip(&ends) {
                        let seen = (*start <= key) & (key < *end);
                        *logit = if seen { *logit } else { f32::NEG_INFINITY };
                    }
                }
            },
        );
        if request.chosen.is_some() {
            for (key, row) in (first..).zip(rows) {
                for (lane, logit) in row.iter_mut().enumerate().take(self.count) {
                    if !sequence.chose(self.position + lane, key) {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }

    /// Divides by the sums and places the lanes in their rows.
    fn write(
        &self,
        kernel: Kernel,
        value_dim: usize,
        outputs: &[f32],
        first: usize,
        columns: usize,
        out: &mut [f32],
    ) {
        for lane in 0..self.count {
            let place = (self.position - first + lane) * columns + self.head * value_dim;
            let sum = self.softmax.sum[lane];
            let values = outputs[lane..].iter().step_by(kernel.width());
            for (out, value) in out[place..place + value_dim].iter_mut().zip(values) {
                *out = value / sum;
            }
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
                        row[lane] = math::exp(row[lane] - shift[lane]);
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
    fn begin(&mut self, kernel: Kernel, sequence: Sequence<'_>, panels: &mut [Panel]) {
        let request = sequence.request;
        let (width, depth) = (kernel.width(), request.head_dim);
        self.outputs.clear();
        self.outputs
            .resize(panels.len() * request.value_dim * width, 0.0);
        self.queries.resize(panels.len() * depth * width, 0.0);
        let queries = self.queries.chunks_exact_mut(depth * width);
        let outputs = self.outputs.chunks_exact_mut(request.value_dim * width);
        for ((panel, queries), outputs) in panels.iter_mut().zip(queries).zip(outputs) {
            let source = sequence.head(sequence.q, panel.head, depth, panel.position);
            let source = (source.values, source.row_stride);
            interleave(source, (panel.count, depth), queries, width);
            queries.iter_mut().for_each(|value| *value *= request.scale);
            panel.see_extra(sequence, width, queries, outputs);
        }
    }

    fn outputs_of(&self, kernel: Kernel, sequence: Sequence<'_>) -> impl Iterator<Item = &[f32]> {
        let size = sequence.request.value_dim * kernel.width();
        self.outputs.chunks_exact(size)
    }

    /// Runs the panels over the keys that they see.
    fn pass(
        &mut self,
        kernel: Kernel,
        sequence: Sequence<'_>,
        kv_head: usize,
        panels: &mut [Panel],
    ) {
        let request = sequence.request;
        let bounds = panels.iter().map(|panel| {
            let start = request.visible(panel.position).start;
            (start, panel.position + panel.count)
        });
        let (start, end) = bounds.fold((usize::MAX, 0), |(start, end), (first, last)| {
            (start.min(first), end.max(last))
        });
        for tile in (start / KEYS * KEYS..end).step_by(KEYS) {
            let keys = KEYS.min(end - tile);
            let step = self.pack(kernel, sequence, kv_head, tile, keys);
            for (index, panel) in panels.iter_mut().enumerate() {
                let rows = panel.rows(sequence, tile, keys);
                if !rows.is_empty() {
                    match kernel.width() {
                        32 => self.step::<32>(kernel, sequence, (index, panel), (tile, rows), step),
                        _ => self.step::<16>(kernel, sequence, (index, panel), (tile, rows), step),
                    }
                }
            }
        }
    }

    /// Packs a tile of keys and copies its values; says how far apart the values of two keys are.
    fn pack(
        &mut self,
        kernel: Kernel,
        sequence: Sequence<'_>,
        kv_head: usize,
        tile: usize,
        keys: usize,
    ) -> usize {
        let request = sequence.request;
        let (depth, most) = (request.head_dim, kernel.rows());
        self.keys.resize(KEYS * depth, 0.0);
        let source = sequence.head(sequence.k, kv_head, depth, tile);
        for first in (0..keys).step_by(most) {
            let count = most.min(keys - first);
            let lines = (
                &source.values[first * source.row_stride..],
                source.row_stride,
            );
            let out = &mut self.keys[first * depth..];
            interleave(lines, (count, depth), out, most);
        }
        let step = kernel.rows_read(request.value_dim);
        self.values.resize(KEYS * step, 0.0);
        let source = sequence.values(kv_head, tile);
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
        sequence: Sequence<'_>,
        (index, panel): (usize, &mut Panel),
        (tile, rows): (usize, Rows),
        step: usize,
    ) {
        let request = sequence.request;
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
        panel.finish::<W>(sequence, tile + begin, logits);
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
}
