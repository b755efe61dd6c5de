//! What a layer makes of its own embedding of each token.
//!
//! It depends on the tokens alone, so each layer makes its share when its turn comes and nothing is
//! kept for later ones; variants of a sequence have the tokens of their original.
#![forbid(unsafe_code)]

use super::{
    parts::{Projection, load_norm},
    pass::Pass,
};
use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{
        Model,
        spec::{Activation, PerLayerEmbedding, PerLayerInput},
    },
};

/// On the device.
pub(super) struct PerLayerWeights<'m, B: Backend> {
    embedding: &'m PerLayerEmbedding,
    /// From the token's embedding to this layer's.
    share: Projection<'m, B>,
    share_norm: NormWeights<B::Vector>,
    gate: Projection<'m, B>,
    activation: Activation,
    projection: Projection<'m, B>,
    norm: NormWeights<B::Vector>,
}

impl<'m, B: Backend> PerLayerWeights<'m, B> {
    /// Puts those of layer `index` there.
    pub(super) fn load(
        backend: &B,
        model: &'m Model,
        index: usize,
        embedding: &'m PerLayerEmbedding,
        spec: &PerLayerInput,
    ) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        Ok(Self {
            embedding,
            share: load(&embedding.projection_of(index))?,
            share_norm: load_norm(backend, model, &embedding.norm)?,
            gate: load(&spec.gate)?,
            activation: spec.activation,
            projection: load(&spec.projection)?,
            norm: load_norm(backend, model, &spec.norm)?,
        })
    }

    /// What it adds to the residual stream, which it reads.
    pub(super) fn run(&self, pass: &Pass<'_, '_, B>, hidden: &B::Tensor) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let own = self.of_tokens(pass)?;
        let mut gate = self.gate.to_stream(backend, hidden)?;
        backend.activate(&mut gate, self.activation)?;
        backend.multiply(&mut gate, &own)?;
        let added = self.projection.to_stream(backend, &gate)?;
        backend.norm(&added, &self.norm, Target::Stream)
    }

    /// The layer's embedding of each token.
    fn of_tokens(&self, pass: &Pass<'_, '_, B>) -> Result<B::Tensor> {
        let (forward, embedding) = (pass.forward, self.embedding);
        let backend = forward.backend;
        let mut own = self.share.to_stream(backend, &forward.embed(pass.batch)?)?;
        backend.affine(&mut own, embedding.projection_scale, 0.0)?;
        let mut own = backend.norm(&own, &self.share_norm, Target::Stream)?;
        let tokens = forward.tokens(pass.batch);
        let (table, rows) = forward
            .model
            .per_layer_table(embedding, pass.index, &tokens)?;
        let listed = backend.embed(&table, embedding.width, &rows, embedding.scale)?;
        backend.add(&mut own, &listed)?;
        backend.affine(&mut own, embedding.sum_scale, 0.0)?;
        Ok(own)
    }
}
