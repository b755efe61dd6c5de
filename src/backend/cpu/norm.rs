//! RMSNorm, LayerNorm and DyT, a row at a time.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{math, simd::vectorise};
use crate::{backend::NormWeights, model::spec::NormKind};

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
pub(super) fn normalise(x: &[f32], norm: &NormWeights<Vec<f32>>, out: &mut [f32]) {
    out.par_chunks_mut(norm.width)
        .zip(x.par_chunks(norm.width))
        .enumerate()
        .for_each(|(index, (out, x))| {
            let weight = part(norm.weight.as_ref(), index, norm.width);
            let bias = part(norm.bias.as_ref(), index, norm.width);
            vectorise(
                #[inline(always)]
                || {
                    match norm.kind {
                        NormKind::Rms => standardise(x, 0.0, norm.epsilon, out),
                        NormKind::Layer => {
                            let mean = math::sum(x) / norm.width as f32;
                            standardise(x, mean, norm.epsilon, out);
                        }
                        NormKind::Tanh => {
                            let alpha = alpha(norm.alpha.as_ref(), index);
                            for (out, x) in out.iter_mut().zip(x) {
                                *out = math::tanh(alpha * x);
                            }
                        }
                    }
                    if let Some(weight) = weight {
                        for (out, weight) in out.iter_mut().zip(weight) {
                            *out *= weight;
                        }
                    }
                    if let Some(bias) = bias {
                        for (out, bias) in out.iter_mut().zip(bias) {
                            *out += bias;
                        }
                    }
                },
            );
        });
}
