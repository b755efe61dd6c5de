//! Weight matrices on the device, and products with them.
#![forbid(unsafe_code)]

use std::{borrow::Cow, rc::Rc};

use super::{
    Cuda, Tensor,
    device::{Address, Device, Operand, Product},
    memory::Buffer,
};
use crate::{
    backend::{Products, Target},
    error::Result,
    model::{
        dtype::DType,
        weights::{MatrixView, WeightMatrix},
    },
};

/// A weight matrix, without gaps.
#[derive(Debug)]
pub struct Matrix<D: Device> {
    out_features: usize,
    in_features: usize,
    /// Stored as `[in, out]`.
    transposed: bool,
    dtype: DType,
    buffer: Rc<Buffer<D>>,
}

// Not derived: a device need not be copied for its buffers to be shared.
impl<D: Device> Clone for Matrix<D> {
    fn clone(&self) -> Self {
        Self {
            buffer: Rc::clone(&self.buffer),
            ..*self
        }
    }
}

impl<D: Device> Matrix<D> {
    /// Device memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    fn operand(&self) -> Operand {
        Operand {
            address: self.buffer.address(),
            dtype: self.dtype,
            stride: if self.transposed {
                self.out_features
            } else {
                self.in_features
            },
        }
    }
}

impl<D: Device> Products for Cuda<D> {
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Matrix<D>> {
        match weight {
            WeightMatrix::Stored(view) => self.resident_matrix(view),
            WeightMatrix::Assembled(copy) => self.upload_matrix(copy.view()),
        }
    }

    fn linear(
        &self,
        x: &Tensor<D>,
        weight: &Matrix<D>,
        bias: Option<&Buffer<D>>,
        target: Target,
    ) -> Result<Tensor<D>> {
        let dtype = self.precision.of(target);
        // A bias of the checkpoint's own type loses nothing on the way back to it.
        let rounded = match bias {
            Some(bias) if dtype != DType::Float32 => {
                let count = weight.out_features;
                Some(self.converted(bias, count, DType::Float32, dtype)?)
            }
            _ => None,
        };
        let bias = rounded.as_ref().or(bias).map(Buffer::address);
        self.product(x, weight, bias, dtype)
    }
}

impl<D: Device> Cuda<D> {
    /// Copies a weight to the device in the arithmetic's type.
    pub(super) fn upload_matrix(&self, view: MatrixView<'_>) -> Result<Matrix<D>> {
        let (transposed, bytes) = packed(view);
        let stored = self.stored(&bytes)?;
        let count = view.out_features * view.in_features;
        let dtype = self.precision.arithmetic();
        Ok(Matrix {
            out_features: view.out_features,
            in_features: view.in_features,
            transposed,
            dtype,
            buffer: Rc::new(self.cast(stored, count, view.elements.dtype, dtype)?),
        })
    }

    /// `x W^T + b` with a result of type `out`, which the bias has too. A residual stream wider than
    /// the weights is rounded to their type first.
    pub(super) fn product(
        &self,
        x: &Tensor<D>,
        weight: &Matrix<D>,
        bias: Option<Address>,
        out: DType,
    ) -> Result<Tensor<D>> {
        let rounded = self.in_type(x, weight.dtype)?;
        let x = rounded.as_ref().unwrap_or(x);
        let result = self.tensor(x.rows, weight.out_features, out)?;
        if result.len() > 0 {
            self.device.multiply(&Product {
                m: x.rows,
                n: weight.out_features,
                k: weight.in_features,
                left: x.operand(),
                right: weight.operand(),
                right_transposed: weight.transposed,
                out: result.operand(),
                bias,
            })?;
        }
        Ok(result)
    }
}

/// The elements without gaps, and whether they are `[in, out]`.
fn packed<'w>(view: MatrixView<'w>) -> (bool, Cow<'w, [u8]>) {
    let size = view.elements.dtype.size();
    let transposed = view.in_stride != 1 && view.out_stride == 1;
    let (lines, length, line_stride, stride) = if transposed {
        (view.in_features, view.out_features, view.in_stride, 1)
    } else {
        (
            view.out_features,
            view.in_features,
            view.out_stride,
            view.in_stride,
        )
    };
    let bytes = view.elements.bytes;
    if stride == 1 && line_stride == length {
        return (transposed, Cow::Borrowed(&bytes[..lines * length * size]));
    }
    let mut packed = Vec::with_capacity(lines * length * size);
    for line in 0..lines {
        let line = &bytes[line * line_stride * size..];
        if stride == 1 {
            packed.extend_from_slice(&line[..length * size]);
        } else {
            for element in line.chunks(size).step_by(stride).take(length) {
                packed.extend_from_slice(element);
            }
        }
    }
    (transposed, Cow::Owned(packed))
}
