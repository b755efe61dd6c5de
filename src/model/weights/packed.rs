//! Tensors whose values have to be decoded.
#![forbid(unsafe_code)]

use std::sync::Arc;

use rayon::prelude::*;

use super::{encodings::Encoding, matrix::AssembledMatrix, shard::Stored};
use crate::interrupt;

/// A packed tensor, under the name and with the shape that it has where nothing is packed: a matrix is
/// `[out, in]`, a stack of them `[count, out, in]`.
#[derive(Debug, Clone)]
pub struct PackedTensor {
    shape: Vec<usize>,
    encoding: Arc<Encoding>,
}

impl PackedTensor {
    /// What `encoding` encodes, of at least two dimensions.
    pub(super) fn new(shape: Vec<usize>, encoding: Encoding) -> Self {
        debug_assert!(shape.len() >= 2);
        Self {
            shape,
            encoding: Arc::new(encoding),
        }
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How it is packed.
    pub fn encoding(&self) -> &Arc<Encoding> {
        &self.encoding
    }

    /// What of the files it is read from.
    pub(super) fn parts(&self) -> Vec<&Stored> {
        self.encoding.parts()
    }

    /// Whether a tensor of this shape is stored so, padding aside.
    pub(super) fn fits(&self, shape: &[usize]) -> bool {
        let (Some((own_last, own)), Some((last, outer))) =
            (self.shape.split_last(), shape.split_last())
        else {
            return false;
        };
        own == outer
            && (own_last == last || last.next_multiple_of(self.encoding.padding()) == *own_last)
    }
}

/// A matrix `[out_features, in_features]` inside a packed tensor: outputs that come in groups of `size`,
/// `stride` apart.
#[derive(Debug, Clone, Copy)]
pub struct PackedMatrix<'w> {
    tensor: &'w PackedTensor,
    /// Which one of a stack.
    index: usize,
    rows: PackedRows,
    /// Rows: the width of the result.
    pub out_features: usize,
    /// Columns: the width of the input.
    pub in_features: usize,
}

/// Output `o` of a [`PackedMatrix`] is output `first + i / size * stride + i % size` of the stored one, where
/// `i = skipped + o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedRows {
    /// The first that can be one of its own.
    pub first: usize,
    /// Outputs that follow each other.
    pub size: usize,
    /// From the first of them to the first of the next.
    pub stride: usize,
    /// How many are left out at the start.
    pub skipped: usize,
}

impl<'w> PackedMatrix<'w> {
    /// Matrix `index` of a tensor, all outputs of it, with `in_features` inputs: fewer than the tensor
    /// has where it is padded.
    pub(in crate::model) fn new(
        tensor: &'w PackedTensor,
        index: usize,
        in_features: usize,
    ) -> Self {
        let outputs = tensor.shape[tensor.shape.len() - 2];
        Self {
            tensor,
            index,
            rows: PackedRows {
                first: 0,
                size: outputs,
                stride: outputs,
                skipped: 0,
            },
            out_features: outputs,
            in_features,
        }
    }

    /// Of every `stride` outputs `size`, from `first` on, `count` in all; they must be there.
    #[must_use]
    pub fn grouped(self, first: usize, size: usize, stride: usize, count: usize) -> Self {
        Self {
            rows: PackedRows {
                first,
                size,
                stride,
                skipped: 0,
            },
            out_features: count,
            ..self
        }
    }

    /// The outputs `start..end` only.
    #[must_use]
    pub fn outputs(self, start: usize, end: usize) -> Self {
        let skipped = self.rows.skipped + start;
        Self {
            rows: PackedRows {
                skipped,
                ..self.rows
            },
            out_features: end - start,
            ..self
        }
    }

    /// Which outputs of the stored matrix it has.
    pub fn rows(&self) -> PackedRows {
        self.rows
    }

