//! Operations on single values, run on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{math, simd::vectorise};
use crate::model::{rope::RopeTable, spec::Activation};

/// Values a thread takes at a time: 64 KiB, well inside the second-level cache.
const CHUNK: usize = 1 << 14;

/// Writes `row` into every row of `x`.
pub(super) fn fill_rows(x: &mut [f32], row: &[f32]) {
    x.par_chunks_mut(row.len().max(1))
        .for_each(|out| out.copy_from_slice(row));
}

/// `x = f(x, y)`
pub(super) fn combine(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    x.par_chunks_mut(CHUNK)
        .zip(y.par_chunks(CHUNK))
        .for_each(|(x, y)| {
            for (x, y) in x.iter_mut().zip(y) {
                *x = f(*x, *y);
            }
        });
}

/// Applies the activation.
pub(super) fn activate(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Silu => map(x, math::silu),
        Activation::GeluErf => map(x, math::gelu_erf),
        Activation::GeluTanh => map(x, math::gelu_tanh),
        // Not `max`, which would turn NaN into 0.
        Activation::Relu => map(x, |x| if x < 0.0 { 0.0 } else { x }),
    }
}

fn map(x: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    x.par_chunks_mut(CHUNK).for_each(|chunk| {
        vectorise(
            #[inline(always)]
            || {
                for value in chunk.iter_mut() {
                    *value = f(*value);
                }
            },
        );
    });
}

/// Rotates the first `2 * pairs` dimensions of each head, dimension `i` with `i + pairs`.
pub(super) fn rotate(x: &mut [f32], columns: usize, head_dim: usize, table: &RopeTable) {
    let pairs = table.pairs;
    x.par_chunks_mut(columns)
        .enumerate()
        .for_each(|(position, row)| {
            let cos = &table.cos[position * pairs..(position + 1) * pairs];
            let sin = &table.sin[position * pairs..(position + 1) * pairs];
            vectorise(
                #[inline(always)]
                || {
                    for head in row.chunks_exact_mut(head_dim) {
                        let (first, rest) = head.split_at_mut(pairs);
                        let second = &mut rest[..pairs];
                        for i in 0..pairs {
                            let (a, b) = (first[i], second[i]);
                            first[i] = a * cos[i] - b * sin[i];
                            second[i] = b * cos[i] + a * sin[i];
                        }
                    }
                },
            );
        });
}
