//! Operations on single values, run on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, math, simd::vectorise};
use crate::{
    backend::{Elementwise, Xielu},
    error::Result,
    model::spec::Activation,
};

/// Values a thread takes at a time: 64 KiB, well inside the second-level cache.
const CHUNK: usize = 1 << 14;

impl Elementwise for Cpu {
    fn activate(&self, x: &mut Tensor, activation: Activation) -> Result<()> {
        with_function(activation, Activate { x: &mut x.values });
        Ok(())
    }

    fn xielu(&self, x: &mut Tensor, scalars: Xielu) -> Result<()> {
        map(
            &mut x.values,
            #[inline(always)]
            move |x| {
                let positive = scalars.square * x * x;
                // Not `min`, which would hide a NaN.
                let exponent = if x > scalars.limit { scalars.limit } else { x };
                let negative = (math::exp_m1(exponent) - x) * scalars.exponential;
                scalars.linear * x + if x > 0.0 { positive } else { negative }
            },
        );
        Ok(())
    }

    fn gate(&self, gate: &mut Tensor, up: &Tensor, activation: Activation) -> Result<()> {
        let work = Gate {
            gate: &mut gate.values,
            up: &up.values,
        };
        with_function(activation, work);
        Ok(())
    }

    fn multiply(&self, x: &mut Tensor, other: &Tensor) -> Result<()> {
        combine(&mut x.values, &other.values, |a, b| a * b);
        Ok(())
    }

    fn multiply_heads(&self, x: &mut Tensor, factors: &Tensor) -> Result<()> {
        let width = x.columns / factors.columns;
        let rows = x.values.par_chunks_mut(x.columns);
        let factors = factors.values.par_chunks(factors.columns);
        rows.zip(factors).for_each(|(row, factors)| {
            for (head, factor) in row.chunks_exact_mut(width).zip(factors) {
                head.iter_mut().for_each(|x| *x *= factor);
            }
        });
        Ok(())
    }

    fn add(&self, x: &mut Tensor, other: &Tensor) -> Result<()> {
        combine(&mut x.values, &other.values, |a, b| a + b);
        Ok(())
    }

    fn affine(&self, x: &mut Tensor, factor: f32, offset: f32) -> Result<()> {
        map(
            &mut x.values,
            #[inline(always)]
            |x| x * factor + offset,
        );
        Ok(())
    }

    fn clamp(&self, x: &mut Tensor, low: f32, high: f32) -> Result<()> {
        map(
            &mut x.values,
            #[inline(always)]
            move |x| math::clamp(x, low, high),
        );
        Ok(())
    }
}

/// `x = f(x, y)`
fn combine(x: &mut [f32], y: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) {
    x.par_chunks_mut(CHUNK)
        .zip(y.par_chunks(CHUNK))
        .for_each(|(x, y)| {
            for (x, y) in x.iter_mut().zip(y) {
                *x = f(*x, *y);
            }
        });
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
        Activation::Softplus => work.run(math::softplus),
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
