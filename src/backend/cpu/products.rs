//! Weights in float32, and products with them.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use rayon::prelude::*;

use super::{
    Cpu, Tensor,
    gemm::{self, Operand, Output, Shape},
};
use crate::{
    backend::{Products, Target},
    error::Result,
    interrupt,
    model::{
        dtype::DType,
        weights::{AssembledMatrix, Elements, MatrixView, WeightMatrix},
    },
};

/// A weight in float32, borrowed from the file where it is stored so.
#[derive(Debug)]
pub struct Matrix<'w> {
    values: Cow<'w, [f32]>,
    out_features: usize,
    in_features: usize,
    out_stride: usize,
    in_stride: usize,
}

impl<'w> Matrix<'w> {
    fn new(view: MatrixView<'_>, values: Cow<'w, [f32]>) -> Self {
        Self {
            values,
            out_features: view.out_features,
            in_features: view.in_features,
            out_stride: view.out_stride,
            in_stride: view.in_stride,
        }
    }

    fn assembled(matrix: AssembledMatrix) -> Self {
        let shape = Matrix::new(matrix.view(), Cow::Borrowed(&[]));
        let (out_features, in_features) = (shape.out_features, shape.in_features);
        let (out_stride, in_stride) = (shape.out_stride, shape.in_stride);
        Self {
            values: Cow::Owned(matrix.into_f32()),
            out_features,
            in_features,
            out_stride,
            in_stride,
        }
    }

    /// The weight as the right factor `[in, out]` of `x W^T`.
    fn transposed(&self) -> Operand<'_> {
        Operand {
            values: &self.values,
            row_stride: self.in_stride,
            column_stride: self.out_stride,
        }
    }
}

impl Products for Cpu {
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Matrix<'w>> {
        Ok(match weight {
            WeightMatrix::Stored(view) => Matrix::new(view, to_f32(view.elements)),
            WeightMatrix::Packed(packed) => Matrix::assembled(packed.assemble()),
            WeightMatrix::Assembled(copy) => Matrix::assembled(copy),
        })
    }

    fn linear(
        &self,
        x: &Tensor,
        weight: &Matrix<'_>,
        bias: Option<&Vec<f32>>,
        _target: Target,
    ) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, weight.out_features);
        if let Some(bias) = bias {
            fill_rows(&mut out.values, bias);
        }
        let shape = Shape {
            m: x.rows,
            n: weight.out_features,
            k: weight.in_features,
        };
        let left = Operand {
            values: x.values(),
            row_stride: x.columns,
            column_stride: 1,
        };
        let product = Output {
            values: &mut out.values,
            row_stride: weight.out_features,
            accumulate: bias.is_some(),
        };
        gemm::multiply_on_all_threads(shape, product, left, weight.transposed());
        interrupt::check()?;
        Ok(out)
    }
}

/// Writes `row` into every row of `x`.
fn fill_rows(x: &mut [f32], row: &[f32]) {
    x.par_chunks_mut(row.len().max(1))
        .for_each(|out| out.copy_from_slice(row));
}

/// Converts on all cores: a layer of a 7B model has 200 million weights.
fn to_f32(elements: Elements<'_>) -> Cow<'_, [f32]> {
    const CHUNK: usize = 1 << 18;
    if elements.dtype == DType::Float32 {
        return elements.to_f32();
    }
    let mut values = vec![0.0; elements.len()];
    values
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(index, chunk)| {
            let start = index * CHUNK;
            elements.slice(start, start + chunk.len()).write_f32(chunk);
        });
    Cow::Owned(values)
}
