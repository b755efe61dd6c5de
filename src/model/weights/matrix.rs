//! Weight matrices that are not one block of a file.
#![forbid(unsafe_code)]

use half::{bf16, f16};

use super::view::{Elements, MatrixView};
use crate::model::dtype::DType;

/// A weight matrix: in the file, or assembled from it.
#[derive(Debug)]
pub enum WeightMatrix<'w> {
    /// One strided block of a stored tensor.
    Stored(MatrixView<'w>),
    /// A copy, because the file interleaves it with others or stores it packed.
    Assembled(AssembledMatrix),
}

impl<'w> From<MatrixView<'w>> for WeightMatrix<'w> {
    fn from(view: MatrixView<'w>) -> Self {
        Self::Stored(view)
    }
}

impl From<AssembledMatrix> for WeightMatrix<'_> {
    fn from(copy: AssembledMatrix) -> Self {
        Self::Assembled(copy)
    }
}

/// A matrix `[out_features, in_features]` in memory, row-major.
#[derive(Debug)]
pub struct AssembledMatrix {
    dtype: DType,
    bytes: Vec<u8>,
    out_features: usize,
    in_features: usize,
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
            bytes,
            out_features,
            in_features: whole.in_features,
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
            bytes: bytes.collect(),
            out_features,
            in_features,
        }
    }

    /// From float32 values, stored as they are.
    pub fn from_f32(values: &[f32], out_features: usize, in_features: usize) -> Self {
        Self::stored_as(DType::Float32, values, out_features, in_features)
    }

    /// As a view.
    pub fn view(&self) -> MatrixView<'_> {
        MatrixView {
            elements: Elements {
                dtype: self.dtype,
                bytes: &self.bytes,
            },
            out_features: self.out_features,
            in_features: self.in_features,
            out_stride: self.in_features,
            in_stride: 1,
            file: None,
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
