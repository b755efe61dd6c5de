//! A short causal convolution on the device.
#![forbid(unsafe_code)]

use crate::{
    backend::{Backend, Filter, Rows},
    engine::{parts::Projection, pass::Pass},
    error::Result,
    model::{
        Model,
        spec::{Convolution, Linear},
    },
};

/// Its taps.
pub(super) struct ConvolutionWeights<B: Backend> {
    filter: Filter<B::Vector>,
}

impl<B: Backend> ConvolutionWeights<B> {
    /// Puts them there.
    pub(super) fn load(backend: &B, model: &Model, spec: &Convolution) -> Result<Self> {
        let bias = spec.bias.as_ref();
        let mut weight = Vec::new();
        for vector in &spec.weight {
            weight.extend(model.vector(vector)?);
        }
        Ok(Self {
            filter: Filter {
                width: spec.width,
                weight: backend.vector(weight)?,
                bias: bias
                    .map(|bias| backend.vector(model.vector(bias)?))
                    .transpose()?,
                activation: spec.activation,
            },
        })
    }

    /// Over the tokens of each sequence.
    pub(super) fn apply(
        &self,
        backend: &B,
        x: &B::Tensor,
        sequences: &[Rows],
    ) -> Result<B::Tensor> {
        backend.convolve(x, sequences, &self.filter)
    }
}

/// A projection and the convolution behind it.
pub(super) struct Convolved<'m, B: Backend> {
    projection: Projection<'m, B>,
    convolution: ConvolutionWeights<B>,
}

impl<'m, B: Backend> Convolved<'m, B> {
    /// Puts both on the device.
    pub(super) fn load(
        backend: &B,
        model: &'m Model,
        linear: &Linear,
        convolution: &Convolution,
    ) -> Result<Self> {
        Ok(Self {
            projection: Projection::load(backend, model, linear)?,
            convolution: ConvolutionWeights::load(backend, model, convolution)?,
        })
    }

    /// Over the tokens of each sequence.
    pub(super) fn apply(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let projected = self.projection.apply(backend, input)?;
        self.convolution
            .apply(backend, &projected, &pass.batch.rows)
    }
}
