//! The gated short convolution.
#![forbid(unsafe_code)]

use super::convolution::ConvolutionWeights;
use crate::{
    backend::Backend,
    engine::{parts::Projection, pass::Pass},
    error::Result,
    model::{Model, spec::ShortConvolution},
};

/// On the device.
pub(in crate::engine) struct ShortConvolutionWeights<'m, B: Backend> {
    b: Projection<'m, B>,
    c: Projection<'m, B>,
    x: Projection<'m, B>,
    convolution: ConvolutionWeights<B>,
    out: Projection<'m, B>,
}

impl<'m, B: Backend> ShortConvolutionWeights<'m, B> {
    pub(super) fn load(backend: &B, model: &'m Model, spec: &ShortConvolution) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        Ok(Self {
            b: load(&spec.b)?,
            c: load(&spec.c)?,
            x: load(&spec.x)?,
            convolution: ConvolutionWeights::load(backend, model, &spec.convolution)?,
            out: load(&spec.out)?,
        })
    }

    pub(super) fn run(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let mut x = self.x.apply(backend, input)?;
        backend.multiply(&mut x, &self.b.apply(backend, input)?)?;
        let mut x = self.convolution.apply(backend, &x, &pass.batch.rows)?;
        backend.multiply(&mut x, &self.c.apply(backend, input)?)?;
        self.out.to_stream(backend, &x)
    }
}
