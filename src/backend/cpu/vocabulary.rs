//! Next-token negative log-likelihood without keeping the logits.
//!
//! The vocabulary is walked in pieces with an online log-sum-exp per row: a whole logit matrix of
//! 4,096 tokens by 128,256 entries would be 2 GB.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, elementwise, math, simd::vectorise};
use crate::{
    backend::{Elementwise, HeadRequest, Products, RowOperations, Target, Vocabulary},
    error::Result,
};

/// Vocabulary entries at a time.
const PIECE: usize = 2048;

/// Rows at a time: with a piece of the vocabulary's logits 64 MiB, however long a sequence is.
const ROWS: usize = 8192;

/// Running log-sum-exp of a row. Pieces are added up in float64, in which the logarithm is taken as well: it is a
/// small difference of large logits.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f64,
    target: f32,
}

impl Vocabulary for Cpu {
    fn start_token_nll(
        &self,
        x: &Tensor,
        head: &HeadRequest<'_, Vec<f32>>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>> {
        if x.rows <= ROWS {
            return token_nll(self, x, head, targets);
        }
        let mut nll = Vec::with_capacity(x.rows);
        for (part, targets) in targets.chunks(ROWS).enumerate() {
            let rows: Vec<usize> = (part * ROWS..).take(targets.len()).collect();
            let rows = self.gather_rows(x, &rows)?;
            nll.extend(token_nll(self, &rows, head, targets)?);
        }
        Ok(nll)
    }

    fn read_token_nll(&self, started: &Vec<f32>, _: &[Option<u32>]) -> Result<Vec<f32>> {
        Ok(started.clone())
    }
}

/// `-log softmax(logits)[target]` of every row with a target, 0 elsewhere.
fn token_nll(
    cpu: &Cpu,
    x: &Tensor,
    head: &HeadRequest<'_, Vec<f32>>,
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
    let vocabulary = head.weight.out_features();
    for first in (0..vocabulary).step_by(PIECE) {
        let last = (first + PIECE).min(vocabulary);
        let weight = cpu.matrix(head.weight.outputs(first, last))?;
        let bias = head.bias.as_ref().map(|bias| bias[first..last].to_vec());
        let mut logits = cpu.linear(x, &weight, bias.as_ref(), Target::Part)?;
        if head.scale != 1.0 {
            cpu.affine(&mut logits, head.scale, 0.0)?;
        }
        if let Some(cap) = head.soft_cap {
            elementwise::map(
                &mut logits.values,
                #[inline(always)]
                |logit| math::soft_cap(logit, cap),
            );
        }
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
                        row.sum = row.sum * f64::from(math::exp(row.max - max)) + f64::from(sum);
                        row.max = max;
                    },
                );
            });
    }
    Ok(rows
        .iter()
        .zip(targets)
        .map(|(row, target)| match target {
            Some(_) => (f64::from(row.max) - f64::from(row.target) + row.sum.ln()) as f32,
            None => 0.0,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Tensors, model::weights::AssembledMatrix};

    /// The end of the first part and all of the second, which has rows enough for the same tiles.
    #[test]
    fn many_rows_are_taken_in_parts() {
        let (rows, width, vocabulary) = (ROWS + 19, 2, 7);
        let cpu = Cpu::new();
        let value = |index: usize| (index % 101) as f32 / 50.0 - 1.0;
        let x = (0..rows * width).map(value).collect();
        let x = cpu.upload(rows, width, x).expect("in memory");
        let weights: Vec<f32> = (0..vocabulary * width)
            .map(|index| value(31 * index))
            .collect();
        let head = HeadRequest {
            weight: AssembledMatrix::from_f32(&weights, vocabulary, width).into(),
            bias: None,
            scale: 1.0,
            soft_cap: None,
        };
        let target = |row: usize| (!row.is_multiple_of(5)).then_some((row % vocabulary) as u32);
        let targets: Vec<Option<u32>> = (0..rows).map(target).collect();
        let parts = cpu.token_nll(&x, &head, &targets).expect("computes");
        let whole = token_nll(&cpu, &x, &head, &targets).expect("computes");
        assert_eq!(parts, whole);
    }
}
