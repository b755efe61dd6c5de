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
