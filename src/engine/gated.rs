//! A gated MLP: a layer's own, a layer's shared experts, or one of its experts.
#![forbid(unsafe_code)]

use super::parts::Projection;
use crate::{
    backend::Backend,
    error::Result,
    model::{
        Model,
        spec::{Activation, GatedMlp},
    },
};

/// A gated MLP on the device.
pub(super) struct GatedWeights<'m, B: Backend> {
    gate: Option<Projection<'m, B>>,
    up: Projection<'m, B>,
    down: Projection<'m, B>,
    activation: Activation,
    cutoff: Option<f32>,
    limit: Option<f32>,
    up_offset: f32,
}

impl<'m, B: Backend> GatedWeights<'m, B> {
    /// Puts it on the device.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &GatedMlp) -> Result<Self> {
        let gate = spec.gate.as_ref();
        Ok(Self {
            gate: gate
                .map(|gate| Projection::load(backend, model, gate))
                .transpose()?,
            up: Projection::load(backend, model, &spec.up)?,
            down: Projection::load(backend, model, &spec.down)?,
            activation: spec.activation,
            cutoff: spec.cutoff,
            limit: spec.limit,
            up_offset: spec.up_offset,
        })
    }

    /// `down(activation(gate(x)) * (up(x) + offset))`, or `down(activation(up(x)))`.
    pub(super) fn run(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let inner = self.inner(backend, input)?;
        self.down(backend, &inner)
    }

    /// The down projection, to the residual stream.
    pub(super) fn down(&self, backend: &B, inner: &B::Tensor) -> Result<B::Tensor> {
        self.down.to_stream(backend, inner)
    }

    /// What the down projection reads, in one pass after the two products.
    pub(super) fn inner(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let Some(gate) = &self.gate else {
            return self.activated(backend, input);
        };
        let mut inner = self.gate(backend, gate, input)?;
        let up = self.up(backend, input)?;
        backend.gate(&mut inner, &up, self.activation)?;
        Ok(inner)
    }

    /// `activation(gate(x))`, or `activation(up(x))`, for whoever looks at it; [`GatedWeights::multiplied`] goes on.
    pub(super) fn activated(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let mut gate = match &self.gate {
            Some(gate) => self.gate(backend, gate, input)?,
            None => self.up(backend, input)?,
        };
        backend.activate(&mut gate, self.activation)?;
        Ok(gate)
    }

    pub(super) fn multiplied(
        &self,
        backend: &B,
        input: &B::Tensor,
        mut gate: B::Tensor,
    ) -> Result<B::Tensor> {
        if self.gate.is_some() {
            backend.multiply(&mut gate, &self.up(backend, input)?)?;
        }
        Ok(gate)
    }

    fn gate(&self, backend: &B, gate: &Projection<'m, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let mut gate = gate.apply(backend, input)?;
        if let Some(limit) = self.limit {
            backend.clamp(&mut gate, f32::NEG_INFINITY, limit)?;
        }
        if let Some(deviations) = self.cutoff {
            backend.keep_largest(&mut gate, deviations)?;
        }
        Ok(gate)
    }

    fn up(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let mut up = self.up.apply(backend, input)?;
        if let Some(limit) = self.limit {
            backend.clamp(&mut up, -limit, limit)?;
        }
        if self.up_offset != 0.0 {
            backend.affine(&mut up, 1.0, self.up_offset)?;
        }
        Ok(up)
    }
}
