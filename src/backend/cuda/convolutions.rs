//! Short causal convolutions over tokens (`kernels/convolution.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    attention::tiles::Tiles,
    constants::{CONVOLUTION_ROWS, CONVOLUTION_THREADS},
    device::Device,
    elementwise::activation_code,
    tensors::{int, suffix},
    vectors::Vector,
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
        filter: &Filter<Vector<D>>,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(x.rows, x.columns, x.dtype)?;
        let tiles = Tiles::new(self, sequences, CONVOLUTION_ROWS, |_, length| length)?;
        let per_vector = 16 / x.dtype.size();
        let groups = if x.columns.is_multiple_of(per_vector) {
            x.columns / per_vector
        } else {
            x.columns
        };
        // -1: none.
        let (code, parameter) = filter.activation.map_or((-1, 0.0), activation_code);
        self.launch(
            &format!("convolve_{}", suffix(x.dtype)),
            [groups.div_ceil(CONVOLUTION_THREADS) as u32, tiles.count],
            CONVOLUTION_THREADS as u32,
            &[
                x.buffer.address().into(),
                out.buffer.address().into(),
                filter.weight.address().into(),
                filter.bias.as_ref().map(Vector::address).into(),
                tiles.buffer.address().into(),
                int(x.columns)?.into(),
                int(filter.width)?.into(),
                code.into(),
                parameter.into(),
            ],
        )?;
        Ok(out)
    }
}
