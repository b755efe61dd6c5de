//! Attention maps: a second walk over the queries, a block of rows at a time.
//!
//! Memory is linear in T per head; only the maps that were asked for are kept.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{QUERIES, Sequence};
use crate::{
    backend::{
        AttentionMaps,
        cpu::{
            gemm::{self, Operand, Shape},
            math,
            simd::vectorise,
        },
    },
    error::Result,
    interrupt,
};

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
}

/// The maps of one sequence.
pub(super) fn capture(sequence: Sequence<'_>) -> Result<AttentionMaps> {
    let starts: Vec<usize> = (0..sequence.length).step_by(QUERIES).collect();
    let blocks: Vec<Block> = starts
        .into_par_iter()
        .map(|first| {
            interrupt::check()?;
            Ok(block(sequence, first))
        })
        .collect::<Result<_>>()?;
    Ok(assemble(sequence, &blocks))
}

fn block(sequence: Sequence<'_>, first: usize) -> Block {
    let request = sequence.request;
    let (heads, width) = (request.heads, request.head_dim);
    let columns = request.map_columns(sequence.length);
    let extra = columns - sequence.length;
    let positions = QUERIES.min(sequence.length - first);
    let keys = first + positions;
    let size = |wanted: bool, count: usize| if wanted { count } else { 0 };
    let mut block = Block {
        first,
        positions,
        probs: vec![0.0; size(request.capture.mean, positions * columns)],
        logits: vec![0.0; size(request.capture.mean, positions * columns)],
        head_probs: vec![f32::NAN; size(request.capture.heads, heads * positions * columns)],
        head_logits: vec![f32::NAN; size(request.capture.heads, heads * positions * columns)],
        received: vec![0.0; size(request.capture.sink, heads * columns)],
    };
    let mut queries = Vec::new();
    let mut products = vec![0.0; positions * keys];
    let (mut logits, mut probs) = (Vec::new(), Vec::new());
    for head in 0..heads {
        sequence.gather_queries(first..first + positions, head..head + 1, &mut queries);
        gemm::multiply(
            Shape {
                m: positions,
                n: keys,
                k: width,
            },
            &mut products,
            keys,
            false,
            Operand {
                values: &queries,
                row_stride: width,
                column_stride: 1,
            },
            sequence.keys(head / sequence.group(), 0),
            1,
        );
        for row in 0..positions {
            let visible = request.visible(first + row);
            let products = &mut products[row * keys..(row + 1) * keys][visible.clone()];
            sequence.finish_logits(head, visible.start, products);
            logits.clear();
            logits.extend(sequence.extra_logit(head, &queries[row * width..(row + 1) * width]));
            logits.extend_from_slice(products);
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
                    block.head_logits[place].copy_from_slice(logits);
                }
                if request.capture.sink {
                    add(&mut block.received[head * columns + column..], probs);
                }
            }
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

fn add(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

fn assemble(sequence: Sequence<'_>, blocks: &[Block]) -> AttentionMaps {
    let (length, heads) = (sequence.length, sequence.request.heads);
    let columns = sequence.request.map_columns(length);
    let extra = columns - length;
    let capture = sequence.request.capture;
    let mean = |part: &dyn Fn(&Block) -> &[f32]| -> Vec<f32> {
        let mut map = Vec::with_capacity(length * columns);
        for block in blocks {
            for (row, sums) in part(block).chunks_exact(columns).enumerate() {
                let visible = sequence.request.visible(block.first + row);
                map.extend(sums.iter().enumerate().map(|(column, sum)| {
                    if column < extra || visible.contains(&(column - extra)) {
                        sum / heads as f32
                    } else {
                        f32::NAN
                    }
                }));
            }
        }
        map
    };
    let by_head = |part: &dyn Fn(&Block) -> &[f32]| -> Vec<f32> {
        let mut map = Vec::with_capacity(heads * length * columns);
        for head in 0..heads {
            for block in blocks {
                let rows = block.positions * columns;
                map.extend_from_slice(&part(block)[head * rows..(head + 1) * rows]);
            }
        }
        map
    };
    let sink = || -> Vec<f32> {
        let mut mass = vec![0.0; heads * columns];
        for block in blocks {
            add(&mut mass, &block.received);
        }
        for row in mass.chunks_exact_mut(columns) {
            let (extra, keys) = row.split_at_mut(extra);
            for value in extra {
                *value /= length as f32;
            }
            for (key, value) in keys.iter_mut().enumerate() {
                *value /= sequence.request.viewers(key, length) as f32;
            }
        }
        mass
    };
    AttentionMaps {
        probs_mean: capture.mean.then(|| mean(&|block| &block.probs)),
        logits_mean: capture.mean.then(|| mean(&|block| &block.logits)),
        probs: capture.heads.then(|| by_head(&|block| &block.head_probs)),
        logits: capture.heads.then(|| by_head(&|block| &block.head_logits)),
        sink_mass: capture.sink.then(sink),
    }
}
