//! Views of stored tensors: a vector, or a matrix with strides.
#![forbid(unsafe_code)]

use std::borrow::Cow;

use half::{bf16, f16, slice::HalfFloatSliceExt};

use super::storage::MappedFile;
use crate::model::dtype::DType;

/// Little-endian elements of one dtype, as stored.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'w> {
    /// Element type.
    pub dtype: DType,
    /// Raw bytes, a multiple of the element size.
    pub bytes: &'w [u8],
}

impl<'w> Elements<'w> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements `start..end`.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> Self {
        let size = self.dtype.size();
        Self {
            dtype: self.dtype,
            bytes: &self.bytes[start * size..end * size],
        }
    }

    /// As float32: borrowed when stored so (and aligned), converted otherwise.
    pub fn to_f32(&self) -> Cow<'w, [f32]> {
        match self.dtype {
            DType::Float32 => match self.borrow_f32() {
                Some(values) => Cow::Borrowed(values),
                None => {
                    let mut out = vec![0.0; self.len()];
                    self.write_f32(&mut out);
                    Cow::Owned(out)
                }
            },
            DType::BFloat16 | DType::Float16 => {
                let mut out = vec![0.0; self.len()];
                self.write_f32(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// The elements, where they are stored in float32 and aligned.
    fn borrow_f32(&self) -> Option<&'w [f32]> {
        let float32 = self.dtype == DType::Float32;
        let values = float32.then(|| bytemuck::try_cast_slice(self.bytes))?;
        values.ok()
    }

    /// Converts all elements into `out`, which has the same length.
    pub fn write_f32(&self, out: &mut [f32]) {
        match self.dtype {
            DType::Float32 => {
                for (value, bytes) in out.iter_mut().zip(self.bytes.chunks_exact(4)) {
                    *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            DType::BFloat16 => {
                for (value, bytes) in out.iter_mut().zip(self.bytes.chunks_exact(2)) {
                    *value = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                }
            }
            // The slice conversion uses the processor's half-precision instructions.
            DType::Float16 => match bytemuck::try_cast_slice::<u8, f16>(self.bytes) {
                Ok(values) => values.convert_to_f32_slice(out),
                Err(_) => {
                    for (value, bytes) in out.iter_mut().zip(self.bytes.chunks_exact(2)) {
                        *value = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
                    }
                }
            },
        }
    }
}

/// A weight matrix `[out_features, in_features]` inside a stored tensor.
///
/// Element `(o, i)` is at `o * out_stride + i * in_stride`: PyTorch's `Linear` has
/// `in_stride == 1`, GPT-2's `Conv1D` has `out_stride == 1`.
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'w> {
    /// Elements from `(0, 0)` to the last one inclusive.
    pub elements: Elements<'w>,
    /// Rows: the width of the result.
    pub out_features: usize,
    /// Columns: the width of the input.
    pub in_features: usize,
    /// Distance between consecutive outputs.
    pub out_stride: usize,
    /// Distance between consecutive inputs.
    pub in_stride: usize,
    /// Where the elements are mapped from.
    pub file: Option<&'w MappedFile>,
}

impl MatrixView<'_> {
    /// The outputs `start..end` only.
    #[must_use]
    pub fn outputs(&self, start: usize, end: usize) -> Self {
        let last = (end - 1) * self.out_stride + (self.in_features - 1) * self.in_stride;
        Self {
            elements: self.elements.slice(start * self.out_stride, last + 1),
            out_features: end - start,
            ..*self
        }
    }

    /// Writes the row `[in_features]` of one output as float32.
    pub fn write_output(&self, output: usize, out: &mut [f32]) {
        self.write_inputs(output, 0, out);
    }

    /// Writes the inputs `first..` of one output, as many as `out` has room for.
    pub fn write_inputs(&self, output: usize, first: usize, out: &mut [f32]) {
        let at = |input: usize| output * self.out_stride + (first + input) * self.in_stride;
        if self.in_stride == 1 {
            self.elements.slice(at(0), at(out.len())).write_f32(out);
            return;
        }
        for (input, value) in out.iter_mut().enumerate() {
            let one = self.elements.slice(at(input), at(input) + 1);
            one.write_f32(std::slice::from_mut(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_every_dtype_aligned_or_not() {
        let values = [1.5f32, -2400.0, 0.007_812_5];
        let mut bytes = vec![0u8];
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let unaligned = Elements {
            dtype: DType::Float32,
            bytes: &bytes[1..],
        };
        assert_eq!(unaligned.to_f32().as_ref(), values);

        let mut bytes = vec![0u8];
        bytes.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()));
        let view = Elements {
            dtype: DType::BFloat16,
            bytes: &bytes[1..],
        };
        assert_eq!(view.to_f32().as_ref(), [1.5, -2400.0, 0.007_812_5]);

        for offset in [0, 1] {
            let mut bytes = vec![0u8; offset];
            bytes.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()));
            let view = Elements {
                dtype: DType::Float16,
                bytes: &bytes[offset..],
            };
            assert_eq!(view.to_f32().as_ref(), values);
            assert_eq!(view.slice(1, 2).to_f32().as_ref(), [-2400.0]);
        }
    }

    #[test]
    fn output_range_of_both_layouts() {
        let stored: Vec<u8> = (0..6).flat_map(|v| (v as f32).to_le_bytes()).collect();
        let elements = Elements {
            dtype: DType::Float32,
            bytes: &stored,
        };
        let linear = MatrixView {
            elements,
            out_features: 3,
            in_features: 2,
            out_stride: 2,
            in_stride: 1,
            file: None,
        };
        let rows = linear.outputs(1, 3);
        assert_eq!(rows.elements.to_f32().as_ref(), [2.0, 3.0, 4.0, 5.0]);
        let conv1d = MatrixView {
            elements,
            out_features: 3,
            in_features: 2,
            out_stride: 1,
            in_stride: 3,
            file: None,
        };
        let columns = conv1d.outputs(1, 2);
        let values = columns.elements.to_f32();
        assert_eq!((values[0], values[columns.in_stride]), (1.0, 4.0));
    }
}
