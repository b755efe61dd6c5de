//! Scaling of rows and columns (`kernels/row_scaling.cu`).
#![forbid(unsafe_code)]

use super::{
    Argument, Cuda, Tensor,
    device::Device,
    tensors::{int, suffix, threads},
    vectors::Vector,
};
use crate::{backend::RowScaling, error::Result};

impl<D: Device> RowScaling for Cuda<D> {
    fn match_magnitude(&self, x: &mut Tensor<D>, like: &Tensor<D>, floor: f32) -> Result<()> {
        debug_assert_eq!(x.dtype, like.dtype);
        let like = like.buffer.address().into();
        self.scale("match_magnitude", x, Some(like), Some(floor))
    }

    fn keep_largest(&self, x: &mut Tensor<D>, deviations: f32) -> Result<()> {
        self.scale("keep_largest", x, None, Some(deviations))
    }

    fn multiply_columns(&self, x: &mut Tensor<D>, factors: &Vector<D>) -> Result<()> {
        let factors = factors.address().into();
        self.scale("multiply_columns", x, Some(factors), None)
    }
}

impl<D: Device> Cuda<D> {
    /// Runs a kernel of rows: `x`, the `operand`, its sizes, the `parameter`.
    fn scale(
        &self,
        kernel: &str,
        x: &Tensor<D>,
        operand: Option<Argument<'_>>,
        parameter: Option<f32>,
    ) -> Result<()> {
        let mut arguments = vec![x.buffer.address().into()];
        arguments.extend(operand);
        arguments.push(int(x.rows)?.into());
        arguments.push(int(x.columns)?.into());
        arguments.extend(parameter.map(Argument::from));
        self.launch(
            &format!("{kernel}_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(x.columns),
            &arguments,
        )
    }
}
