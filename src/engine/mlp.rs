//! Feed-forward part of one layer.
#![forbid(unsafe_code)]

use super::{
    experts, experts::ExpertWeights, gated::GatedWeights, parts::Projection, pass::Pass,
    probe::Probe, side_by_side::SideBySideWeights, site::Site, trace::Source,
};
use crate::{
    backend::{Backend, Xielu},
    error::Result,
    model::{
        Model,
        spec::{self, Activation, Mlp},
    },
};

/// A layer's MLP on the device.
pub(super) enum MlpWeights<'m, B: Backend> {
    Gated(GatedWeights<'m, B>),
    Plain {
        up: Projection<'m, B>,
        down: Projection<'m, B>,
        nonlinearity: Nonlinearity,
    },
    Experts(Box<ExpertWeights<'m, B>>),
    SideBySide(Box<SideBySideWeights<'m, B>>),
}

/// Of an MLP without gate.
pub(super) enum Nonlinearity {
    Fixed(Activation),
    Xielu(Xielu),
}

impl Nonlinearity {
    /// xIELU with the scalars that are stored.
    fn xielu(model: &Model, scalars: &spec::Xielu) -> Result<Self> {
        let mut values = [0.0; 4];
        for (value, vector) in values.iter_mut().zip(scalars.vectors()) {
            *value = model.vector(vector)?[0];
        }
        let [alpha_p, alpha_n, beta, limit] = values;
        Ok(Self::Xielu(Xielu {
            square: softplus(alpha_p),
            exponential: beta + softplus(alpha_n),
            linear: beta,
            limit,
        }))
    }

    fn apply<B: Backend>(&self, backend: &B, x: &mut B::Tensor) -> Result<()> {
        match self {
            Self::Fixed(activation) => backend.activate(x, *activation),
            Self::Xielu(xielu) => backend.xielu(x, *xielu),
        }
    }
}

fn softplus(x: f32) -> f32 {
    let x = f64::from(x);
    (x.max(0.0) + (-x.abs()).exp().ln_1p()) as f32
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
                nonlinearity: Nonlinearity::Fixed(*activation),
            },
            Mlp::Xielu { up, down, scalars } => Self::Plain {
                up: Projection::load(backend, model, up)?,
                down: Projection::load(backend, model, down)?,
                nonlinearity: Nonlinearity::xielu(model, scalars)?,
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
                let mut inner = if pass.observes(Site::Gate) || pass.edits(Site::Gate) {
                    let mut gate = mlp.activated(backend, input)?;
                    pass.edit(Site::Gate, &mut gate)?;
                    pass.observe(probe, Site::Gate, &gate)?;
                    mlp.multiplied(backend, input, gate)?
                } else {
                    mlp.inner(backend, input)?
                };
                pass.edit(Site::MlpInner, &mut inner)?;
                pass.observe(probe, Site::MlpInner, &inner)?;
                let output = mlp.down(backend, &inner)?;
                probe.source(Source::Dense, &inner, &output)?;
                Ok(output)
            }
            Self::Plain {
                up,
                down,
                nonlinearity,
            } => {
                let mut inner = up.apply(backend, input)?;
                nonlinearity.apply(backend, &mut inner)?;
                pass.edit(Site::Gate, &mut inner)?;
                pass.observe(probe, Site::Gate, &inner)?;
                pass.edit(Site::MlpInner, &mut inner)?;
                pass.observe(probe, Site::MlpInner, &inner)?;
                let output = down.to_stream(backend, &inner)?;
                probe.source(Source::Dense, &inner, &output)?;
                Ok(output)
            }
            Self::Experts(weights) => experts::run(pass, weights, input, probe),
            Self::SideBySide(both) => both.run(pass, input, probe),
        }
    }
}
