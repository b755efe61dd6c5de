//! What the tokens of a chunk have to do with each other: the matrices `M` and `P`.
#![forbid(unsafe_code)]

use super::{BLOCK, CHUNK, output, rows_of};
use crate::backend::cpu::{
    gemm::{self, Operand, Shape},
    math,
    simd::vectorise,
};

/// By the number of decays of a token.
pub(super) enum Scratch {
    /// One: it leaves the products of keys and queries as they are.
    Single { width: usize },
    /// One a key channel.
    Channels(Channels),
}

/// Rows of keys and queries that belong to one block of tokens, or to those before it.
pub(super) struct Channels {
    width: usize,
    /// Keys and queries of a block, with what is left of them since the block's first token.
    left: [Vec<f32>; 2],
    /// Keys before it, with what is left of them at the block's first token.
    right: Vec<f32>,
    /// What is left of each key of the block.
    kept: Vec<f32>,
    factors: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(channels: usize, width: usize) -> Self {
        // Of one channel that is all the same.
        if channels == 1 {
            return Self::Single { width };
        }
        let block = || vec![0.0; BLOCK * width];
        Self::Channels(Channels {
            width,
            left: [block(), block()],
            right: vec![0.0; CHUNK * width],
            kept: block(),
            factors: vec![0.0; width],
        })
    }

    /// Fills `-M` and `P`, rows of `CHUNK`; entries of later tokens become 0.
    pub(super) fn fill(
        &mut self,
        [m, p]: [&mut [f32]; 2],
        qk: [&[f32]; 2],
        logs: &[f64],
        beta: &[f32],
    ) {
        let tokens = match self {
            Self::Single { width } => {
                single([&mut *m, &mut *p], qk, *width, logs);
                logs.len()
            }
            Self::Channels(channels) => {
                let tokens = logs.len() / channels.width;
                for first in (0..tokens).step_by(BLOCK) {
                    let end = (first + BLOCK).min(tokens);
                    channels.before(first, end, [&mut *m, &mut *p], qk, logs);
                    channels.within(first, end, [&mut *m, &mut *p], qk, logs);
                }
                tokens
            }
        };
        vectorise(
            #[inline(always)]
            || {
                let rows = m.chunks_exact_mut(CHUNK).zip(p.chunks_exact_mut(CHUNK));
                for (index, (m, p)) in rows.enumerate().take(tokens) {
                    for m in &mut m[..index] {
                        *m *= -beta[index];
                    }
                    m[index..].fill(0.0);
                    p[index + 1..].fill(0.0);
                }
            },
        );
    }
}

/// Products of keys and queries with keys, times what one decay leaves.
fn single([m, p]: [&mut [f32]; 2], [q, k]: [&[f32]; 2], width: usize, logs: &[f64]) {
    let tokens = logs.len();
    let shape = Shape {
        m: tokens,
        n: tokens,
        k: width,
    };
    for (out, left) in [(&mut *m, k), (&mut *p, q)] {
        let (left, right) = (rows_of(left, width), columns_of(k, width));
        gemm::multiply(shape, output(out, CHUNK, false), left, right);
    }
    vectorise(
        #[inline(always)]
        || {
            let rows = m.chunks_exact_mut(CHUNK).zip(p.chunks_exact_mut(CHUNK));
            for ((index, (m, p)), own) in rows.enumerate().zip(logs) {
                for ((m, p), log) in m.iter_mut().zip(p).zip(&logs[..=index]) {
                    let kept = math::exp((own - log) as f32);
                    *m *= kept;
                    *p *= kept;
                }
            }
        },
    );
}

impl Channels {
    /// The block `first..end` with the tokens before it, of which what is left is the product of what is
    /// left at the block's first token and what is left of that: neither factor exceeds 1.
    fn before(
        &mut self,
        first: usize,
        end: usize,
        [m, p]: [&mut [f32]; 2],
        [q, k]: [&[f32]; 2],
        logs: &[f64],
    ) {
        if first == 0 {
            return;
        }
        let width = self.width;
        let start = &logs[first * width..(first + 1) * width];
        let block = first * width..end * width;
        vectorise(
            #[inline(always)]
            || {
                let [left_k, left_q] = &mut self.left;
                let rows = left_k
                    .chunks_exact_mut(width)
                    .zip(left_q.chunks_exact_mut(width));
                let own = k[block.clone()].chunks_exact(width);
                let own = own.zip(q[block.clone()].chunks_exact(width));
                let logs_of = logs[block.clone()].chunks_exact(width);
                for (((left_k, left_q), (k, q)), logs) in rows.zip(own).zip(logs_of) {
                    for channel in 0..width {
                        let kept = math::exp((logs[channel] - start[channel]) as f32);
                        left_k[channel] = k[channel] * kept;
                        left_q[channel] = q[channel] * kept;
                    }
                }
                let rows = self.right.chunks_exact_mut(width).take(first);
                let before = k.chunks_exact(width).zip(logs.chunks_exact(width));
                for (right, (k, logs)) in rows.zip(before) {
                    for channel in 0..width {
                        let kept = math::exp((start[channel] - logs[channel]) as f32);
                        right[channel] = k[channel] * kept;
                    }
                }
            },
        );
        let shape = Shape {
            m: end - first,
            n: first,
            k: width,
        };
        let [left_k, left_q] = &self.left;
        for (out, left) in [(m, left_k), (p, left_q)] {
            let out = output(&mut out[first * CHUNK..], CHUNK, false);
            let right = columns_of(&self.right, width);
            gemm::multiply(shape, out, rows_of(left, width), right);
        }
    }

    /// The tokens of the block `first..end` with each other, one after the other.
    fn within(
        &mut self,
        first: usize,
        end: usize,
        [m, p]: [&mut [f32]; 2],
        [q, k]: [&[f32]; 2],
        logs: &[f64],
    ) {
        let width = self.width;
        vectorise(
            #[inline(always)]
            || {
                for index in first..end {
                    let at = index * width..(index + 1) * width;
                    let (q, own) = (&q[at.clone()], &k[at.clone()]);
                    if index > first {
                        let before = &logs[at.start - width..at.start];
                        let steps = self.factors.iter_mut().zip(&logs[at]).zip(before);
                        for ((factor, log), before) in steps {
                            *factor = math::exp((log - before) as f32);
                        }
                    }
                    let (kept, new) = self.kept.split_at_mut((index - first) * width);
                    for kept in kept.chunks_exact_mut(width) {
                        for (kept, factor) in kept.iter_mut().zip(&self.factors) {
                            *kept *= factor;
                        }
                    }
                    new[..width].copy_from_slice(own);
                    for (offset, kept) in self.kept.chunks_exact(width).enumerate() {
                        if first + offset > index {
                            break;
                        }
                        let place = index * CHUNK + first + offset;
                        m[place] = dot(own, kept);
                        p[place] = dot(q, kept);
                    }
                }
            },
        );
    }
}

/// Sum of the products, in 16 lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (a, b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest = a.remainder().iter().zip(b.remainder());
    for (a, b) in a.zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = a.mul_add(*b, *lane);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest) {
        *lane = a.mul_add(*b, *lane);
    }
    lanes.iter().sum()
}

/// The rows as columns.
fn columns_of(values: &[f32], width: usize) -> Operand<'_> {
    Operand {
        values,
        row_stride: 1,
        column_stride: width,
    }
}
