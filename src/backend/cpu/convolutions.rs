//! Short causal convolutions over tokens, some rows at a time on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, simd::vectorise};
use crate::{
    backend::{Convolutions, Elementwise, Filter, Rows},
    error::Result,
};

/// Rows that a thread takes at a time, so that what they read of each other stays in the cache.
const BLOCK: usize = 32;

impl Convolutions for Cpu {
    fn convolve(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        filter: &Filter<Vec<f32>>,
    ) -> Result<Tensor> {
        let columns = x.columns;
        let mut out = self.tensor(x.rows, columns);
        // A row of factors a tap, so that channels are neighbours.
        let taps: Vec<Vec<f32>> = (0..filter.width)
            .map(|tap| {
                filter
                    .weight
                    .iter()
                    .skip(tap)
                    .step_by(filter.width)
                    .copied()
                    .collect()
            })
            .collect();
        let zeros = vec![0.0; columns];
        let bias = filter.bias.as_deref().unwrap_or(&zeros);
        for rows in sequences {
            let part = rows.start * columns..rows.end * columns;
            let blocks = out.values[part].par_chunks_mut(BLOCK * columns).enumerate();
            blocks.for_each(|(block, out)| {
                vectorise(
                    #[inline(always)]
                    || {
                        for (index, out) in out.chunks_exact_mut(columns).enumerate() {
                            let position = block * BLOCK + index;
                            out.copy_from_slice(bias);
                            for (tap, factors) in taps.iter().enumerate() {
                                // Before the first token is nothing.
                                let before = filter.width - 1 - tap;
                                if before <= position {
                                    let x = x.row(rows.start + position - before);
                                    add_product(out, factors, x);
                                }
                            }
                        }
                    },
                );
            });
        }
        if let Some(activation) = filter.activation {
            self.activate(&mut out, activation)?;
        }
        Ok(out)
    }
}

/// `out += factors * x`
#[inline(always)]
fn add_product(out: &mut [f32], factors: &[f32], x: &[f32]) {
    for ((out, factor), x) in out.iter_mut().zip(factors).zip(x) {
        *out += factor * x;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Tensors, model::spec::Activation};

    /// Numbers between -1 and 1 without a pattern.
    fn noise(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The definition, in float64.
    fn truth(x: &[f32], columns: usize, sequences: &[Rows], filter: &Filter<Vec<f32>>) -> Vec<f64> {
        let mut out = vec![0.0; x.len()];
        for rows in sequences {
            for t in rows.clone() {
                for c in 0..columns {
                    let mut sum = filter.bias.as_ref().map_or(0.0, |bias| f64::from(bias[c]));
                    for j in 0..filter.width {
                        let Some(from) = (t + 1 + j).checked_sub(filter.width) else {
                            continue;
                        };
                        if from >= rows.start {
                            let weight = f64::from(filter.weight[c * filter.width + j]);
                            sum += weight * f64::from(x[from * columns + c]);
                        }
                    }
                    out[t * columns + c] = match filter.activation {
                        Some(Activation::Silu) => sum / (1.0 + (-sum).exp()),
                        _ => sum,
                    };
                }
            }
        }
        out
    }

    #[test]
    fn is_the_definition_within_each_sequence() {
        let cpu = Cpu::new();
        // More rows than a thread takes at a time, a sequence of one token, one shorter than the taps.
        let sequences = [0..1, 1..71, 71..73, 73..138];
        for (columns, width, biased, activation) in [
            (1, 1, false, None),
            (5, 3, false, None),
            (17, 4, true, Some(Activation::Silu)),
            (3, 40, true, None),
        ] {
            let filter = Filter {
                width,
                weight: noise(columns * width, 1),
                bias: biased.then(|| noise(columns, 2)),
                activation,
            };
            let x = noise(138 * columns, 3);
            let tensor = cpu.upload(138, columns, x.clone()).expect("fits");
            let found = cpu
                .convolve(&tensor, &sequences, &filter)
                .expect("computed");
            let wanted = truth(&x, columns, &sequences, &filter);
            for (index, (found, wanted)) in found.values.iter().zip(wanted).enumerate() {
                let off = (f64::from(*found) - wanted).abs();
                assert!(off < 1e-5, "{columns} x {width}, {index}: {found} {wanted}");
            }
        }
    }
}
