//! Tensors in memory.
#![forbid(unsafe_code)]

use super::{Cpu, experts, pool::Buffer, products};
use crate::{
    backend::{KeyMask, Precision, Profile, Statistics, Tensors},
    error::Result,
    model::dtype::DType,
};

/// Activations, row-major.
#[derive(Debug)]
pub struct Tensor {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Buffer,
}

impl Tensor {
    /// The values, `rows * columns` of them.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}

impl Cpu {
    pub(super) fn tensor(&self, rows: usize, columns: usize) -> Tensor {
        Tensor {
            rows,
            columns,
            values: self.pool.take(rows * columns),
        }
    }
}

impl Tensors for Cpu {
    type Tensor = Tensor;
    type Matrix<'w> = products::Matrix<'w>;
    type Vector = Vec<f32>;
    type Visitors = Vec<experts::Visitors>;
    type KeyMask = KeyMask;
    type Pending = Vec<Statistics>;
    type PendingProfile = Vec<Profile>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn held(&self) -> Precision {
        DType::Float32.into()
    }

    fn micro_batch_rows(&self, _width: usize) -> usize {
        // Enough to amortise packing the weights; more would only need more memory.
        2048
    }

    fn synchronise(&self) -> Result<()> {
        // Every call here waits for its own work.
        Ok(())
    }

    fn keep_weights(&self, _: usize) {}

    fn loads_ahead(&self) -> bool {
        // Float32 copies of two layers would take twice the memory; the files' pages are read ahead.
        false
    }

    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Tensor> {
        debug_assert_eq!(values.len(), rows * columns);
        Ok(Tensor {
            rows,
            columns,
            values: self.pool.adopt(values),
        })
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.values().to_vec())
    }

    fn columns(&self, x: &Tensor) -> usize {
        x.columns
    }

    fn in_rows_of(&self, x: Tensor, columns: usize) -> Tensor {
        let rows = x.values.len() / columns.max(1);
        Tensor { rows, columns, ..x }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn zeros(&self, x: &Tensor) -> Result<Tensor> {
        let mut zeros = self.tensor(x.rows, x.columns);
        zeros.values.fill(0.0);
        Ok(zeros)
    }

    fn duplicate(&self, x: &Tensor) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        out.values.copy_from_slice(x.values());
        Ok(out)
    }
}
