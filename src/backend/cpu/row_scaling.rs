//! Scaling of rows and columns, rows on all cores.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, math, simd::vectorise};
use crate::{backend::RowScaling, error::Result};

impl RowScaling for Cpu {
    fn match_magnitude(&self, x: &mut Tensor, like: &Tensor, floor: f32) -> Result<()> {
        let columns = x.columns;
        let rows = x.values.par_chunks_mut(columns);
        rows.zip(like.values().par_chunks(columns))
            .for_each(|(x, like)| {
                vectorise(
                    #[inline(always)]
                    || {
                        let wanted = math::sum_of_squares(like, 0.0) / columns as f32;
                        let squares = math::sum_of_squares(x, 0.0) / columns as f32;
                        let factor = wanted.sqrt() / squares.max(floor).sqrt();
                        for value in x.iter_mut() {
                            *value *= factor;
                        }
                    },
                );
            });
        Ok(())
    }

    fn keep_largest(&self, x: &mut Tensor, deviations: f32) -> Result<()> {
        let columns = x.columns;
        x.values.par_chunks_mut(columns).for_each(|row| {
            vectorise(
                #[inline(always)]
                || {
                    let mean = math::sum(row) / columns as f32;
                    let variance = math::sum_of_squares(row, mean) / columns as f32;
                    let cutoff = mean + variance.sqrt() * deviations;
                    for value in row.iter_mut() {
                        // Not `max`: a NaN must stay.
                        let rest = *value - cutoff;
                        *value = if rest < 0.0 { 0.0 } else { rest };
                    }
                },
            );
        });
        Ok(())
    }

    fn multiply_columns(&self, x: &mut Tensor, factors: &Vec<f32>) -> Result<()> {
        x.values.par_chunks_mut(x.columns).for_each(|row| {
            vectorise(
                #[inline(always)]
                || {
                    for (value, factor) in row.iter_mut().zip(factors) {
                        *value *= factor;
                    }
                },
            );
        });
        Ok(())
    }
}
