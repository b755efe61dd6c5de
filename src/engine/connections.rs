//! Several residual streams that a layer's parts read a sum of, add to and mix.
#![forbid(unsafe_code)]

use super::parts::{Projection, load_norm};
use crate::{
    backend::{Backend, NormWeights, StreamRequest, Target},
    error::Result,
    model::{
        Model,
        spec::{HyperConnections, StreamWeights},
    },
};

/// What makes the weights of one part, on the device.
pub(super) struct ConnectionWeights<'m, B: Backend> {
    spec: &'m StreamWeights,
    count: usize,
    norm: NormWeights<B::Vector>,
    weights: Projection<'m, B>,
    base: B::Vector,
    scale: B::Vector,
}

impl<'m, B: Backend> ConnectionWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m StreamWeights) -> Result<Self> {
        Ok(Self {
            spec,
            count: model.spec.streams(),
            norm: load_norm(backend, model, &spec.norm)?,
            weights: Projection::load(backend, model, &spec.weights)?,
            base: backend.vector(model.vector(&spec.base)?)?,
            scale: backend.vector(model.vector(&spec.scale)?)?,
        })
    }

    /// Those of a layer's parts: what mixes tokens, the MLP.
    pub(super) fn of_layer(
        backend: &B,
        model: &'m Model,
        spec: &'m HyperConnections,
    ) -> Result<[Self; 2]> {
        Ok([
            Self::load(backend, model, &spec.mixer)?,
            Self::load(backend, model, &spec.mlp)?,
        ])
    }

    /// The weights of the streams `x`, and the sum of them that is read.
    pub(super) fn read(&self, backend: &B, x: &B::Tensor) -> Result<(B::Tensor, B::Tensor)> {
        let normed = backend.norm(x, &self.norm, Target::Part)?;
        let mut weights = self.weights.to_stream(backend, &normed)?;
        let request = StreamRequest {
            count: self.count,
            base: &self.base,
            scale: &self.scale,
            iterations: self.spec.iterations,
            epsilon: self.spec.epsilon,
        };
        backend.stream_weights(&mut weights, &request)?;
        let read = backend.collapse(x, self.count, Some(&weights))?;
        Ok((weights, read))
    }
}
