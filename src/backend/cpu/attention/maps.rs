//! Attention maps, and the parts of the output that come from some keys and from the others: a second walk over the
//! queries, a block of rows at a time.
//!
//! As many blocks as there are workers are in memory at once, so that beyond the maps asked for
//! memory is linear in T per head. They are added up in the order of the queries: sums do not depend
//! on the number of workers.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{QUERIES, Sequence};
use crate::{
    backend::{
        AttentionMaps, OutputParts,
        cpu::{
            gemm::{self, Operand, Output, Shape},
            math,
            simd::vectorise,
        },
    },
    error::Result,
    interrupt,
};

/// Some keys of a sequence, and where what they give is written.
pub(super) struct Subset<'a> {
    /// Ascending positions.
    pub(super) keys: &'a [usize],
    /// `[T, heads * value_dim]` each.
    pub(super) out: OutputParts<&'a mut [f32]>,
}

/// Maps of the query positions of one block.
struct Block {
    first: usize,
    positions: usize,
    /// `[positions, columns]` sums over heads.
    probs: Vec<f32>,
    logits: Vec<f32>,
    /// `[heads, positions, columns]`
    head_probs: Vec<f32>,
    head_logits: Vec<f32>,
    /// `[heads, columns]` sums over the block's queries.
    received: Vec<f32>,
    /// `[heads]`: the largest logits.
    largest: Vec<f32>,
    /// `[positions, heads * value_dim]` each: what the subset and what the others give.
    parts: OutputParts<Vec<f32>>,
}

/// The maps of one sequence, and what the keys of `subset` give to its queries.
pub(super) fn capture(
    sequence: Sequence<'_>,
    mut subset: Option<Subset<'_>>,
) -> Result<AttentionMaps> {
    let starts: Vec<usize> = (0..sequence.length).step_by(QUERIES).collect();
    let mut maps = empty(sequence);
    for wave in starts.chunks(rayon::current_num_threads()) {
        let keys = subset.as_ref().map(|subset| subset.keys);
        let blocks: Vec<Block> = wave
            .par_iter()
            .map(|first| {
                interrupt::check()?;
                Ok(block(sequence, *first, keys))
            })
            .collect::<Result<_>>()?;
        for block in &blocks {
            take(sequence, &mut maps, block);
            if let Some(subset) = &mut subset {
                let columns = sequence.request.heads * sequence.request.value_dim;
                let start = block.first * columns;
                for (out, part) in [
                    (&mut subset.out.subset, &block.parts.subset),
                    (&mut subset.out.rest, &block.parts.rest),
                ] {
                    out[start..start + part.len()].copy_from_slice(part);
                }
            }
        }
    }
    if let Some(mass) = &mut maps.sink_mass {
        let columns = sequence.request.map_columns(sequence.length);
        let viewers = (0..sequence.length).map(|key| sequence.viewers(key) as u32);
        let viewers: Vec<u32> = viewers.collect();
        for row in mass.chunks_exact_mut(columns) {
            let (extra, keys) = row.split_at_mut(columns - sequence.length);
            for value in extra {
                *value /= sequence.length as f32;
            }
            for (value, viewers) in keys.iter_mut().zip(&viewers) {
                *value /= (*viewers).max(1) as f32;
            }
        }
        maps.viewers = Some(viewers);
    }
    Ok(maps)
}

fn block(sequence: Sequence<'_>, first: usize, subset: Option<&[usize]>) -> Block {
    let request = sequence.request;
    let (heads, width) = (request.heads, request.head_dim);
    let value_width = request.value_dim;
    let columns = request.map_columns(sequence.length);
    let extra = columns - sequence.length;
    let positions = QUERIES.min(sequence.length - first);
    let keys = first + positions;
    let size = |wanted: bool, count: usize| if wanted { count } else { 0 };
    let part = || vec![0.0; size(subset.is_some(), positions * heads * value_width)];
    let mut block = Block {
        first,
        positions,
        probs: vec![0.0; size(request.capture.mean, positions * columns)],
        logits: vec![0.0; size(request.capture.mean, positions * columns)],
        head_probs: vec![f32::NAN; size(request.capture.heads, heads * positions * columns)],
        head_logits: vec![f32::NAN; size(request.capture.heads, heads * positions * columns)],
        received: vec![0.0; size(request.capture.sink, heads * columns)],
        largest: vec![f32::NEG_INFINITY; size(request.capture.sink, heads)],
        parts: OutputParts {
            subset: part(),
            rest: part(),
        },
    };
    let mut queries = Vec::new();
    let mut products = vec![0.0; positions * keys];
    let (mut logits, mut probs) = (Vec::new(), Vec::new());
    for head in 0..heads {
        let kv_head = head / sequence.group();
        sequence.gather_queries(first..first + positions, head..head + 1, &mut queries);
        gemm::multiply(
            Shape {
                m: positions,
                n: keys,
                k: width,
            },
            Output {
                values: &mut products,
                row_stride: keys,
                accumulate: false,
            },
            Operand {
                values: &queries,
                row_stride: width,
                column_stride: 1,
            },
            sequence.keys(kv_head, 0),
        );
        for row in 0..positions {
            let visible = request.visible(first + row);
            let own = &mut products[row * keys..(row + 1) * keys][visible.clone()];
            sequence.finish_logits(head, visible.start, own);
            sequence.hide_unchosen(first + row, visible.start, own);
            logits.clear();
            logits.extend(sequence.extra_logit(head, &queries[row * width..(row + 1) * width]));
            logits.extend_from_slice(own);
            if request.capture.sink {
                block.largest[head] = block.largest[head].max(math::max(&logits));
            }
            softmax(&logits, request.sinks.map(|sinks| sinks[head]), &mut probs);
            // What the row sees is the extra column, if there is one, and a run of the others.
            let parts = [(0, 0..extra), (extra + visible.start, extra..logits.len())];
            for (column, part) in parts {
                let (probs, logits) = (&probs[part.clone()], &logits[part]);
                if request.capture.mean {
                    let place = row * columns + column;
                    add(&mut block.probs[place..], probs);
                    add(&mut block.logits[place..], logits);
                }
                if request.capture.heads {
                    let start = (head * positions + row) * columns + column;
                    let place = start..start + probs.len();
                    block.head_probs[place.clone()].copy_from_slice(probs);
                    block.head_logits[place.clone()].copy_from_slice(logits);
                    if request.chosen.is_some() {
                        hide(&mut block.head_probs[place.clone()], logits);
                        hide(&mut block.head_logits[place], logits);
                    }
                }
                if request.capture.sink {
                    add(&mut block.received[head * columns + column..], probs);
                }
            }
            if let Some(subset) = subset {
                let start = (row * heads + head) * value_width;
                let place = start..start + value_width;
                let followed = &mut block.parts.subset[place.clone()];
                if let Some(value) = sequence.extra_value(head) {
                    add_scaled(&mut block.parts.rest[place], value, probs[0]);
                }
                // What the others give is a product of the block's rows with the values.
                let row = &mut products[row * keys..(row + 1) * keys];
                row.fill(0.0);
                row[visible.clone()].copy_from_slice(&probs[extra..]);
                for key in subset.iter().filter(|key| visible.contains(key)) {
                    let value = &sequence.values(kv_head, *key).values[..value_width];
                    add_scaled(followed, value, std::mem::take(&mut row[*key]));
                }
            }
        }
        if subset.is_some() {
            gemm::multiply(
                Shape {
                    m: positions,
                    n: value_width,
                    k: keys,
                },
                Output {
                    values: &mut block.parts.rest[head * value_width..],
                    row_stride: heads * value_width,
                    accumulate: true,
                },
                Operand {
                    values: &products,
                    row_stride: keys,
                    column_stride: 1,
                },
                sequence.values(kv_head, 0),
            );
        }
    }
    block
}

