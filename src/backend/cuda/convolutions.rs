//! Short causal convolutions over tokens (`kernels/convolution.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::Device,
    elementwise::activation_code,
    memory::Buffer,
    tensors::{int, suffix},
};
use crate::{
    backend::{Convolutions, Filter, Rows},
    error::Result,
};

impl<D: Device> Convolutions for Cuda<D> {
    fn convolve(
        &self,
        x: &Tensor<D>,
        sequences: &[Rows],
        filter: &Filter<Buffer<D>>,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(x.rows, x.columns, x.dtype)?;
        // -1: none.
        let (code, parameter) = filter.activation.map_or((-1, 0.0), activation_code);
        for rows in sequences {
            let start = rows.start * x.columns * x.dtype.size();
            self.launch(
                &format!("convolve_{}", suffix(x.dtype)),
                [self.blocks(rows.len() * x.columns), 1],
                256,
                &[
                    x.buffer.address().offset(start).into(),
                    out.buffer.address().offset(start).into(),
                    filter.weight.address().into(),
                    filter.bias.as_ref().map(Buffer::address).into(),
                    int(rows.len())?.into(),
                    int(x.columns)?.into(),
                    int(filter.width)?.into(),
                    code.into(),
                    parameter.into(),
                ],
            )?;
        }
        Ok(out)
    }
}
