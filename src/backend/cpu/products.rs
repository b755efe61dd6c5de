//! Weights in float32, and products with them.
#![forbid(unsafe_code)]

use std::{borrow::Cow, ops::Range, sync::OnceLock};

use rayon::prelude::*;

use super::{
    Cpu, Tensor,
    gemm::{self, Operand, Output, Shape},
    panels::Panels,
};
use crate::{
    backend::{Products, Target},
    error::Result,
    interrupt,
    model::{
        dtype::DType,
        weights::{Elements, MatrixView, WeightMatrix},
    },
};

/// A weight in float32.
#[derive(Debug)]
pub struct Matrix<'w> {
    out_features: usize,
    in_features: usize,
    form: Form<'w>,
}

#[derive(Debug)]
enum Form<'w> {
    Packed(Panels),
    /// Borrowed from the file where it is stored so, and packed when there are rows enough.
    Plain(Plain<'w>, OnceLock<Panels>),
}

/// With fewer rows than this a product takes less time than packing a weight that is float32 already.
const FEW: usize = 16;

impl<'w> Matrix<'w> {
    fn plain(view: MatrixView<'_>, values: Cow<'w, [f32]>) -> Self {
        let plain = Plain {
            values,
            out_stride: view.out_stride,
            in_stride: view.in_stride,
        };
        Self::new(view, Form::Plain(plain, OnceLock::new()))
    }

    fn new(view: MatrixView<'_>, form: Form<'w>) -> Self {
        Self {
            out_features: view.out_features,
            in_features: view.in_features,
            form,
        }
    }

    /// As it is, where there are no tiles for the processor.
    fn unpacked(weight: WeightMatrix<'w>) -> Self {
        let copy = match weight {
            WeightMatrix::Stored(view) => return Self::plain(view, to_f32(view.elements)),
            WeightMatrix::Packed(packed) => packed.assemble(),
            WeightMatrix::Assembled(copy) => copy,
        };
        let mut matrix = Self::plain(copy.view(), Cow::Borrowed(&[]));
        if let Form::Plain(plain, _) = &mut matrix.form {
            plain.values = Cow::Owned(copy.into_f32());
        }
        matrix
    }
}

/// Values with strides.
#[derive(Debug)]
struct Plain<'w> {
    values: Cow<'w, [f32]>,
    out_stride: usize,
    in_stride: usize,
}

impl Plain<'_> {
    /// Of a matrix of these sizes.
    fn view(&self, out_features: usize, in_features: usize) -> MatrixView<'_> {
        MatrixView {
            elements: Elements {
                dtype: DType::Float32,
                bytes: bytemuck::cast_slice(&self.values),
            },
            out_features,
            in_features,
            out_stride: self.out_stride,
            in_stride: self.in_stride,
            file: None,
        }
    }

    /// `out = x W[:, first..]^T + bias`
    fn multiply(&self, x: &Tensor, first: usize, bias: Option<&Vec<f32>>, out: &mut Tensor) {
        if let Some(bias) = bias {
            fill_rows(&mut out.values, bias);
        }
        let shape = Shape {
            m: x.rows,
            n: out.columns,
            k: x.columns,
        };
        let left = Operand {
            values: x.values(),
            row_stride: x.columns,
            column_stride: 1,
        };
        // The weight as the right factor `[in, out]`.
        let right = Operand {
            values: &self.values[first * self.in_stride..],
            row_stride: self.in_stride,
            column_stride: self.out_stride,
        };
        let product = Output {
            values: &mut out.values,
            row_stride: out.columns,
            accumulate: bias.is_some(),
        };
        gemm::multiply_on_all_threads(shape, product, left, right);
    }
}

impl Products for Cpu {
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Matrix<'w>> {
        let Some(kernel) = self.of_weights else {
            return Ok(Matrix::unpacked(weight));
        };
        let pack = |view| {
            let panels = Panels::of_view(kernel, &self.pool, view);
            Matrix::new(view, Form::Packed(panels))
        };
        Ok(match &weight {
            WeightMatrix::Stored(view) => match view.elements.dtype {
                DType::Float32 if kernel.packed() == 1 => {
                    Matrix::plain(*view, to_f32(view.elements))
                }
                _ => pack(*view),
            },
            WeightMatrix::Assembled(copy) => pack(copy.view()),
            WeightMatrix::Packed(packed) => Matrix {
                out_features: packed.out_features,
                in_features: packed.in_features,
                form: Form::Packed(Panels::of_packed(kernel, &self.pool, packed)),
            },
        })
    }

    fn linear(
        &self,
        x: &Tensor,
        weight: &Matrix<'_>,
        bias: Option<&Vec<f32>>,
        _target: Target,
    ) -> Result<Tensor> {
        self.product(x, weight, 0..weight.in_features, bias)
    }

    fn linear_of(
        &self,
        x: &Tensor,
        weight: &Matrix<'_>,
        inputs: Range<usize>,
        _target: Target,
    ) -> Result<Tensor> {
        match &weight.form {
            Form::Packed(panels) if !panels.may_begin_at(inputs.start) => {
                let whole = self.widened(x, inputs.start, weight.in_features);
                self.product(&whole, weight, 0..weight.in_features, None)
            }
            _ => self.product(x, weight, inputs, None),
        }
    }
}

impl Cpu {
    /// `x W[:, inputs]^T + bias`
    fn product(
        &self,
        x: &Tensor,
        weight: &Matrix<'_>,
        inputs: Range<usize>,
        bias: Option<&Vec<f32>>,
    ) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, weight.out_features);
        let panels = match (&weight.form, self.of_weights) {
            (Form::Packed(panels), _) => Ok(panels),
            (Form::Plain(plain, panels), Some(kernel)) if x.rows >= FEW => {
                let view = plain.view(weight.out_features, weight.in_features);
                Ok(panels.get_or_init(|| Panels::of_view(kernel, &self.pool, view)))
            }
            (Form::Plain(plain, _), _) => Err(plain),
        };
        match panels {
            Ok(panels) => {
                let bias = bias.map(Vec::as_slice);
                panels.multiply(x.values(), inputs, bias, &mut out.values);
            }
            Err(plain) => plain.multiply(x, inputs.start, bias, &mut out),
        }
        interrupt::check()?;
        Ok(out)
    }

    /// The columns of `x` from column `first` on, among others that are zero.
    fn widened(&self, x: &Tensor, first: usize, columns: usize) -> Tensor {
        let mut out = self.tensor(x.rows, columns);
        out.values.fill(0.0);
        let rows = out.values.chunks_exact_mut(columns.max(1));
        for (out, row) in rows.zip(x.values().chunks_exact(x.columns.max(1))) {
            out[first..first + row.len()].copy_from_slice(row);
        }
        out
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
