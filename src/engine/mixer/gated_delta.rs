//! A gated delta net.
#![forbid(unsafe_code)]

use super::convolution::Convolved;
use crate::{
    backend::{Backend, DeltaRequest, NormWeights, Target},
    engine::{
        parts::{Projection, load_norm},
        pass::Pass,
    },
    error::Result,
    model::{
        Model,
        spec::{GatedDelta, Narrowed},
    },
};

/// On the device.
pub(in crate::engine) struct GatedDeltaWeights<'m, B: Backend> {
    spec: &'m GatedDelta,
    q: Convolved<'m, B>,
    k: Convolved<'m, B>,
    v: Convolved<'m, B>,
    decay: NarrowedWeights<'m, B>,
    beta: Projection<'m, B>,
    a_log: B::Vector,
    dt_bias: B::Vector,
    norm: NormWeights<B::Vector>,
    gate: NarrowedWeights<'m, B>,
    out: Projection<'m, B>,
}

/// A projection, perhaps through a narrow middle.
struct NarrowedWeights<'m, B: Backend> {
    first: Option<Projection<'m, B>>,
    last: Projection<'m, B>,
}

impl<'m, B: Backend> NarrowedWeights<'m, B> {
    fn load(backend: &B, model: &'m Model, spec: &Narrowed) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        Ok(Self {
            first: spec.first.as_ref().map(load).transpose()?,
            last: load(&spec.last)?,
        })
    }

    fn apply(&self, backend: &B, x: &B::Tensor) -> Result<B::Tensor> {
        match &self.first {
            Some(first) => self.last.apply(backend, &first.apply(backend, x)?),
            None => self.last.apply(backend, x),
        }
    }
}

impl<'m, B: Backend> GatedDeltaWeights<'m, B> {
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m GatedDelta) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let vector = |vector| backend.vector(model.vector(vector)?);
        let [q, k, v] = &spec.convolutions;
        Ok(Self {
            spec,
            q: Convolved::load(backend, model, &spec.q, q)?,
            k: Convolved::load(backend, model, &spec.k, k)?,
            v: Convolved::load(backend, model, &spec.v, v)?,
            decay: NarrowedWeights::load(backend, model, &spec.decay)?,
            beta: load(&spec.beta)?,
            a_log: vector(&spec.a_log)?,
            dt_bias: vector(&spec.dt_bias)?,
            norm: load_norm(backend, model, &spec.norm)?,
            gate: NarrowedWeights::load(backend, model, &spec.gate)?,
            out: load(&spec.out)?,
        })
    }

    pub(super) fn run(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let output = self.recur(pass, input)?;
        let output = backend.norm(&output, &self.norm, Target::Part)?;
        let mut gate = self.gate.apply(backend, input)?;
        backend.gate(&mut gate, &output, self.spec.gate_activation)?;
        self.out.to_stream(backend, &gate)
    }

    fn recur(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let (backend, spec) = (pass.forward.backend, self.spec);
        let q = self.q.apply(pass, input)?;
        let k = self.k.apply(pass, input)?;
        let v = self.v.apply(pass, input)?;
        let decay = self.decay.apply(backend, input)?;
        let beta = self.beta.apply(backend, input)?;
        let request = DeltaRequest {
            key_heads: spec.key_heads,
            heads: spec.heads,
            key_dim: spec.key_dim,
            value_dim: spec.value_dim,
            a_log: &self.a_log,
            dt_bias: &self.dt_bias,
            per_channel: spec.per_channel,
            beta_scale: spec.beta_scale,
        };
        backend.delta_rule(&q, &k, &v, &decay, &beta, &pass.batch.rows, &request)
    }
}
