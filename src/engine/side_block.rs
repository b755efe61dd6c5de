//! A transformer block beside the residual stream, whose result the layer's mixer reads with it.
#![forbid(unsafe_code)]

use super::{
    attention::AttentionWeights,
    mlp::MlpWeights,
    parts::{Norms, Projection, load_norm},
    pass::Pass,
    probe::Probe,
    read::Read,
    site::Site,
    stream::Carried,
};
use crate::{
    backend::{Backend, NormWeights, Target},
    error::Result,
    model::{Model, spec::Layer},
};

/// On the device.
pub(super) struct SideBlockWeights<'m, B: Backend> {
    norm: NormWeights<B::Vector>,
    attention: AttentionWeights<'m, B>,
    mlp_norms: Norms<B::Vector>,
    mlp: MlpWeights<'m, B>,
    out: Projection<'m, B>,
}

impl<'m, B: Backend> SideBlockWeights<'m, B> {
    /// Puts that of layer `index` there, if the layer has one.
    pub(super) fn load(
        backend: &B,
        model: &'m Model,
        index: usize,
        layer: &'m Layer,
    ) -> Result<Option<Self>> {
        let (Some(side), Some(attention), Some(mlp)) = (&layer.side, &layer.attention, &layer.mlp)
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            norm: load_norm(backend, model, &side.norm)?,
            attention: AttentionWeights::load(backend, model, index, attention)?,
            mlp_norms: Norms::load(backend, model, &layer.mlp_norms)?,
            mlp: MlpWeights::load(backend, model, mlp)?,
            out: Projection::load(backend, model, &side.out)?,
        }))
    }

    /// The residual stream with what the block makes of it, for the mixer to read.
    pub(super) fn run(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &B::Tensor,
        carried: &mut Carried<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        // Nothing in here is added to the stream, so that values that are followed are not followed here.
        let ledger = std::mem::take(&mut probe.ledger);
        let both = backend.join_heads(hidden, carried.embedding()?, 1)?;
        let mut read = backend.norm(&both, &self.norm, Target::Part)?;
        drop(both);
        pass.edit(Site::AttentionInput, &mut read)?;
        pass.observe(probe, Site::AttentionInput, &read)?;
        let mut attended = self.attention.run(pass, Read::Own(read), carried, probe)?;
        pass.edit(Site::AttentionOutput, &mut attended)?;
        pass.observe(probe, Site::AttentionOutput, &attended)?;
        let mut read = match &self.mlp_norms.input {
            Some(norm) => backend.norm(&attended, norm, Target::Part)?,
            None => attended,
        };
        pass.edit(Site::MlpInput, &mut read)?;
        pass.observe(probe, Site::MlpInput, &read)?;
        let made = self.mlp.run(pass, &read, probe)?;
        drop(read);
        let mut made = self.out.to_stream(backend, &made)?;
        pass.edit(Site::MlpOutput, &mut made)?;
        pass.observe(probe, Site::MlpOutput, &made)?;
        backend.add(&mut made, hidden)?;
        probe.ledger = ledger;
        Ok(made)
    }
}
