//! Weight matrices that are not one block of a file.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::{
    packed::PackedMatrix,
    view::{Elements, MatrixView},
};
use crate::model::dtype::DType;

/// A weight matrix: in the file, or to be made from it. Embedding tables and heads are such, too.
#[derive(Debug)]
pub enum WeightMatrix<'w> {
    /// One strided block of a stored tensor.
    Stored(MatrixView<'w>),
    /// Outputs of a packed tensor, not yet decoded.
    Packed(PackedMatrix<'w>),
    /// A copy, because the file interleaves it with others or something was added to it.
    Assembled(AssembledMatrix),
}

impl WeightMatrix<'_> {
    /// Rows: the width of the result, or the entries of a table.
    pub fn out_features(&self) -> usize {
        match self {
            Self::Stored(view) => view.out_features,
            Self::Packed(matrix) => matrix.out_features,
            Self::Assembled(copy) => copy.out_features,
        }
    }

    /// The outputs `start..end` only.
    #[must_use]
    pub fn outputs(&self, start: usize, end: usize) -> WeightMatrix<'_> {
        match self {
            Self::Stored(view) => WeightMatrix::Stored(view.outputs(start, end)),
            Self::Packed(matrix) => WeightMatrix::Packed(matrix.outputs(start, end)),
            Self::Assembled(copy) => WeightMatrix::Stored(copy.view().outputs(start, end)),
        }
    }

    /// The type of its values; float32 where they are decoded.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Stored(view) => view.elements.dtype,
            Self::Packed(_) => DType::Float32,
            Self::Assembled(copy) => copy.dtype,
        }
    }

    /// Writes the row `[in_features]` of one output as float32.
    pub fn write_output(&self, output: usize, out: &mut [f32]) {
        match self {
            Self::Stored(view) => view.write_output(output, out),
            Self::Packed(matrix) => matrix.write_output(output, out),
            Self::Assembled(copy) => copy.view().write_output(output, out),
        }
    }
}

impl<'w> From<MatrixView<'w>> for WeightMatrix<'w> {
    fn from(view: MatrixView<'w>) -> Self {
        Self::Stored(view)
    }
}

impl<'w> From<PackedMatrix<'w>> for WeightMatrix<'w> {
    fn from(matrix: PackedMatrix<'w>) -> Self {
        Self::Packed(matrix)
    }
}

impl From<AssembledMatrix> for WeightMatrix<'_> {
    fn from(copy: AssembledMatrix) -> Self {
        Self::Assembled(copy)
    }
}

/// A matrix in memory, without gaps: `[out_features, in_features]`, or the other way round.
#[derive(Debug)]
pub struct AssembledMatrix {
    dtype: DType,
    values: Owned,
    out_features: usize,
    in_features: usize,
    /// Stored as `[in_features, out_features]`.
    by_input: bool,
}

/// Values of an assembled matrix.
#[derive(Debug)]
enum Owned {
    Bytes(Vec<u8>),
    Float32(Vec<f32>),
}

impl AssembledMatrix {
    /// The outputs `rows` of a stored matrix, in this order.
    pub fn gather(whole: MatrixView<'_>, rows: impl ExactSizeIterator<Item = usize>) -> Self {
        let dtype = whole.elements.dtype;
        let size = dtype.size();
        let out_features = rows.len();
        let mut bytes = Vec::with_capacity(out_features * whole.in_features * size);
        for row in rows {
            let view = whole.outputs(row, row + 1);
            if view.in_stride == 1 {
                bytes.extend_from_slice(view.elements.bytes);
            } else {
                for element in view.elements.bytes.chunks(size).step_by(view.in_stride) {
                    bytes.extend_from_slice(element);
                }
            }
        }
        Self {
            dtype,
            values: Owned::Bytes(bytes),
            out_features,
            in_features: whole.in_features,
            by_input: false,
        }
    }

    /// From float32 values, rounded to the type that they are stored in.
    pub fn stored_as(
        dtype: DType,
        values: &[f32],
        out_features: usize,
        in_features: usize,
    ) -> Self {
        debug_assert_eq!(values.len(), out_features * in_features);
        let bytes = values.iter().flat_map(|&x| match dtype {
            DType::Float32 => x.to_le_bytes().to_vec(),
            DType::BFloat16 => bf16::from_f32(x).to_le_bytes().to_vec(),
            DType::Float16 => f16::from_f32(x).to_le_bytes().to_vec(),
        });
        Self {
            dtype,
            values: Owned::Bytes(bytes.collect()),
            out_features,
            in_features,
            by_input: false,
        }
    }

    /// From float32 values, stored as they are.
    pub fn from_f32(values: &[f32], out_features: usize, in_features: usize) -> Self {
        Self::of_values(values.to_vec(), out_features, in_features, false)
    }

    /// Of these values: `[out_features, in_features]`, or the other way round.
    pub fn of_values(
        values: Vec<f32>,
        out_features: usize,
        in_features: usize,
        by_input: bool,
    ) -> Self {
        debug_assert_eq!(values.len(), out_features * in_features);
        Self {
            dtype: DType::Float32,
            values: Owned::Float32(values),
            out_features,
            in_features,
            by_input,
        }
    }

    /// As a view.
    pub fn view(&self) -> MatrixView<'_> {
        let bytes = match &self.values {
            Owned::Bytes(bytes) => bytes.as_slice(),
            Owned::Float32(values) => bytemuck::cast_slice(values),
        };
        let (out_stride, in_stride) = if self.by_input {
            (1, self.out_features)
        } else {
            (self.in_features, 1)
        };
        MatrixView {
            elements: Elements {
                dtype: self.dtype,
                bytes,
            },
            out_features: self.out_features,
            in_features: self.in_features,
            out_stride,
            in_stride,
            file: None,
        }
    }

    /// The values in the order of the view.
    pub fn into_f32(self) -> Vec<f32> {
        match self.values {
            Owned::Float32(values) => values,
            Owned::Bytes(_) => self.view().elements.to_f32().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_rows_of_both_layouts() {
        let values: Vec<f32> = (0..8).map(|value| value as f32).collect();
        let stored = AssembledMatrix::from_f32(&values, 4, 2);
        let rows = AssembledMatrix::gather(stored.view(), [2, 0].into_iter());
        assert_eq!(rows.view().elements.to_f32().as_ref(), [4.0, 5.0, 0.0, 1.0]);
        let columns = MatrixView {
            out_features: 2,
            in_features: 4,
            out_stride: 1,
            in_stride: 2,
            ..stored.view()
        };
        let column = AssembledMatrix::gather(columns, [1].into_iter());
        assert_eq!(
            column.view().elements.to_f32().as_ref(),
            [1.0, 3.0, 5.0, 7.0]
        );
    }
}
