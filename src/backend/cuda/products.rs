//! Weight matrices on the device, and products with them (cuBLASLt on a card).
//!
//! A weight comes beside the computation: [`Products::matrix`] only asks for it, and the first product
//! with it waits.
#![forbid(unsafe_code)]

use std::{cell::RefCell, ops::Range, rc::Rc};

use super::{
    Cuda, Tensor,
    device::{Address, Device, Operand, Product, Source},
    memory::Buffer,
    packed::Decoding,
    uploads::{Upload, source},
    vectors::Vector,
};
use crate::{
    backend::{Products, Target},
    error::{Error, Result},
    model::{
        dtype::DType,
        weights::{MatrixView, PackedMatrix, WeightMatrix},
    },
};

/// A weight matrix, without gaps.
#[derive(Debug)]
pub struct Matrix<D: Device> {
    out_features: usize,
    in_features: usize,
    /// Stored as `[in, out]`.
    transposed: bool,
    /// The arithmetic's.
    dtype: DType,
    values: Rc<Values<D>>,
}

// Not derived: a device need not be copied for its buffers to be shared.
impl<D: Device> Clone for Matrix<D> {
    fn clone(&self) -> Self {
        Self {
            values: Rc::clone(&self.values),
            ..*self
        }
    }
}

/// The values, or their copy that is under way.
#[derive(Debug)]
struct Values<D: Device> {
    device: Rc<D>,
    state: RefCell<State<D>>,
}

#[derive(Debug)]
enum State<D: Device> {
    /// On their way, in parts, in the type that they are stored in.
    Coming(Buffer<D>, Vec<D::Copying>, DType),
    /// There, in that type.
    Stored(Buffer<D>, DType),
    /// Bytes to be decoded, there or on their way, shared with other parts of the same stored matrix.
    Packed(Rc<Upload<D>>, Decoding),
    /// There, in the arithmetic's.
    Ready(Buffer<D>),
    /// Their copy failed.
    Lost,
}

impl<D: Device> Drop for Values<D> {
    fn drop(&mut self) {
        // The memory may be given back only once the copy is done.
        if let State::Coming(buffer, copies, _) = self.state.replace(State::Lost) {
            for copying in copies {
                let _ = self.device.await_copy(copying);
            }
            drop(buffer);
        }
    }
}

impl<D: Device> Matrix<D> {
    /// Device memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.count() * self.dtype.size()
    }

    /// Whether anybody but the list of those that stay has it.
    pub(super) fn is_in_use(&self) -> bool {
        Rc::strong_count(&self.values) > 1
    }

    fn count(&self) -> usize {
        self.out_features * self.in_features
    }

    /// Waits for the values, in the arithmetic's type.
    fn ready(&self, cuda: &Cuda<D>) -> Result<Operand> {
        let mut state = self.values.state.borrow_mut();
        loop {
            *state = match std::mem::replace(&mut *state, State::Lost) {
                State::Coming(buffer, copies, stored) => {
                    // All are waited for, whatever becomes of one.
                    let copied = copies.into_iter().map(|one| cuda.device.await_copy(one));
                    copied.fold(Ok(()), Result::and)?;
                    State::Stored(buffer, stored)
                }
                State::Stored(buffer, stored) if stored == self.dtype => State::Ready(buffer),
                State::Stored(buffer, stored) => {
                    match cuda.converted(&buffer, self.count(), stored, self.dtype) {
                        Ok(converted) => State::Ready(converted),
                        Err(error) => {
                            *state = State::Stored(buffer, stored);
                            return Err(error);
                        }
                    }
                }
                State::Packed(upload, decoding) => {
                    match cuda.decoded(&upload, &decoding, self.dtype) {
                        Ok(decoded) => State::Ready(decoded),
                        Err(error) => {
                            *state = State::Packed(upload, decoding);
                            return Err(error);
                        }
                    }
                }
                State::Ready(buffer) => {
                    let operand = Operand {
                        address: buffer.address(),
                        dtype: self.dtype,
                        stride: if self.transposed {
                            self.out_features
                        } else {
                            self.in_features
                        },
                    };
                    *state = State::Ready(buffer);
                    return Ok(operand);
                }
                State::Lost => {
                    return Err(Error::new(
                        "a weight on the device",
                        "its copy failed earlier",
                    ));
                }
            };
        }
    }
}

impl<D: Device> Products for Cuda<D> {
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Matrix<D>> {
        match weight {
            WeightMatrix::Stored(view) => self.resident_matrix(view),
            WeightMatrix::Packed(packed) => self.resident_packed(&packed),
            WeightMatrix::Assembled(copy) => self.bring(copy.view()),
        }
    }

