//! The selective scan: projections, convolution and gate around its recurrence.
#![forbid(unsafe_code)]

use super::convolution::ConvolutionWeights;
use crate::{
    backend::{Backend, NormWeights, Rows, SelectiveScanRequest, Target},
    engine::{
        parts::{Projection, load_norm},
        pass::Pass,
    },
    error::Result,
    model::{
        Model,
        spec::{Activation, ScanHead, SelectiveScan},
    },
};

/// On the device.
pub(in crate::engine) struct SelectiveScanWeights<'m, B: Backend> {
    x: Projection<'m, B>,
    gate: Projection<'m, B>,
    convolution: ConvolutionWeights<B>,
    heads: Vec<HeadWeights<'m, B>>,
    out: Projection<'m, B>,
}

/// What neighbouring channels have of their own.
struct HeadWeights<'m, B: Backend> {
    state: usize,
    step: Projection<'m, B>,
    up: Projection<'m, B>,
    b: Projection<'m, B>,
    c: Projection<'m, B>,
    norms: Option<[NormWeights<B::Vector>; 3]>,
    a_log: B::Vector,
    dt_bias: B::Vector,
    d: B::Vector,
}

impl<'m, B: Backend> SelectiveScanWeights<'m, B> {
    pub(super) fn load(backend: &B, model: &'m Model, spec: &SelectiveScan) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let heads = spec.heads.iter();
        let heads = heads.map(|head| HeadWeights::load(backend, model, spec.state, head));
        Ok(Self {
            x: load(&spec.x)?,
            gate: load(&spec.gate)?,
            convolution: ConvolutionWeights::load(backend, model, &spec.convolution)?,
            heads: heads.collect::<Result<_>>()?,
            out: load(&spec.out)?,
        })
    }

    pub(super) fn run(&self, pass: &Pass<'_, '_, B>, input: &B::Tensor) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let sequences = &pass.batch.rows;
        let x = self.x.apply(backend, input)?;
        let x = self.convolution.apply(backend, &x, sequences)?;
        let y = match self.heads.as_slice() {
            [head] => head.run(backend, &x, sequences)?,
            heads => side_by_side(backend, heads, &x, sequences)?,
        };
        let mut gated = self.gate.apply(backend, input)?;
        backend.gate(&mut gated, &y, Activation::Silu)?;
        self.out.to_stream(backend, &gated)
    }
}

/// What each head makes of its channels.
fn side_by_side<B: Backend>(
    backend: &B,
    heads: &[HeadWeights<'_, B>],
    x: &B::Tensor,
    sequences: &[Rows],
) -> Result<B::Tensor> {
    let width = backend.columns(x) / heads.len();
    let mut joined: Option<B::Tensor> = None;
    for (index, head) in heads.iter().enumerate() {
        let own = backend.gather_columns(x, index * width..(index + 1) * width)?;
        let made = head.run(backend, &own, sequences)?;
        joined = Some(match joined {
            None => made,
            Some(before) => backend.join_heads(&before, &made, 1)?,
        });
    }
    joined.map_or_else(|| backend.duplicate(x), Ok)
}

impl<'m, B: Backend> HeadWeights<'m, B> {
    fn load(backend: &B, model: &'m Model, state: usize, spec: &ScanHead) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let vector = |vector| backend.vector(model.vector(vector)?);
        let norms = spec.norms.as_ref().map(|[step, b, c]| {
            Ok([
                load_norm(backend, model, step)?,
                load_norm(backend, model, b)?,
                load_norm(backend, model, c)?,
            ])
        });
        Ok(Self {
            state,
            step: load(&spec.step)?,
            up: load(&spec.up)?,
            b: load(&spec.b)?,
            c: load(&spec.c)?,
            norms: norms.transpose()?,
            a_log: vector(&spec.a_log)?,
            dt_bias: vector(&spec.dt_bias)?,
            d: vector(&spec.d)?,
        })
    }

    /// The scan of convolved channels.
    fn run(&self, backend: &B, x: &B::Tensor, sequences: &[Rows]) -> Result<B::Tensor> {
        let mut step = self.step.apply(backend, x)?;
        let mut b = self.b.apply(backend, x)?;
        let mut c = self.c.apply(backend, x)?;
        if let Some(norms) = &self.norms {
            for (part, norm) in [&mut step, &mut b, &mut c].into_iter().zip(norms) {
                *part = backend.norm(part, norm, Target::Part)?;
            }
        }
        let dt = self.up.apply(backend, &step)?;
        let request = SelectiveScanRequest {
            state: self.state,
            a_log: &self.a_log,
            dt_bias: &self.dt_bias,
            d: &self.d,
        };
        backend.selective_scan(x, &dt, &b, &c, sequences, &request)
    }
}
