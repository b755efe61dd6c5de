//! Operations on single values (`kernels/elementwise.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor, constants,
    device::{Argument, Device},
    tensors::{int, suffix, threads},
};
use crate::{
    backend::{Elementwise, Xielu},
    error::Result,
    model::spec::Activation,
};

/// The kernels' number of an activation, with the parameter.
pub(super) fn activation_code(activation: Activation) -> (i32, f32) {
    let (code, parameter) = match activation {
        Activation::Silu => (constants::ACTIVATION_SILU, 0.0),
        Activation::ScaledSilu(factor) => (constants::ACTIVATION_SCALED_SILU, factor),
        Activation::Sigmoid => (constants::ACTIVATION_SIGMOID, 0.0),
        Activation::Softplus => (constants::ACTIVATION_SOFTPLUS, 0.0),
        Activation::GeluErf => (constants::ACTIVATION_GELU_ERF, 0.0),
        Activation::GeluTanh => (constants::ACTIVATION_GELU_TANH, 0.0),
        Activation::Relu => (constants::ACTIVATION_RELU, 0.0),
        Activation::ReluSquared => (constants::ACTIVATION_RELU_SQUARED, 0.0),
    };
    (code as i32, parameter)
}

impl<D: Device> Elementwise for Cuda<D> {
    fn activate(&self, x: &mut Tensor<D>, activation: Activation) -> Result<()> {
        let (code, parameter) = activation_code(activation);
        self.update("activate", x, &[], &[code.into(), parameter.into()])
    }

    fn xielu(&self, x: &mut Tensor<D>, scalars: Xielu) -> Result<()> {
        let Xielu {
            square,
            exponential,
            linear,
            limit,
        } = scalars;
        let scalars = [square, exponential, linear, limit].map(Into::into);
        self.update("xielu", x, &[], &scalars)
    }

    fn gate(&self, gate: &mut Tensor<D>, up: &Tensor<D>, activation: Activation) -> Result<()> {
        debug_assert_eq!(gate.dtype, up.dtype);
        let (code, parameter) = activation_code(activation);
        let operands = [up.buffer.address().into()];
        self.update("gate", gate, &operands, &[code.into(), parameter.into()])
    }

    fn gate_halves(&self, both: &Tensor<D>, activation: Activation) -> Result<Tensor<D>> {
        let out = self.tensor(both.rows, both.columns / 2, both.dtype)?;
        let (code, parameter) = activation_code(activation);
        self.launch(
            &format!("gate_halves_{}", suffix(both.dtype)),
            [int(both.rows)?.cast_unsigned(), 1],
            threads(out.columns.div_ceil(16 / both.dtype.size())),
            &[
                both.buffer.address().into(),
                out.buffer.address().into(),
                int(both.rows)?.into(),
                int(out.columns)?.into(),
                code.into(),
                parameter.into(),
            ],
        )?;
        Ok(out)
    }

    fn multiply(&self, x: &mut Tensor<D>, other: &Tensor<D>) -> Result<()> {
        debug_assert_eq!(x.dtype, other.dtype);
        self.update("multiply", x, &[other.buffer.address().into()], &[])
    }

    fn multiply_heads(&self, x: &mut Tensor<D>, factors: &Tensor<D>) -> Result<()> {
        debug_assert_eq!(x.dtype, factors.dtype);
        let width = int(x.columns / factors.columns)?;
        let operands = [factors.buffer.address().into()];
        self.update("multiply_heads", x, &operands, &[width.into()])
    }

    fn add(&self, x: &mut Tensor<D>, other: &Tensor<D>) -> Result<()> {
        debug_assert_eq!(x.dtype, other.dtype);
        self.update("add", x, &[other.buffer.address().into()], &[])
    }

    fn affine(&self, x: &mut Tensor<D>, factor: f32, offset: f32) -> Result<()> {
        self.update("affine", x, &[], &[factor.into(), offset.into()])
    }

    fn clamp(&self, x: &mut Tensor<D>, low: f32, high: f32) -> Result<()> {
        self.update("clamp", x, &[], &[low.into(), high.into()])
    }
}

impl<D: Device> Cuda<D> {
    /// Runs an in-place kernel: `x`, the `operands`, the number of values, the `parameters`.
    fn update(
        &self,
        kernel: &str,
        x: &Tensor<D>,
        operands: &[Argument<'_>],
        parameters: &[Argument<'_>],
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
}
