//! The CPU backend: float32 arithmetic on all cores.
//!
//! Matrix products come from the `gemm` crate; everything between them is here and vectorised by
//! the compiler for the processor at hand (`pulp` picks the instruction set at run time).

mod attention;
mod elementwise;
mod gemm;
mod head;
mod math;
mod norm;
mod pool;
mod routing;
pub(crate) mod simd;
mod statistics;

use std::borrow::Cow;

use rayon::prelude::*;

use self::{
    gemm::{Operand, Output, Shape},
    pool::{Buffer, Pool},
};
use super::{
    AttentionOutput, AttentionRequest, Backend, Change, HeadRequest, NormWeights, Precision,
    Rotation, Rows, Statistics, StatisticsRequest, Target,
};
use crate::{
    error::Result,
    interrupt,
    model::{
        dtype::DType,
        rope::RopeTable,
        spec::{Activation, Routing},
        weights::{Elements, MatrixView, WeightMatrix},
    },
};

/// The processor.
#[derive(Debug, Default)]
pub struct Cpu {
    pool: Pool,
}

/// Activations, row-major.
#[derive(Debug)]
pub struct Tensor {
    rows: usize,
    columns: usize,
    values: Buffer,
}

impl Tensor {
    /// The values, `rows * columns` of them.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}

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

    /// The weight as the right factor `[in, out]` of `x W^T`.
    fn transposed(&self) -> Operand<'_> {
        Operand {
            values: &self.values,
            row_stride: self.in_stride,
            column_stride: self.out_stride,
        }
    }
}

impl Cpu {
    /// A backend on all cores.
    pub fn new() -> Self {
        Self::default()
    }

    fn tensor(&self, rows: usize, columns: usize) -> Tensor {
        Tensor {
            rows,
            columns,
            values: self.pool.take(rows * columns),
        }
    }
}

