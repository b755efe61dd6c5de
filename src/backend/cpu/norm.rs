//! RMSNorm and LayerNorm, a row at a time.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{math, simd::vectorise};
use crate::{backend::NormWeights, model::spec::NormKind};

/// Normalises each row of `columns` values of `x` into `out`.
pub(super) fn normalise(x: &[f32], columns: usize, norm: &NormWeights<Vec<f32>>, out: &mut [f32]) {
    let weight = norm.weight.as_deref();
    let bias = norm.bias.as_deref();
    out.par_chunks_mut(columns)
        .zip(x.par_chunks(columns))
        .for_each(|(out, x)| {
            vectorise(
                #[inline(always)]
                || {
                    let width = columns as f32;
                    let mean = match norm.kind {
                        NormKind::Rms => 0.0,
                        NormKind::Layer => math::sum(x) / width,
                    };
                    let variance = math::sum_of_squares(x, mean) / width;
                    let inverse = 1.0 / (variance + norm.epsilon).sqrt();
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = (x - mean) * inverse;
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
