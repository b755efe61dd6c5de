//! A short causal convolution on the device.
#![forbid(unsafe_code)]

use crate::{
    backend::{Backend, Filter, Rows},
    error::Result,
    model::{Model, spec::Convolution},
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