/// Adds row `i` of `x` times `factors[i]` to the `i`-th row of `out` that is named.
fn add_rows(out: &mut Tensor, x: &Tensor, rows: impl Iterator<Item = usize>, factors: &[f32]) {
    let columns = x.columns;
    for (index, (row, factor)) in rows.zip(factors).enumerate() {
        let out = &mut out.values[row * columns..(row + 1) * columns];
        for (out, value) in out.iter_mut().zip(x.row(index)) {
            *out += value * factor;
        }
    }
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

impl Backend for Cpu {
    type Tensor = Tensor;
    type Matrix<'w> = Matrix<'w>;
    type Vector = Vec<f32>;
    type Visitors = Vec<routing::Visitors>;
    type Pending = Vec<Statistics>;

    fn precision(&self) -> Precision {
        DType::Float32.into()
    }

    fn micro_batch_rows(&self, _width: usize) -> usize {
        // Enough to amortise packing the weights; more would only need more memory.
        2048
    }

    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Tensor> {
        debug_assert_eq!(values.len(), rows * columns);
        Ok(Tensor {
            rows,
            columns,
            values: self.pool.adopt(values),
        })
    }

    fn synchronise(&self) -> Result<()> {
        // Every call here waits for its own work.
        Ok(())
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        Ok(x.values().to_vec())
    }

    fn columns(&self, x: &Tensor) -> usize {
        x.columns
    }

    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Matrix<'w>> {
        Ok(match weight {
            WeightMatrix::Stored(view) => Matrix::new(view, to_f32(view.elements)),
            WeightMatrix::Assembled(copy) => {
                let view = copy.view();
                Matrix::new(view, Cow::Owned(to_f32(view.elements).into_owned()))
            }
        })
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        Ok(values)
    }

    fn norm(&self, x: &Tensor, norm: &NormWeights<Vec<f32>>, _target: Target) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        norm::normalise(x.values(), norm, &mut out.values);
        Ok(out)
    }

    fn add_norm(
        &self,
        x: &mut Tensor,
        other: &Tensor,
        norm: &NormWeights<Vec<f32>>,
    ) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        norm::add_normalise(&mut x.values, other.values(), norm, &mut out.values);
        Ok(out)
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
            elementwise::fill_rows(&mut out.values, bias);
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

    fn activate(&self, x: &mut Tensor, activation: Activation) -> Result<()> {
        elementwise::activate(&mut x.values, activation);
        Ok(())
    }

    fn gate(&self, gate: &mut Tensor, up: &Tensor, activation: Activation) -> Result<()> {
        elementwise::gate(&mut gate.values, &up.values, activation);
        Ok(())
    }

    fn multiply(&self, x: &mut Tensor, other: &Tensor) -> Result<()> {
        elementwise::combine(&mut x.values, &other.values, |a, b| a * b);
        Ok(())
    }

    fn add(&self, x: &mut Tensor, other: &Tensor) -> Result<()> {
        elementwise::combine(&mut x.values, &other.values, |a, b| a + b);
        Ok(())
    }

    fn affine(&self, x: &mut Tensor, factor: f32, offset: f32) -> Result<()> {
        elementwise::map(
            &mut x.values,
            #[inline(always)]
            |x| x * factor + offset,
        );
        Ok(())
    }

    fn clamp(&self, x: &mut Tensor, low: f32, high: f32) -> Result<()> {
        // Not `f32::clamp`, which would turn NaN bounds into a panic.
        elementwise::map(
            &mut x.values,
            // Not `max` and `min`, which would hide a NaN.
            #[inline(always)]
            move |x| {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            },
        );
        Ok(())
    }

    fn rotate(
        &self,
        x: &mut Tensor,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()> {
        let columns = x.columns;
        for (rows, table) in sequences.iter().zip(tables) {
            let values = &mut x.values[rows.start * columns..rows.end * columns];
            elementwise::rotate(values, columns, rotation, table);
        }
        Ok(())
    }

    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Vec<f32>>,
    ) -> Result<AttentionOutput<Tensor>> {
        let columns = request.heads * request.value_dim;
        let mut context = self.tensor(q.rows, columns);
        let mut subset = request.subset.map(|_| self.tensor(q.rows, columns));
        let out = attention::Outputs {
            context: &mut context.values,
            subset: subset.as_mut().map(|subset| &mut subset.values[..]),
        };
        let maps = attention::run(q, k, v, sequences, request, out)?;
        Ok(AttentionOutput {
            context,
            maps,
            subset,
        })
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

    fn gather_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let mut out = self.tensor(rows.len(), x.columns);
        for (row, out) in rows.iter().zip(out.values.chunks_exact_mut(x.columns)) {
            out.copy_from_slice(x.row(*row));
        }
        Ok(out)
    }

    fn add_scaled(&self, out: &mut Tensor, x: &Tensor, factors: &Tensor) -> Result<()> {
        add_rows(out, x, 0..x.rows, factors.values());
        Ok(())
    }

    fn route(
        &self,
        logits: &Tensor,
        routing: &Routing,
        correction: Option<&Vec<f32>>,
    ) -> Result<Vec<routing::Visitors>> {
        let correction = correction.map(Vec::as_slice);
        let experts = logits.columns;
        Ok(routing::visitors(
            logits.values(),
            experts,
            routing,
            correction,
        ))
    }

    fn visits(&self, visitors: &Vec<routing::Visitors>) -> Vec<usize> {
        visitors.iter().map(|own| own.rows.len()).collect()
    }

    fn gather_visitors(
        &self,
        x: &Tensor,
        visitors: &Vec<routing::Visitors>,
        expert: usize,
    ) -> Result<Tensor> {
        self.gather_rows(x, &visitors[expert].rows)
    }

    fn add_visitors(
        &self,
        out: &mut Tensor,
        x: &Tensor,
        visitors: &Vec<routing::Visitors>,
        expert: usize,
    ) -> Result<()> {
        let own = &visitors[expert];
        add_rows(out, x, own.rows.iter().copied(), &own.factors);
        Ok(())
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

    fn values_at(&self, x: &Tensor, cells: &[(usize, usize)]) -> Result<Vec<f32>> {
        let value = |&(row, dimension): &(usize, usize)| x.row(row)[dimension];
        Ok(cells.iter().map(value).collect())
    }

    fn overwrite(&self, x: &mut Tensor, cells: &[(usize, usize, Change)]) -> Result<()> {
        for &(row, dimension, change) in cells {
            let value = &mut x.values[row * x.columns..(row + 1) * x.columns][dimension];
            *value = match change {
                Change::Set(new) => new,
                Change::Scale(factor) => *value * factor,
            };
        }
        Ok(())
    }

    fn statistics(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Vec<Statistics>> {
        interrupt::check()?;
        Ok(sequences
            .iter()
            .map(|rows| {
                let values = &x.values[rows.start * x.columns..rows.end * x.columns];
                statistics::measure(values, x.columns, request)
            })
            .collect())
    }

    fn read_statistics(&self, pending: Vec<Statistics>) -> Result<Vec<Statistics>> {
        Ok(pending)
    }

    fn token_nll(
        &self,
        x: &Tensor,
        head: &HeadRequest<'_, Vec<f32>>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>> {
        head::token_nll(self, x, head, targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overwriting_a_duplicate_leaves_the_original() {
        let cpu = Cpu::new();
        let x = cpu
            .upload(3, 2, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
            .expect("uploads");
        let mut copy = cpu.duplicate(&x).expect("duplicates");
        let cells = [
            (2, 1, Change::Set(9.0)),
            (0, 0, Change::Set(8.0)),
            (1, 1, Change::Scale(-0.5)),
        ];
        cpu.overwrite(&mut copy, &cells).expect("overwrites");
        assert_eq!(copy.values(), [8.0, 1.0, 2.0, -1.5, 4.0, 9.0]);
        assert_eq!(x.values(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let found = cpu.values_at(&copy, &[(2, 1), (1, 0), (2, 1)]);
        assert_eq!(found.expect("reads"), [9.0, 2.0, 9.0]);
    }
}
