//! A mixture of experts beside a gated MLP, each behind norms of its own.
#![forbid(unsafe_code)]

use super::{
    experts::{self, ExpertWeights},
    gated::GatedWeights,
    parts::{Norms, load_norm},
    pass::Pass,
    probe::Probe,
    site::Site,
    trace::Source,
};
use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{Model, spec::SideBySide},
};

/// Both on the device.
pub(super) struct SideBySideWeights<'m, B: Backend> {
    dense: GatedWeights<'m, B>,
    dense_norms: Norms<B::Vector>,
    experts: ExpertWeights<'m, B>,
    expert_norms: Norms<B::Vector>,
    router_norm: NormWeights<B::Vector>,
    router_scale: f32,
    /// Of the experts' outputs.
    factors: Vec<f32>,
}

impl<'m, B: Backend> SideBySideWeights<'m, B> {
    /// Puts them there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m SideBySide) -> Result<Self> {
        Ok(Self {
            dense: GatedWeights::load(backend, model, &spec.dense)?,
            dense_norms: Norms::load(backend, model, &spec.dense_norms)?,
            experts: ExpertWeights::load(backend, model, &spec.experts)?,
            expert_norms: Norms::load(backend, model, &spec.expert_norms)?,
            router_norm: load_norm(backend, model, &spec.router_norm)?,
            router_scale: spec.router_scale,
            factors: model.vector(&spec.expert_scale)?,
        })
    }

    /// The sum of what the two make of the residual stream.
    pub(super) fn run(
        &self,
        pass: &Pass<'_, '_, B>,
        input: &B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let norm = |norm: &Option<NormWeights<B::Vector>>, x: &B::Tensor, target| {
            let norm = norm.as_ref();
            norm.map(|norm| backend.norm(x, norm, target)).transpose()
        };
        let read = norm(&self.dense_norms.input, input, Target::Part)?;
        let inner = (self.dense).inner(backend, read.as_ref().unwrap_or(input))?;
        let dense = self.dense.down(backend, &inner)?;
        probe.source(Source::Dense, &inner, &dense)?;
        drop(inner);
        let normed = norm(&self.dense_norms.output, &dense, Target::Stream)?;
        let mut out = normed.unwrap_or(dense);

        let read = backend.norm(input, &self.router_norm, Target::Part)?;
        let mut logits = self.experts.logits(backend, &read)?;
        backend.affine(&mut logits, self.router_scale, 0.0)?;
        pass.edit(Site::RouterLogits, &mut logits)?;
        pass.observe(probe, Site::RouterLogits, &logits)?;
        let read = norm(&self.expert_norms.input, input, Target::Part)?;
        let read = read.as_ref().unwrap_or(input);
        let factors = Some(self.factors.as_slice());
        let chosen = experts::visit(pass, &self.experts, &logits, read, factors, probe)?;
        let normed = norm(&self.expert_norms.output, &chosen, Target::Stream)?;
        backend.add(&mut out, normed.as_ref().unwrap_or(&chosen))?;
        Ok(out)
    }
}