    fn joined<'w>(&self, weights: &[MatrixView<'w>]) -> Result<Option<Matrix<D>>> {
        let Some(first) = weights.first() else {
            return Ok(None);
        };
        let alike = |view: &MatrixView<'_>| {
            let by_output = view.in_stride == 1 || view.out_stride != 1;
            let (dtype, inputs) = (view.elements.dtype, view.in_features);
            by_output && dtype == first.elements.dtype && inputs == first.in_features
        };
        if !weights.iter().all(alike) {
            return Ok(None);
        }
        self.resident_joined(weights).map(Some)
    }

    fn linear(
        &self,
        x: &Tensor<D>,
        weight: &Matrix<D>,
        bias: Option<&Vector<D>>,
        target: Target,
    ) -> Result<Tensor<D>> {
        let dtype = self.precision.of(target);
        // A bias of the checkpoint's own type loses nothing on the way back to it.
        let bias = bias.map(|bias| bias.rounded(self, dtype)).transpose()?;
        self.product(x, weight, bias, dtype)
    }

    fn linear_of(
        &self,
        x: &Tensor<D>,
        weight: &Matrix<D>,
        inputs: Range<usize>,
        target: Target,
    ) -> Result<Tensor<D>> {
        let part = self.inputs_of(weight, inputs)?;
        self.product(x, &part, None, self.precision.of(target))
    }
}

impl<D: Device> Cuda<D> {
    /// Starts copying a weight to the device.
    pub(super) fn bring(&self, view: MatrixView<'_>) -> Result<Matrix<D>> {
        self.bring_all(&[view])
    }

    /// The same with several, stored in the same type and order and of the same number of inputs, as one whose
    /// outputs follow each other.
    pub(super) fn bring_all(&self, views: &[MatrixView<'_>]) -> Result<Matrix<D>> {
        let (orders, sources): (Vec<bool>, Vec<Source>) = views.iter().map(|v| packed(*v)).unzip();
        let buffer = self.buffer(sources.iter().map(Source::bytes).sum())?;
        let start = buffer.address();
        let dtype = views[0].elements.dtype;
        // One that fails half-way waits for what it has started.
        let values = Values {
            device: Rc::clone(&self.device),
            state: RefCell::new(State::Coming(buffer, Vec::new(), dtype)),
        };
        let mut offset = 0;
        for source in sources {
            let bytes = source.bytes();
            let copying = self.device.start_write(start.offset(offset), source)?;
            if let State::Coming(_, copies, _) = &mut *values.state.borrow_mut() {
                copies.push(copying);
            }
            offset += bytes;
        }
        Ok(Matrix {
            out_features: views.iter().map(|view| view.out_features).sum(),
            in_features: views[0].in_features,
            transposed: orders[0],
            dtype: self.precision.arithmetic(),
            values: Rc::new(values),
        })
    }

    /// A copy of some inputs of a weight: products may rely on where memory begins.
    fn inputs_of(&self, weight: &Matrix<D>, inputs: Range<usize>) -> Result<Matrix<D>> {
        let whole = weight.ready(self)?;
        let buffer = if weight.transposed {
            let line = weight.out_features * weight.dtype.size();
            let part = self.buffer(inputs.len() * line)?;
            let from = whole.address.offset(inputs.start * line);
            self.device
                .copy(from, part.address(), inputs.len() * line)?;
            part
        } else {
            let size = (weight.out_features, weight.in_features);
            let columns = inputs.clone();
            self.columns_of(whole.address, size, columns, weight.dtype)?
                .buffer
        };
        Ok(Matrix {
            in_features: inputs.len(),
            values: Rc::new(Values {
                device: Rc::clone(&self.device),
                state: RefCell::new(State::Ready(buffer)),
            }),
            ..*weight
        })
    }

    /// A packed weight whose bytes are on their way.
    pub(super) fn packed(
        &self,
        matrix: &PackedMatrix<'_>,
        upload: Rc<Upload<D>>,
        decoding: Decoding,
    ) -> Matrix<D> {
        Matrix {
            out_features: matrix.out_features,
            in_features: matrix.in_features,
            transposed: matrix.tensor().encoding().by_input(),
            dtype: self.precision.arithmetic(),
            values: Rc::new(Values {
                device: Rc::clone(&self.device),
                state: RefCell::new(State::Packed(upload, decoding)),
            }),
        }
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
                right: weight.ready(self)?,
                right_transposed: weight.transposed,
                out: result.operand(),
                bias,
            })?;
        }
        Ok(result)
    }
}

/// The elements without gaps, and whether they are `[in, out]`. What has none is read from its file.
fn packed(view: MatrixView<'_>) -> (bool, Source) {
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
        let bytes = &bytes[..lines * length * size];
        return (transposed, source(view.file, bytes));
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
    (transposed, Source::Bytes(packed))
}
