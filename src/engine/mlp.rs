//! Feed-forward part of one layer.
#![forbid(unsafe_code)]

use super::site::Site;
use super::{experts, experts::ExpertWeights, layer::Pass, parts::Projection, probe::Probe};
use crate::{
    backend::Backend,
    error::Result,
    model::{
        Model,
        spec::{Activation, GatedMlp, Mlp},
    },
};

/// A layer's MLP on the device.
pub(super) enum MlpWeights<'m, B: Backend> {
    Gated(GatedWeights<'m, B>),
    Plain {
        up: Projection<'m, B>,
        down: Projection<'m, B>,
        activation: Activation,
    },
    Experts(Box<ExpertWeights<'m, B>>),
}

impl<'m, B: Backend> MlpWeights<'m, B> {
    /// Puts it on the device.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m Mlp) -> Result<Self> {
        Ok(match spec {
            Mlp::Gated(mlp) => Self::Gated(GatedWeights::load(backend, model, mlp)?),
            Mlp::Plain {
                up,
                down,
                activation,
            } => Self::Plain {
                up: Projection::load(backend, model, up)?,
                down: Projection::load(backend, model, down)?,
                activation: *activation,
            },
            Mlp::Experts(experts) => {
                Self::Experts(Box::new(ExpertWeights::load(backend, model, experts)?))
            }
        })
    }

    /// What the MLP adds to the residual stream.
    pub(super) fn run(
        &self,
        pass: &Pass<'_, '_, B>,
        input: &B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        match self {
            Self::Gated(mlp) => {
                let inner = if pass.observes(Site::Gate) {
                    let gate = mlp.activated(backend, input)?;
                    pass.observe(probe, Site::Gate, &gate)?;
                    mlp.multiplied(backend, input, gate)?
                } else {
                    mlp.inner(backend, input)?
                };
                pass.observe(probe, Site::MlpInner, &inner)?;
                mlp.down.to_stream(backend, &inner)
            }
            Self::Plain {
                up,
                down,
                activation,
            } => {
                let mut inner = up.apply(backend, input)?;
                backend.activate(&mut inner, *activation)?;
                pass.observe(probe, Site::Gate, &inner)?;
                pass.observe(probe, Site::MlpInner, &inner)?;
                down.to_stream(backend, &inner)
            }
            Self::Experts(weights) => experts::run(pass.forward, weights, input),
        }
    }
}

/// A gated MLP on the device.
pub(super) struct GatedWeights<'m, B: Backend> {
    gate: Projection<'m, B>,
    up: Projection<'m, B>,
    down: Projection<'m, B>,
    activation: Activation,
    limit: Option<f32>,
    up_offset: f32,
}

impl<'m, B: Backend> GatedWeights<'m, B> {
    /// Puts it on the device.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &GatedMlp) -> Result<Self> {
        Ok(Self {
            gate: Projection::load(backend, model, &spec.gate)?,
            up: Projection::load(backend, model, &spec.up)?,
            down: Projection::load(backend, model, &spec.down)?,
            activation: spec.activation,
            limit: spec.limit,
            up_offset: spec.up_offset,
        })
    }

    /// `down(activation(gate(x)) * (up(x) + offset))`
    pub(super) fn run(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let inner = self.inner(backend, input)?;
        self.down.to_stream(backend, &inner)
    }

    /// What the down projection reads, in one pass behind the two products.
    fn inner(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let mut inner = self.gate(backend, input)?;
        let up = self.up(backend, input)?;
        backend.gate(&mut inner, &up, self.activation)?;
        Ok(inner)
    }

    /// `activation(gate(x))`, for whoever looks at it; [`GatedWeights::multiplied`] goes on.
    fn activated(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let mut gate = self.gate(backend, input)?;
        backend.activate(&mut gate, self.activation)?;
        Ok(gate)
    }

    fn multiplied(&self, backend: &B, input: &B::Tensor, mut gate: B::Tensor) -> Result<B::Tensor> {
        backend.multiply(&mut gate, &self.up(backend, input)?)?;
        Ok(gate)
    }

    fn gate(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        let mut gate = self.gate.apply(backend, input)?;
        if let Some(limit) = self.limit {
            backend.clamp(&mut gate, f32::NEG_INFINITY, limit)?;
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
