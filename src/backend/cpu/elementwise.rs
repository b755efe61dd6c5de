//! Operations on single values, run on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, math, simd::vectorise};
use crate::{
    backend::{Elementwise, RowOperations, Xielu},
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

    fn gate_halves(&self, both: &Tensor, activation: Activation) -> Result<Tensor> {
        let half = both.columns / 2;
        let mut gate = self.gather_columns(both, 0..half)?;
        let up = self.gather_columns(both, half..both.columns)?;
        self.gate(&mut gate, &up, activation)?;
        Ok(gate)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Tensors;

    /// Huang & Schlag 2024, in float64.
    fn truth(x: f64, scalars: Xielu) -> f64 {
        let Xielu {
            square,
            exponential,
            linear,
            limit,
        } = scalars;
        let beyond = f64::from(exponential) * (x.min(f64::from(limit)).exp_m1() - x);
        let side = if x > 0.0 {
            f64::from(square) * x * x
        } else {
            beyond
        };
        side + f64::from(linear) * x
    }

    #[test]
    fn xielu_is_its_definition() {
        let cpu = Cpu::new();
        let values: Vec<f32> = (-3000..=3000).map(|i| i as f32 * 4e-3).collect();
        for limit in [-1e-6, -0.3] {
            let scalars = Xielu {
                square: 0.8,
                exponential: 1.3,
                linear: 0.5,
                limit,
            };
            let mut x = cpu.upload(1, values.len(), values.clone()).expect("fits");
            cpu.xielu(&mut x, scalars).expect("computed");
            for (x, found) in values.iter().zip(x.values()) {
                let truth = truth(f64::from(*x), scalars);
                let off = (f64::from(*found) - truth).abs();
                assert!(off < 1e-6 * truth.abs().max(0.1), "{x}: {found} {truth}");
            }
        }
        let mut x = cpu.upload(1, 1, vec![f32::NAN]).expect("fits");
        let scalars = Xielu {
            square: 1.0,
            exponential: 1.0,
            linear: 1.0,
            limit: 0.0,
        };
        cpu.xielu(&mut x, scalars).expect("computed");
        assert!(x.values[0].is_nan());
    }

    #[test]
    fn a_factor_counts_for_a_head() {
        let cpu = Cpu::new();
        let mut x = cpu
            .upload(2, 6, (1..=12).map(|i| i as f32).collect())
            .expect("fits");
        let factors = cpu
            .upload(2, 3, vec![1.0, 0.0, -1.0, 2.0, 0.5, 3.0])
            .expect("fits");
        cpu.multiply_heads(&mut x, &factors).expect("computed");
        let wanted = [
            1.0, 2.0, 0.0, 0.0, -5.0, -6.0, 14.0, 16.0, 4.5, 5.0, 33.0, 36.0,
        ];
        assert_eq!(x.values(), wanted);
    }
}
