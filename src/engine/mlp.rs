//! Feed-forward part of one layer.
//!
//! What is inside is several times as wide as the stream, and each row is on its own: of a long sequence some
//! rows are computed at a time.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{
    experts, experts::ExpertWeights, gated::GatedWeights, parts::Projection, pass::Pass,
    probe::Probe, side_by_side::SideBySideWeights, site::Site, trace::Source,
};
use crate::{
    backend::{Backend, Xielu},
    error::Result,
    interrupt,
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
        let rows = pass.batch.rows.last().map_or(0, |rows| rows.end);
        let most = pass.forward.mlp_rows;
        if rows <= most || pass.looks_into_mlp() {
            return self.whole(pass, input, probe);
        }
        let backend = pass.forward.backend;
        let some = |rows: Range<usize>| -> Result<Option<B::Tensor>> {
            let rows: Vec<usize> = rows.collect();
            let input = backend.gather_rows(input, &rows)?;
            self.row_by_row(backend, &input)
        };
        let Some(first) = some(0..most)? else {
            return self.whole(pass, input, probe);
        };
        let mut out = backend.zeros(input)?;
        backend.put_rows(&mut out, 0, &first)?;
        drop(first);
        for start in (most..rows).step_by(most) {
            interrupt::check()?;
            if let Some(part) = some(start..rows.min(start + most))? {
                backend.put_rows(&mut out, start, &part)?;
            }
        }
        Ok(out)
    }

    /// What it makes of some rows of its input, if each row is on its own and nobody looks inside; experts
    /// see only the rows that visit them anyway.
    fn row_by_row(&self, backend: &B, input: &B::Tensor) -> Result<Option<B::Tensor>> {
        Ok(match self {
            Self::Gated(mlp) => Some(mlp.run(backend, input)?),
            Self::Plain {
                up,
                down,
                nonlinearity,
            } => {
                let mut inner = up.apply(backend, input)?;
                nonlinearity.apply(backend, &mut inner)?;
                Some(down.to_stream(backend, &inner)?)
            }
            Self::Experts(_) | Self::SideBySide(_) => None,
        })
    }

    /// All rows at once.
    fn whole(
        &self,
        pass: &Pass<'_, '_, B>,
        input: &B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        match self {
            Self::Gated(mlp) => {
                let mut inner = if pass.observes(Site::Gate) || pass.edits(Site::Gate) {
                    let mut activated = mlp.activated(backend, input)?;
                    pass.edit(Site::Gate, &mut activated.gate)?;
                    pass.observe(probe, Site::Gate, &activated.gate)?;
                    mlp.multiplied(backend, input, activated)?
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