/// Softmax of the logits, of which `sink` is one more that is not kept.
fn softmax(logits: &[f32], sink: Option<f32>, probs: &mut Vec<f32>) {
    probs.clear();
    probs.extend_from_slice(logits);
    let sink = sink.unwrap_or(f32::NEG_INFINITY);
    vectorise(
        #[inline(always)]
        || {
            let max = math::max(probs).max(sink);
            let sum = math::exp_sum(probs, max);
            let inverse = 1.0 / (sum + math::exp(sink - max));
            for value in probs.iter_mut() {
                *value *= inverse;
            }
        },
    );
}

/// Makes NaN of the entries whose logits say that their keys were not chosen.
fn hide(entries: &mut [f32], logits: &[f32]) {
    for (entry, logit) in entries.iter_mut().zip(logits) {
        if *logit == f32::NEG_INFINITY {
            *entry = f32::NAN;
        }
    }
}

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

/// `sum += values * factor`
fn add_scaled(sum: &mut [f32], values: &[f32], factor: f32) {
    vectorise(
        #[inline(always)]
        || {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value * factor;
            }
        },
    );
}

/// The maps that are asked for, with every entry hidden.
fn empty(sequence: Sequence<'_>) -> AttentionMaps {
    let (length, heads) = (sequence.length, sequence.request.heads);
    let columns = sequence.request.map_columns(length);
    let capture = sequence.request.capture;
    let hidden = |wanted: bool, count: usize| wanted.then(|| vec![f32::NAN; count]);
    AttentionMaps {
        probs_mean: hidden(capture.mean, length * columns),
        logits_mean: hidden(capture.mean, length * columns),
        probs: hidden(capture.heads, heads * length * columns),
        logits: hidden(capture.heads, heads * length * columns),
        sink_mass: capture.sink.then(|| vec![0.0; heads * columns]),
        viewers: None,
        max_logit: capture.sink.then(|| vec![f32::NEG_INFINITY; heads]),
    }
}

/// Puts a block into its place in the maps.
fn take(sequence: Sequence<'_>, maps: &mut AttentionMaps, block: &Block) {
    let (length, heads) = (sequence.length, sequence.request.heads);
    let columns = sequence.request.map_columns(length);
    let extra = columns - length;
    for (map, sums) in [
        (&mut maps.probs_mean, &block.probs),
        (&mut maps.logits_mean, &block.logits),
    ] {
        let Some(map) = map else { continue };
        let rows = map[block.first * columns..].chunks_exact_mut(columns);
        for (row, (out, sums)) in rows.zip(sums.chunks_exact(columns)).enumerate() {
            let visible = sequence.request.visible(block.first + row);
            for column in 0..extra {
                out[column] = sums[column] / heads as f32;
            }
            for key in visible.filter(|key| sequence.chose(block.first + row, *key)) {
                out[extra + key] = sums[extra + key] / heads as f32;
            }
        }
    }
    for (map, part) in [
        (&mut maps.probs, &block.head_probs),
        (&mut maps.logits, &block.head_logits),
    ] {
        let Some(map) = map else { continue };
        let size = block.positions * columns;
        for (head, part) in part.chunks_exact(size).enumerate() {
            let start = (head * length + block.first) * columns;
            map[start..start + size].copy_from_slice(part);
        }
    }
    if let Some(mass) = &mut maps.sink_mass {
        add(mass, &block.received);
    }
    if let Some(largest) = &mut maps.max_logit {
        for (largest, part) in largest.iter_mut().zip(&block.largest) {
            *largest = largest.max(*part);
        }
    }
}
