//! Moving and joining rows.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Cpu, Tensor};
use crate::{backend::RowOperations, error::Result};

impl RowOperations for Cpu {
    fn gather_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let mut out = self.tensor(rows.len(), x.columns);
        for (row, out) in rows.iter().zip(out.values.chunks_exact_mut(x.columns)) {
            out.copy_from_slice(x.row(*row));
        }
        Ok(out)
    }

    fn put_rows(&self, out: &mut Tensor, first: usize, x: &Tensor) -> Result<()> {
        let start = first * x.columns;
        out.values[start..start + x.values.len()].copy_from_slice(x.values());
        Ok(())
    }

    fn gather_columns(&self, x: &Tensor, columns: Range<usize>) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, columns.len());
        for (row, out) in out.values.chunks_exact_mut(columns.len()).enumerate() {
            out.copy_from_slice(&x.row(row)[columns.clone()]);
        }
        Ok(out)
    }

    fn add_scaled(&self, out: &mut Tensor, x: &Tensor, factors: &Tensor) -> Result<()> {
        add_rows(out, x, 0..x.rows, factors.values());
        Ok(())
    }

    fn scale_rows(&self, x: &mut Tensor, factors: &Vec<f32>) -> Result<()> {
        scale_rows(x, factors);
        Ok(())
    }

    fn join_heads(&self, own: &Tensor, shared: &Tensor, heads: usize) -> Result<Tensor> {
        let (first, second) = (own.columns / heads, shared.columns);
        let mut out = self.tensor(own.rows, heads * (first + second));
        for (row, out) in out
            .values
            .chunks_exact_mut(heads * (first + second))
            .enumerate()
        {
            let heads = out.chunks_exact_mut(first + second);
            for (out, own) in heads.zip(own.row(row).chunks_exact(first)) {
                out[..first].copy_from_slice(own);
                out[first..].copy_from_slice(shared.row(row));
            }
        }
        Ok(out)
    }
}

/// Multiplies each row by its factor.
pub(super) fn scale_rows(x: &mut Tensor, factors: &[f32]) {
    for (row, factor) in x.values.chunks_exact_mut(x.columns).zip(factors) {
        for value in row {
            *value *= factor;
        }
    }
}

/// Adds row `i` of `x` times `factors[i]` to the `i`-th row of `out` that is named.
pub(super) fn add_rows(
    out: &mut Tensor,
    x: &Tensor,
    rows: impl Iterator<Item = usize>,
    factors: &[f32],
) {
    let columns = x.columns;
    for (index, (row, factor)) in rows.zip(factors).enumerate() {
        let out = &mut out.values[row * columns..(row + 1) * columns];
        for (out, value) in out.iter_mut().zip(x.row(index)) {
            *out += value * factor;
        }
    }
}
