//! Several residual streams a token (`kernels/streams.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    constants::{STREAMS_MOST, STREAMS_THREADS},
    device::Device,
    tensors::{int, suffix, threads},
    vectors::Vector,
};
use crate::{
    backend::{StreamRequest, Streams},
    error::Result,
    model::spec::MOST_STREAMS,
};

const _: () = assert!(STREAMS_MOST == MOST_STREAMS);

impl<D: Device> Streams for Cuda<D> {
    fn spread(&self, x: &Tensor<D>, count: usize) -> Result<Tensor<D>> {
        let out = self.tensor(x.rows, count * x.columns, x.dtype)?;
        self.launch(
            &format!("spread_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                x.buffer.address().into(),
                out.buffer.address().into(),
                int(x.rows)?.into(),
                int(x.columns)?.into(),
                int(count)?.into(),
            ],
        )?;
        Ok(out)
    }

    fn stream_weights(
        &self,
        products: &mut Tensor<D>,
        request: &StreamRequest<'_, Vector<D>>,
    ) -> Result<()> {
        let blocks = products.rows.div_ceil(STREAMS_THREADS);
        self.launch(
            &format!("stream_weights_{}", suffix(products.dtype)),
            [int(blocks)?.cast_unsigned(), 1],
            STREAMS_THREADS as u32,
            &[
                products.buffer.address().into(),
                request.base.address().into(),
                request.scale.address().into(),
                int(products.rows)?.into(),
                int(products.columns)?.into(),
                int(request.count)?.into(),
                int(request.iterations)?.into(),
                request.epsilon.into(),
            ],
        )
    }

    fn collapse(
        &self,
        x: &Tensor<D>,
        count: usize,
        weights: Option<&Tensor<D>>,
    ) -> Result<Tensor<D>> {
        let columns = x.columns / count;
        let out = self.tensor(x.rows, columns, x.dtype)?;
        debug_assert!(weights.is_none_or(|weights| weights.dtype == x.dtype));
        self.launch(
            &format!("collapse_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(columns),
            &[
                x.buffer.address().into(),
                weights.map(|weights| weights.buffer.address()).into(),
                out.buffer.address().into(),
                int(x.rows)?.into(),
                int(columns)?.into(),
                int(count)?.into(),
                int(weights.map_or(0, |weights| weights.columns))?.into(),
            ],
        )?;
        Ok(out)
    }

    fn mix_streams(&self, x: &Tensor<D>, y: &Tensor<D>, weights: &Tensor<D>) -> Result<Tensor<D>> {
        debug_assert!(x.dtype == y.dtype && x.dtype == weights.dtype);
        let out = self.tensor(x.rows, x.columns, x.dtype)?;
        self.launch(
            &format!("mix_streams_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(y.columns),
            &[
                x.buffer.address().into(),
                y.buffer.address().into(),
                weights.buffer.address().into(),
                out.buffer.address().into(),
                int(x.rows)?.into(),
                int(y.columns)?.into(),
                int(x.columns / y.columns)?.into(),
            ],
        )?;
        Ok(out)
    }
}
