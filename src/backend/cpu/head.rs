//! Next-token negative log-likelihood without keeping the logits.
//!
//! The vocabulary is walked in pieces with an online log-sum-exp per row: a whole logit matrix of
//! 4,096 tokens by 128,256 entries would be 2 GB.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, math, simd::vectorise};
use crate::{backend::Backend, error::Result, model::weights::MatrixView};

/// Vocabulary entries at a time.
const PIECE: usize = 2048;

/// Running log-sum-exp of a row.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
    target: f32,
}

/// `-log softmax(x W^T)[target]` of every row with a target, 0 elsewhere.
pub(super) fn token_nll(
    cpu: &Cpu,
    x: &Tensor,
    head: MatrixView<'_>,
    targets: &[Option<u32>],
) -> Result<Vec<f32>> {
    let mut rows = vec![
        Running {
            max: f32::NEG_INFINITY,
            sum: 0.0,
            target: 0.0,
        };
        x.rows
    ];
    for first in (0..head.out_features).step_by(PIECE) {
        let last = (first + PIECE).min(head.out_features);
        let weight = cpu.matrix(head.outputs(first, last))?;
        let mut logits = cpu.linear(x, &weight, None)?;
        logits
            .values
            .par_chunks_mut(last - first)
            .zip(&mut rows)
            .zip(targets)
            .for_each(|((logits, row), target)| {
                let Some(target) = target else { return };
                if let Some(index) = (*target as usize).checked_sub(first)
                    && let Some(logit) = logits.get(index)
                {
                    row.target = *logit;
                }
                vectorise(
                    #[inline(always)]
                    || {
                        let max = row.max.max(math::max(logits));
                        let sum = math::exp_sum(logits, max);
                        row.sum = row.sum * math::exp(row.max - max) + sum;
                        row.max = max;
                    },
                );
            });
    }
    Ok(rows
        .iter()
        .zip(targets)
        .map(|(row, target)| match target {
            Some(_) => row.max + row.sum.ln() - row.target,
            None => 0.0,
        })
        .collect())
}
