//! RMSNorm, LayerNorm and DyT, a row at a time.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, math, simd::vectorise};
use crate::{
    backend::{NormWeights, Norms, Target},
    error::Result,
    model::spec::NormKind,
};

impl Norms for Cpu {
    fn norm(&self, x: &Tensor, norm: &NormWeights<Vec<f32>>, _target: Target) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        normalise(x.values(), norm, &mut out.values);
        Ok(out)
    }

    fn add_norm(
        &self,
        x: &mut Tensor,
        other: &Tensor,
        norm: &NormWeights<Vec<f32>>,
    ) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        add_normalise(&mut x.values, other.values(), norm, &mut out.values);
        Ok(out)
    }
}

/// The part of a learned vector for group `index`: the vector covers one group or several.
fn part(learned: Option<&Vec<f32>>, index: usize, width: usize) -> Option<&[f32]> {
    learned.map(|values| {
        let start = index % (values.len() / width) * width;
        &values[start..start + width]
    })
}

/// The factor inside the tanh for group `index`.
fn alpha(learned: Option<&Vec<f32>>, index: usize) -> f32 {
    learned.map_or(1.0, |values| values[index % values.len()])
}

/// Distances from `mean`, divided by their root mean square.
#[inline(always)]
fn standardise(x: &[f32], mean: f32, epsilon: f32, out: &mut [f32]) {
    let variance = math::sum_of_squares(x, mean) / x.len() as f32;
    let inverse = 1.0 / (variance + epsilon).sqrt();
    for (out, x) in out.iter_mut().zip(x) {
        *out = (x - mean) * inverse;
    }
}

/// Normalises each group of `norm.width` values of `x` into `out`.
fn normalise(x: &[f32], norm: &NormWeights<Vec<f32>>, out: &mut [f32]) {
    out.par_chunks_mut(norm.width)
        .zip(x.par_chunks(norm.width))
        .enumerate()
        .for_each(|(index, (out, x))| {
            let group = Group::new(norm, index);
            vectorise(
                #[inline(always)]
                || group.normalise(x, out),
            );
        });
}

/// `x += other`, then [`normalise`], while the sum is in the cache.
fn add_normalise(x: &mut [f32], other: &[f32], norm: &NormWeights<Vec<f32>>, out: &mut [f32]) {
    out.par_chunks_mut(norm.width)
        .zip(x.par_chunks_mut(norm.width))
        .zip(other.par_chunks(norm.width))
        .enumerate()
        .for_each(|(index, ((out, x), other))| {
            let group = Group::new(norm, index);
            vectorise(
                #[inline(always)]
                || {
                    for (x, other) in x.iter_mut().zip(other) {
                        *x += other;
                    }
                    group.normalise(x, out);
                },
            );
        });
}

/// What normalises one group.
struct Group<'n> {
    norm: &'n NormWeights<Vec<f32>>,
    weight: Option<&'n [f32]>,
    bias: Option<&'n [f32]>,
    alpha: f32,
}

impl<'n> Group<'n> {
    fn new(norm: &'n NormWeights<Vec<f32>>, index: usize) -> Self {
        Self {
            norm,
            weight: part(norm.weight.as_ref(), index, norm.width),
            bias: part(norm.bias.as_ref(), index, norm.width),
            alpha: alpha(norm.alpha.as_ref(), index),
        }
    }

    #[inline(always)]
    fn normalise(&self, x: &[f32], out: &mut [f32]) {
        let norm = self.norm;
        match norm.kind {
            NormKind::Rms => standardise(x, 0.0, norm.epsilon, out),
            NormKind::Layer => {
                let mean = math::sum(x) / norm.width as f32;
                standardise(x, mean, norm.epsilon, out);
            }
            NormKind::Tanh => {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = math::tanh(self.alpha * x);
                }
            }
        }
        if let Some(weight) = self.weight {
            for (out, weight) in out.iter_mut().zip(weight) {
                *out *= weight;
            }
        }
        if let Some(bias) = self.bias {
            for (out, bias) in out.iter_mut().zip(bias) {
                *out += bias;
            }
        }
    }
}
