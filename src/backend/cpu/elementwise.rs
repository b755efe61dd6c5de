//! Operations on single values, run on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{math, simd::vectorise};
use crate::{
    backend::Rotation,
    model::{rope::RopeTable, spec::Activation},
};

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
    with_function(activation, Activate { x });
}

/// `gate = activation(gate) * up`
pub(super) fn gate(gate: &mut [f32], up: &[f32], activation: Activation) {
    with_function(activation, Gate { gate, up });
}

/// Work that is compiled for each activation function; `f` is `#[inline(always)]`.
trait WithFunction {
    fn run(self, f: impl Fn(f32) -> f32 + Sync);
}

struct Activate<'x> {
    x: &'x mut [f32],
}

impl WithFunction for Activate<'_> {
    fn run(self, f: impl Fn(f32) -> f32 + Sync) {
        map(self.x, f);
    }
}

struct Gate<'x> {
    gate: &'x mut [f32],
    up: &'x [f32],
}

impl WithFunction for Gate<'_> {
    fn run(self, f: impl Fn(f32) -> f32 + Sync) {
        let chunks = self
            .gate
            .par_chunks_mut(CHUNK)
            .zip(self.up.par_chunks(CHUNK));
        chunks.for_each(|(gate, up)| {
            vectorise(
                #[inline(always)]
                || {
                    for (gate, up) in gate.iter_mut().zip(up) {
                        *gate = f(*gate) * up;
                    }
                },
            );
        });
    }
}

fn with_function(activation: Activation, work: impl WithFunction) {
    match activation {
        Activation::Silu => work.run(math::silu),
        Activation::GeluErf => work.run(math::gelu_erf),
        Activation::GeluTanh => work.run(math::gelu_tanh),
        Activation::ScaledSilu(factor) => work.run(
            #[inline(always)]
            |x| math::scaled_silu(x, factor),
        ),
        Activation::Sigmoid => work.run(math::sigmoid),
        Activation::Relu => work.run(relu),
        Activation::ReluSquared => work.run(
            #[inline(always)]
            |x| relu(x) * relu(x),
        ),
    }
}

/// Not `max`, which would turn NaN into 0.
#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `x = f(x)`; `f` must be `#[inline(always)]`.
pub(super) fn map(x: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
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

/// Rotates a part of each head, pairing its halves or its neighbours.
pub(super) fn rotate(x: &mut [f32], columns: usize, rotation: Rotation, table: &RopeTable) {
    let pairs = table.pairs;
    x.par_chunks_mut(columns)
        .enumerate()
        .for_each(|(position, row)| {
            let cos = &table.cos[position * pairs..(position + 1) * pairs];
            let sin = &table.sin[position * pairs..(position + 1) * pairs];
            vectorise(
                #[inline(always)]
                || {
                    for head in row.chunks_exact_mut(rotation.head_dim) {
                        let part = &mut head[rotation.first..rotation.first + 2 * pairs];
                        if table.interleaved {
                            rotate_neighbours(part, cos, sin);
                        } else {
                            rotate_halves(part, cos, sin);
                        }
                    }
                },
            );
        });
}

/// Dimension `i` with `i + pairs`.
#[inline(always)]
fn rotate_halves(part: &mut [f32], cos: &[f32], sin: &[f32]) {
    let pairs = cos.len();
    let (first, second) = part.split_at_mut(pairs);
    let second = &mut second[..pairs];
    for i in 0..pairs {
        let (a, b) = (first[i], second[i]);
        first[i] = a * cos[i] - b * sin[i];
        second[i] = b * cos[i] + a * sin[i];
    }
}

/// Dimension `2i` with `2i + 1`.
#[inline(always)]
fn rotate_neighbours(part: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, cos), sin) in part.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * cos - b * sin;
        pair[1] = b * cos + a * sin;
    }
}
