//! Several residual streams a token: the definition, rows on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, math, simd::vectorise};
use crate::{
    backend::{StreamRequest, Streams},
    error::Result,
};

impl Streams for Cpu {
    fn spread(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, count * x.columns);
        let rows = out.values.chunks_exact_mut(count * x.columns);
        for (out, row) in rows.zip(x.values().chunks_exact(x.columns)) {
            for stream in out.chunks_exact_mut(x.columns) {
                stream.copy_from_slice(row);
            }
        }
        Ok(out)
    }

    fn stream_weights(
        &self,
        products: &mut Tensor,
        request: &StreamRequest<'_, Vec<f32>>,
    ) -> Result<()> {
        let columns = products.columns;
        let rows = products.values.par_chunks_mut(columns);
        rows.for_each(|row| weights(row, request));
        Ok(())
    }

    fn collapse(&self, x: &Tensor, count: usize, weights: Option<&Tensor>) -> Result<Tensor> {
        let columns = x.columns / count;
        let mut out = self.tensor(x.rows, columns);
        let rows = out.values.par_chunks_mut(columns).enumerate();
        rows.for_each(|(row, out)| {
            out.fill(0.0);
            for (index, stream) in x.row(row).chunks_exact(columns).enumerate() {
                let weight = weights.map_or(1.0, |weights| weights.row(row)[index]);
                add_scaled(out, stream, weight);
            }
        });
        Ok(out)
    }

    fn mix_streams(&self, x: &Tensor, y: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let (columns, count) = (y.columns, x.columns / y.columns);
        let mut out = self.tensor(x.rows, x.columns);
        let rows = out.values.par_chunks_mut(x.columns).enumerate();
        rows.for_each(|(row, out)| {
            let (post, mix) = weights.row(row)[count..].split_at(count);
            for (n, out) in out.chunks_exact_mut(columns).enumerate() {
                out.fill(0.0);
                add_scaled(out, y.row(row), post[n]);
                for (m, stream) in x.row(row).chunks_exact(columns).enumerate() {
                    add_scaled(out, stream, mix[m * count + n]);
                }
            }
        });
        Ok(out)
    }
}

/// `sum += values * factor`
fn add_scaled(sum: &mut [f32], values: &[f32], factor: f32) {
    vectorise(
        #[inline(always)]
        || {
            for (sum, value) in sum.iter_mut().zip(values) {
                *sum += value * factor;
            }
        },
    );
}

/// The weights of one token.
fn weights(row: &mut [f32], request: &StreamRequest<'_, Vec<f32>>) {
    let (count, epsilon) = (request.count, request.epsilon);
    for (index, (value, base)) in row.iter_mut().zip(request.base).enumerate() {
        let kind = (index / count).min(2);
        *value = *value * request.scale[kind] + base;
        match kind {
            0 => *value = math::sigmoid(*value) + epsilon,
            1 => *value = 2.0 * math::sigmoid(*value),
            _ => {}
        }
    }
    let Some(mix) = row.get_mut(2 * count..) else {
        return;
    };
    for row in mix.chunks_exact_mut(count) {
        let max = math::max(row);
        let sum = math::exp_sum(row, max);
        for value in row {
            *value = *value / sum + epsilon;
        }
    }
    for iteration in 0..request.iterations {
        if iteration > 0 {
            for row in mix.chunks_exact_mut(count) {
                let sum: f32 = row.iter().sum();
                for value in row {
                    *value /= sum + epsilon;
                }
            }
        }
        for column in 0..count {
            let sum: f32 = mix.iter().skip(column).step_by(count).sum();
            for value in mix.iter_mut().skip(column).step_by(count) {
                *value /= sum + epsilon;
            }
        }
    }
}
