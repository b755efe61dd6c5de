//! Feed-forward part of one layer.
#![forbid(unsafe_code)]

use super::{
    experts, experts::ExpertWeights, gated::GatedWeights, parts::Projection, pass::Pass,
    probe::Probe, side_by_side::SideBySideWeights, site::Site,
};
use crate::{
    backend::Backend,
    error::Result,
    model::{
        Model,
        spec::{Activation, Mlp},
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
    SideBySide(Box<SideBySideWeights<'m, B>>),
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
            Mlp::SideBySide(both) => {
                Self::SideBySide(Box::new(SideBySideWeights::load(backend, model, both)?))
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
                mlp.down(backend, &inner)
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
            Self::SideBySide(both) => both.run(pass.forward, input),
        }
    }
}
