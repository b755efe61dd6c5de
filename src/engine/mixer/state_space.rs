//! The state space layer: gates, convolutions and norms around its recurrence.
#![forbid(unsafe_code)]

use super::convolution::Convolved;
use crate::{
    backend::{Backend, NormWeights, StateSpaceRequest, Target},
    engine::{
        parts::{Projection, load_norm},
        pass::Pass,
    },
    error::Result,
    model::{
        Model,
        spec::{Activation, StateSpace},
    },
};

/// On the device.
pub(in crate::engine) struct StateSpaceWeights<'m, B: Backend> {
    spec: &'m StateSpace,
    gate: Projection<'m, B>,
    x: Convolved<'m, B>,
    b: Convolved<'m, B>,
    c: Convolved<'m, B>,
    dt: Projection<'m, B>,
    a_log: B::Vector,
    dt_bias: B::Vector,
    d: B::Vector,
    norm: Option<NormWeights<B::Vector>>,
    out: Projection<'m, B>,
}

impl<'m, B: Backend> StateSpaceWeights<'m, B> {
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m StateSpace) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let vector = |vector| backend.vector(model.vector(vector)?);
        let [x, b, c] = &spec.convolutions;
        let norm = spec.norm.as_ref();
        Ok(Self {
            spec,
            gate: load(&spec.gate)?,
            x: Convolved::load(backend, model, &spec.x, x)?,
            b: Convolved::load(backend, model, &spec.b, b)?,
            c: Convolved::load(backend, model, &spec.c, c)?,
            dt: load(&spec.dt)?,
            a_log: vector(&spec.a_log)?,
            dt_bias: vector(&spec.dt_bias)?,
            d: vector(&spec.d)?,
            norm: norm
                .map(|norm| load_norm(backend, model, norm))
                .transpose()?,
            out: load(&spec.out)?,
        })
    }

    pub(super) fn run(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let (backend, spec) = (pass.forward.backend, self.spec);
        let request = StateSpaceRequest {
            heads: spec.heads,
            head_dim: spec.head_dim,
            groups: spec.groups,
            state: spec.state,
            a_log: &self.a_log,
            dt_bias: &self.dt_bias,
            d: &self.d,
            dt_limits: spec.dt_limits,
        };
        let x = self.x.apply(pass, input)?;
        let b = self.b.apply(pass, input)?;
        let c = self.c.apply(pass, input)?;
        let dt = self.dt.apply(backend, input)?;
        let mut y = backend.state_space(&x, &b, &c, &dt, &pass.batch.rows, &request)?;
        if let (Some(norm), true) = (&self.norm, spec.norm_first) {
            y = backend.norm(&y, norm, Target::Part)?;
        }
        let mut gated = self.gate.apply(backend, input)?;
        backend.gate(&mut gated, &y, Activation::Silu)?;
        if let (Some(norm), false) = (&self.norm, spec.norm_first) {
            gated = backend.norm(&gated, norm, Target::Part)?;
        }
        self.out.to_stream(backend, &gated)
    }
}
