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
    inner: Inner<'m, B>,
    down: Projection<'m, B>,
    activation: Activation,
    cutoff: Option<f32>,
    limit: Option<f32>,
    up_offset: f32,
}

/// What makes the values that the down projection reads.
enum Inner<'m, B: Backend> {
    /// Gate and up side by side, where nothing happens to either before they meet.
    Joined(Projection<'m, B>),
    Apart(Projection<'m, B>, Projection<'m, B>),
    /// Up alone.
    Plain(Projection<'m, B>),
}

/// The activated gate, and what it is multiplied by where that is known already.
pub(super) struct Activated<B: Backend> {
    pub(super) gate: B::Tensor,
    up: Option<B::Tensor>,
}

impl<'m, B: Backend> Inner<'m, B> {
    fn load(backend: &B, model: &'m Model, spec: &GatedMlp) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let Some(gate) = &spec.gate else {
            return load(&spec.up).map(Self::Plain);
        };
        let meet = spec.cutoff.is_none() && spec.limit.is_none() && spec.up_offset == 0.0;
        if meet && let Some(both) = Projection::joined(backend, model, &[gate, &spec.up])? {
            return Ok(Self::Joined(both));
        }
        Ok(Self::Apart(load(gate)?, load(&spec.up)?))
    }
}

impl<'m, B: Backend> GatedWeights<'m, B> {
    /// Puts it on the device.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &GatedMlp) -> Result<Self> {
        Ok(Self {
            inner: Inner::load(backend, model, spec)?,
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

    /// What the down projection reads, in one pass after the product or the two.
    pub(super) fn inner(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        match &self.inner {
            Inner::Joined(both) => {
                backend.gate_halves(&both.apply(backend, input)?, self.activation)
            }
            Inner::Apart(gate, up) => {
                let mut inner = self.gate(backend, gate, input)?;
                let up = self.up(backend, up, input)?;
                backend.gate(&mut inner, &up, self.activation)?;
                Ok(inner)
            }
            Inner::Plain(_) => Ok(self.activated(backend, input)?.gate),
        }
    }

    /// `activation(gate(x))`, or `activation(up(x))`, for whoever looks at it; [`GatedWeights::multiplied`] goes on.
    pub(super) fn activated(&self, backend: &B, input: &B::Tensor) -> Result<Activated<B>> {
        let (mut gate, up) = match &self.inner {
            Inner::Joined(both) => {
                let both = both.apply(backend, input)?;
                let width = backend.columns(&both);
                let gate = backend.gather_columns(&both, 0..width / 2)?;
                (gate, Some(backend.gather_columns(&both, width / 2..width)?))
            }
            Inner::Apart(gate, _) => (self.gate(backend, gate, input)?, None),
            Inner::Plain(up) => (self.up(backend, up, input)?, None),
        };
        backend.activate(&mut gate, self.activation)?;
        Ok(Activated { gate, up })
    }

    pub(super) fn multiplied(
        &self,
        backend: &B,
        input: &B::Tensor,
        activated: Activated<B>,
    ) -> Result<B::Tensor> {
        let Activated { mut gate, up } = activated;
        let up = match (&self.inner, up) {
            (Inner::Apart(_, up), _) => Some(self.up(backend, up, input)?),
            (_, up) => up,
        };
        if let Some(up) = up {
            backend.multiply(&mut gate, &up)?;
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

    fn up(&self, backend: &B, up: &Projection<'m, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let mut up = up.apply(backend, input)?;
        if let Some(limit) = self.limit {
            backend.clamp(&mut up, -limit, limit)?;
        }
        if self.up_offset != 0.0 {
            backend.affine(&mut up, 1.0, self.up_offset)?;
        }
        Ok(up)
    }
}
