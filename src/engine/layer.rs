//! One decoder layer: its weights on the device, and how its parts meet the residual stream.
#![forbid(unsafe_code)]

use super::{
    attention::AttentionWeights, batch::Batch, forward::Forward, mlp::MlpWeights, parts::Norms,
    pass::Pass, probe::Probe, site::Site,
};
use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{
        Model,
        spec::{Layer, Wiring},
    },
};

/// A layer ready to run.
pub(super) struct LayerWeights<'m, B: Backend> {
    spec: &'m Layer,
    attention_norms: Norms<B::Vector>,
    attention: AttentionWeights<'m, B>,
    mlp_norms: Norms<B::Vector>,
    mlp: MlpWeights<'m, B>,
}

impl<'m, B: Backend> LayerWeights<'m, B> {
    /// Puts layer `index` on the device.
    pub(super) fn load(backend: &B, model: &'m Model, index: usize) -> Result<Self> {
        let spec = &model.spec.layers[index];
        Ok(Self {
            spec,
            attention_norms: Norms::load(backend, model, &spec.attention_norms)?,
            attention: AttentionWeights::load(backend, model, &spec.attention)?,
            mlp_norms: Norms::load(backend, model, &spec.mlp_norms)?,
            mlp: MlpWeights::load(backend, model, &spec.mlp)?,
        })
    }

    /// Runs the layer over one micro-batch, updating its residual stream `hidden`.
    pub(super) fn run(
        &self,
        forward: &Forward<'_, B>,
        index: usize,
        batch: &Batch,
        hidden: &mut B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let pass = Pass {
            forward,
            index,
            batch,
        };
        pass.observe(probe, Site::LayerInput, hidden)?;
        match self.spec.wiring {
            Wiring::Sequential | Wiring::SequentialFromNorm => {
                self.sequential(&pass, hidden, probe)?;
            }
            Wiring::Parallel | Wiring::ParallelSharedNorm => {
                self.parallel(&pass, hidden, probe)?;
            }
        }
        pass.observe(probe, Site::LayerOutput, hidden)
    }

    fn sequential(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &mut B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = pass.forward.backend;
        let from_norm = self.spec.wiring == Wiring::SequentialFromNorm;
        let target = if from_norm {
            Target::Stream
        } else {
            Target::Part
        };
        let output = {
            let input = input(backend, &self.attention_norms, hidden, target)?;
            let read = input.as_ref().unwrap_or(hidden);
            pass.observe(probe, Site::AttentionInput, read)?;
            let output = self.attention.run(pass, read, probe)?;
            if from_norm && let Some(input) = input {
                *hidden = input;
            }
            output
        };
        let output = self.output(pass, output, Site::AttentionOutput, probe)?;
        let input = match (&self.attention_norms.sum, &self.mlp_norms.input) {
            (None, Some(norm)) if !from_norm => Some(backend.add_norm(hidden, &output, norm)?),
            _ => {
                add(backend, hidden, &output, &self.attention_norms)?;
                input(backend, &self.mlp_norms, hidden, target)?
            }
        };
        drop(output);
        pass.observe(probe, Site::ResidualMid, hidden)?;
        let read = input.as_ref().unwrap_or(hidden);
        pass.observe(probe, Site::MlpInput, read)?;
        let output = self.mlp.run(pass, read, probe)?;
        if from_norm && let Some(input) = input {
            *hidden = input;
        }
        let output = self.output(pass, output, Site::MlpOutput, probe)?;
        add(backend, hidden, &output, &self.mlp_norms)
    }

    fn parallel(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &mut B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = pass.forward.backend;
        let mut shared = input(backend, &self.attention_norms, hidden, Target::Part)?;
        let read = shared.as_ref().unwrap_or(hidden);
        pass.observe(probe, Site::AttentionInput, read)?;
        let attention = self.attention.run(pass, read, probe)?;
        pass.observe(probe, Site::ResidualMid, hidden)?;
        if self.spec.wiring == Wiring::Parallel {
            shared = input(backend, &self.mlp_norms, hidden, Target::Part)?;
        }
        let read = shared.as_ref().unwrap_or(hidden);
        pass.observe(probe, Site::MlpInput, read)?;
        let mlp = self.mlp.run(pass, read, probe)?;
        drop(shared);
        for (site, output, norms) in [
            (Site::AttentionOutput, attention, &self.attention_norms),
            (Site::MlpOutput, mlp, &self.mlp_norms),
        ] {
            let output = self.output(pass, output, site, probe)?;
            add(backend, hidden, &output, norms)?;
        }
        Ok(())
    }

    /// What a part adds to the residual stream: its output after its norm and its factor.
    fn output(
        &self,
        pass: &Pass<'_, '_, B>,
        mut output: B::Tensor,
        site: Site,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let norms = match site {
            Site::AttentionOutput => &self.attention_norms,
            _ => &self.mlp_norms,
        };
        if let Some(norm) = &norms.output {
            output = backend.norm(&output, norm, Target::Stream)?;
        }
        if self.spec.residual_scale != 1.0 {
            backend.affine(&mut output, self.spec.residual_scale, 0.0)?;
        }
        pass.observe(probe, site, &output)?;
        Ok(output)
    }
}

/// Adds a part's output to the residual stream, with the norm behind the sum.
fn add<B: Backend>(
    backend: &B,
    hidden: &mut B::Tensor,
    output: &B::Tensor,
    norms: &Norms<B::Vector>,
) -> Result<()> {
    backend.add(hidden, output)?;
    if let Some(norm) = &norms.sum {
        *hidden = backend.norm(hidden, norm, Target::Stream)?;
    }
    Ok(())
}

/// What a part of the layer reads, where that is not the residual stream itself.
fn input<B: Backend>(
    backend: &B,
    norms: &Norms<B::Vector>,
    hidden: &B::Tensor,
    target: Target,
) -> Result<Option<B::Tensor>> {
    let normalise = |norm: &NormWeights<B::Vector>| backend.norm(hidden, norm, target);
    norms.input.as_ref().map(normalise).transpose()
}
