//! RMSNorm and LayerNorm, a row at a time.
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
                    let width = norm.width as f32;
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
