//! Which keys of a layer's attention a query sees, where an indexer picks them.
#![forbid(unsafe_code)]

use super::{
    parts::{Projection, load_norm},
    pass::Pass,
};
use crate::{
    backend::{Backend, NormWeights, Rotation, Target},
    error::Result,
    model::{Model, spec::Indexer},
};

/// An indexer on the device.
pub(super) struct IndexerWeights<'m, B: Backend> {
    spec: &'m Indexer,
    q: Projection<'m, B>,
    k: Projection<'m, B>,
    k_norm: NormWeights<B::Vector>,
    weights: Projection<'m, B>,
}

impl<'m, B: Backend> IndexerWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m Indexer) -> Result<Self> {
        // Scores are only compared with each other.
        let load = |linear| {
            model.check_finite(linear)?;
            Projection::load(backend, model, linear)
        };
        model.check_finite_norm(&spec.k_norm)?;
        Ok(Self {
            spec,
            q: load(&spec.q)?,
            k: load(&spec.k)?,
            k_norm: load_norm(backend, model, &spec.k_norm)?,
            weights: load(&spec.weights)?,
        })
    }

    /// Its choice for a micro-batch, given the middle of the query projection and the layer's input; none
    /// where every query sees all keys before it.
    pub(super) fn choose(
        &self,
        pass: &Pass<'_, '_, B>,
        middle: &B::Tensor,
        input: &B::Tensor,
    ) -> Result<Option<B::KeyMask>> {
        let (backend, spec) = (pass.forward.backend, self.spec);
        let rows = &pass.batch.rows;
        if rows.iter().all(|rows| rows.len() <= spec.most) {
            return Ok(None);
        }
        let tables = pass.forward.rope_tables(spec.rope, pass.batch);
        let rotation = Rotation::new(spec.head_dim, 0);
        let mut q = self.q.apply(backend, middle)?;
        backend.rotate(&mut q, rows, rotation, &tables)?;
        let k = self.k.apply(backend, input)?;
        let mut k = backend.norm(&k, &self.k_norm, Target::Part)?;
        backend.rotate(&mut k, rows, rotation, &tables)?;
        let weights = self.weights.apply(backend, input)?;
        // Its factors on products and weights change no order.
        let choice = backend.choose_keys(&q, &k, &weights, rows, (rows, 1), spec.most)?;
        Ok(Some(choice))
    }
}
