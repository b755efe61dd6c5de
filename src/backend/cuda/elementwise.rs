//! Operations on single values (`kernels/elementwise.cu`, `kernels/cells.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::{Argument, Device},
    tensor::{int, suffix},
};
use crate::{backend::Change, error::Result, model::spec::Activation};

/// The numbers of `kernels/activation.cuh`, with the parameter.
fn activation_code(activation: Activation) -> (i32, f32) {
    match activation {
        Activation::Silu => (0, 0.0),
        Activation::ScaledSilu(factor) => (1, factor),
        Activation::Sigmoid => (2, 0.0),
        Activation::GeluErf => (3, 0.0),
        Activation::GeluTanh => (4, 0.0),
        Activation::Relu => (5, 0.0),
        Activation::ReluSquared => (6, 0.0),
    }
}

impl<D: Device> Cuda<D> {
    pub(super) fn apply_activation(&self, x: &Tensor<D>, activation: Activation) -> Result<()> {
        let (code, parameter) = activation_code(activation);
        self.update("activate", x, &[], &[code.into(), parameter.into()])
    }

    pub(super) fn apply_gate(
        &self,
        gate: &Tensor<D>,
        up: &Tensor<D>,
        activation: Activation,
    ) -> Result<()> {
        debug_assert_eq!(gate.dtype, up.dtype);
        let (code, parameter) = activation_code(activation);
        let operands = [up.buffer.address().into()];
        self.update("gate", gate, &operands, &[code.into(), parameter.into()])
    }

    /// Runs an in-place kernel: `x`, the `operands`, the number of values, the `parameters`.
    pub(super) fn update(
        &self,
        kernel: &str,
        x: &Tensor<D>,
        operands: &[Argument],
        parameters: &[Argument],
    ) -> Result<()> {
        let per_vector = 16 / x.dtype.size();
        let mut arguments = vec![x.buffer.address().into()];
        arguments.extend_from_slice(operands);
        arguments.push((x.len() as u64).into());
        arguments.extend_from_slice(parameters);
        self.launch(
            &format!("{kernel}_{}", suffix(x.dtype)),
            [self.blocks(x.len().div_ceil(per_vector)), 1],
            256,
            &arguments,
        )
    }

    pub(super) fn write_cells(
        &self,
        x: &Tensor<D>,
        cells: &[(usize, usize, Change)],
    ) -> Result<()> {
        if cells.is_empty() {
            return Ok(());
        }
        let index = |cell: &(usize, usize, Change)| (cell.0 * x.columns + cell.1) as u64;
        let indices: Vec<u64> = cells.iter().map(index).collect();
        let (operands, scaled): (Vec<f32>, Vec<u8>) = cells
            .iter()
            .map(|(_, _, change)| match change {
                Change::Set(value) => (*value, 0),
                Change::Scale(factor) => (*factor, 1),
            })
            .unzip();
        let places = self.list(&indices)?;
        let (operands, scaled) = (self.list(&operands)?, self.list(&scaled)?);
        self.launch(
            &format!("overwrite_{}", suffix(x.dtype)),
            [self.blocks(indices.len()), 1],
            256,
            &[
                x.buffer.address().into(),
                places.address().into(),
                operands.address().into(),
                scaled.address().into(),
                int(indices.len())?.into(),
            ],
        )
    }

    pub(super) fn read_cells(&self, x: &Tensor<D>, cells: &[(usize, usize)]) -> Result<Vec<f32>> {
        let indices: Vec<u64> = cells
            .iter()
            .map(|(row, dimension)| (row * x.columns + dimension) as u64)
            .collect();
        if indices.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.list(&indices)?;
        let values = self.list(&vec![0f32; indices.len()])?;
        self.launch(
            &format!("values_at_{}", suffix(x.dtype)),
            [self.blocks(indices.len()), 1],
            256,
            &[
                x.buffer.address().into(),
                places.address().into(),
                values.address().into(),
                int(indices.len())?.into(),
            ],
        )?;
        self.fetch(&values, indices.len())
    }
}