    /// The tensor that it is part of.
    pub fn tensor(&self) -> &'w PackedTensor {
        self.tensor
    }

    /// Its place among the matrices of the tensor.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where output `output` lies among those of its matrix.
    pub fn stored_output(&self, output: usize) -> usize {
        let index = self.rows.skipped + output;
        self.rows.first + index / self.rows.size * self.rows.stride + index % self.rows.size
    }

    /// The line of the tensor that has the first of its own outputs, or the first of its inputs.
    fn first_line(&self) -> usize {
        let shape = &self.tensor.shape;
        let lines = if self.tensor.encoding.by_input() {
            shape[shape.len() - 1]
        } else {
            shape[shape.len() - 2]
        };
        self.index * lines
    }

    /// Decodes the row `[in_features]` of one output.
    pub fn write_output(&self, output: usize, out: &mut [f32]) {
        let encoding = &self.tensor.encoding;
        let (line, stored) = (self.first_line(), self.stored_output(output));
        if encoding.by_input() {
            for (input, value) in out.iter_mut().enumerate() {
                encoding.decode(line + input, stored, std::slice::from_mut(value));
            }
        } else {
            encoding.decode(line + stored, 0, out);
        }
    }

    /// Decodes all of it, on all cores. An interrupt leaves values out: the caller checks.
    pub fn assemble(&self) -> AssembledMatrix {
        let by_input = self.tensor.encoding.by_input();
        let length = if by_input {
            self.out_features
        } else {
            self.in_features
        };
        let mut values = vec![0.0f32; self.out_features * self.in_features];
        values
            .par_chunks_mut(length.max(1))
            .enumerate()
            .for_each(|(index, out)| {
                if interrupt::requested() {
                } else if by_input {
                    self.write_input(index, out);
                } else {
                    self.write_output(index, out);
                }
            });
        AssembledMatrix::of_values(values, self.out_features, self.in_features, by_input)
    }

    /// Whether the tensor's lines are inputs': whole columns are then decoded best.
    pub fn by_input(&self) -> bool {
        self.tensor.encoding.by_input()
    }

    /// Decodes the column `[out_features]` of one input, of a tensor whose lines are inputs'.
    pub fn write_input(&self, input: usize, out: &mut [f32]) {
        let line = self.first_line() + input;
        let mut done = 0;
        while done < out.len() {
            // Up to the end of a group outputs follow each other.
            let group = self.rows.size - (self.rows.skipped + done) % self.rows.size;
            let end = out.len().min(done + group);
            let first = self.stored_output(done);
            self.tensor
                .encoding
                .decode(line, first, &mut out[done..end]);
            done = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::{
        super::{encodings::Mxfp4, shard::in_memory},
        *,
    };

    /// Two matrices `[4, 32]`; the value at output `o` of matrix `m` is that of code `4 m + o`.
    fn stack() -> PackedTensor {
        let codes = (0..8u8).flat_map(|line| [line << 4 | line; 16]).collect();
        let codes = in_memory(Dtype::U8, &[2, 4, 1, 16], codes);
        let scales = in_memory(Dtype::U8, &[2, 4, 1], vec![127; 8]);
        let (encoding, shape) = Mxfp4::new("x", codes, scales).expect("fits");
        PackedTensor::new(shape, Encoding::Mxfp4(encoding))
    }

    #[test]
    fn padding_may_be_left_out() {
        let tensor = stack();
        for (shape, fits) in [
            (vec![2, 4, 32], true),
            (vec![2, 4, 7], true),
            (vec![2, 4, 33], false),
            (vec![4, 2, 32], false),
            (vec![8, 32], false),
            (vec![], false),
        ] {
            assert_eq!(tensor.fits(&shape), fits, "{shape:?}");
        }
    }

    #[test]
    fn outputs_of_one_of_a_stack() {
        let tensor = stack();
        let all = PackedMatrix::new(&tensor, 1, 3);
        let first = |matrix: PackedMatrix<'_>| -> Vec<f32> {
            let matrix = matrix.assemble();
            let values = matrix.view().elements.to_f32();
            values.chunks(3).map(|row| row[2]).collect()
        };
        assert_eq!(first(all), [2.0, 3.0, 4.0, 6.0]);
        assert_eq!(first(all.outputs(1, 3)), [3.0, 4.0]);
        let odd = all.grouped(1, 1, 2, 2);
        assert_eq!(first(odd), [3.0, 6.0]);
        assert_eq!(first(odd.outputs(1, 2)), [6.0]);
    }
}
