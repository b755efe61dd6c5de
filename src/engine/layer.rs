//! One decoder layer: its weights on the device, and how its parts meet the residual stream.
#![forbid(unsafe_code)]

use super::{
    altup::AltUpWeights,
    attention::AttentionWeights,
    connections::ConnectionWeights,
    forward::Forward,
    laurel::LaurelWeights,
    mixer::MixerWeights,
    mlp::MlpWeights,
    parts::Norms,
    pass::Pass,
    per_layer::PerLayerWeights,
    probe::Probe,
    read::Read,
    side_block::SideBlockWeights,
    site::Site,
    stream::{Carried, Stream},
    trace::Step,
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
    mixer_norms: Norms<B::Vector>,
    /// With the layer's attention and MLP, where it is there.
    side: Option<SideBlockWeights<'m, B>>,
    attention: Option<AttentionWeights<'m, B>>,
    mixer: Option<MixerWeights<'m, B>>,
    mlp_norms: Norms<B::Vector>,
    mlp: Option<MlpWeights<'m, B>>,
    laurel: Option<LaurelWeights<'m, B>>,
    altup: Option<AltUpWeights<'m, B>>,
    /// Of what mixes tokens and of the MLP, where several streams are handed on.
    connections: Option<[ConnectionWeights<'m, B>; 2]>,
    per_layer: Option<PerLayerWeights<'m, B>>,
    /// Factor on the residual stream as it leaves the layer.
    output_scale: Option<f32>,
}

impl<'m, B: Backend> LayerWeights<'m, B> {
    /// Puts layer `index` on the device.
    pub(super) fn load(backend: &B, model: &'m Model, index: usize) -> Result<Self> {
        let spec = &model.spec.layers[index];
        let side = SideBlockWeights::load(backend, model, index, spec)?;
        let attention = spec.attention.as_ref().filter(|_| side.is_none());
        let mixer = spec.mixer.as_ref();
        let mlp = spec.mlp.as_ref().filter(|_| side.is_none());
        let per_layer = model
            .spec
            .embedding
            .per_layer
            .as_ref()
            .zip(spec.per_layer.as_ref());
        let (laurel, altup) = (spec.laurel.as_ref(), spec.altup.as_ref());
        let output_scale = spec.output_scale.as_ref();
        let output_scale = output_scale.map(|scale| model.vector(scale)).transpose()?;
        Ok(Self {
            spec,
            mixer_norms: Norms::load(backend, model, &spec.mixer_norms)?,
            side,
            attention: attention
                .map(|attention| AttentionWeights::load(backend, model, index, attention))
                .transpose()?,
            mixer: mixer
                .map(|mixer| MixerWeights::load(backend, model, mixer))
                .transpose()?,
            mlp_norms: Norms::load(backend, model, &spec.mlp_norms)?,
            mlp: mlp
                .map(|mlp| MlpWeights::load(backend, model, mlp))
                .transpose()?,
            laurel: laurel
                .map(|laurel| LaurelWeights::load(backend, model, laurel))
                .transpose()?,
            altup: altup
                .map(|altup| AltUpWeights::load(backend, model, altup))
                .transpose()?,
            connections: spec
                .connections
                .as_ref()
                .map(|own| ConnectionWeights::of_layer(backend, model, own))
                .transpose()?,
            per_layer: per_layer
                .map(|(embedding, input)| {
                    PerLayerWeights::load(backend, model, index, embedding, input)
                })
                .transpose()?,
            output_scale: output_scale.and_then(|scale| scale.first().copied()),
        })
    }

    /// Runs the layer over one micro-batch, updating its stream.
    pub(super) fn run(
        &self,
        forward: &Forward<'_, B>,
        index: usize,
        stream: &mut Stream<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let Stream {
            batch,
            hidden,
            carried,
        } = stream;
        let pass = Pass {
            forward,
            index,
            batch,
        };
        pass.edit(Site::LayerInput, hidden)?;
        pass.observe(probe, Site::LayerInput, hidden)?;
        probe.begin(&pass, hidden)?;
        let backend = forward.backend;
        let mut predicted = None;
        if let Some(altup) = &self.altup {
            altup.predict(backend, hidden, &mut carried.others)?;
            probe.changed(Step::Altup, hidden)?;
            predicted = Some((altup, backend.duplicate(hidden)?));
        }
        match self.spec.wiring {
            _ if self.connections.is_some() => self.connected(&pass, hidden, carried, probe)?,
            Wiring::Sequential | Wiring::SequentialFromNorm => {
                self.sequential(&pass, hidden, carried, probe)?;
            }
            Wiring::Parallel | Wiring::ParallelSharedNorm => {
                self.parallel(&pass, hidden, carried, probe)?;
            }
        }
        match (predicted, &self.per_layer) {
            (None, None) => {}
            (None, Some(per_layer)) => {
                let added = per_layer.run(&pass, hidden)?;
                backend.add(hidden, &added)?;
                probe.added(Step::PerLayerEmbedding, &added)?;
            }
            (Some((altup, predicted)), per_layer) => {
                altup.correct(backend, predicted, hidden, &mut carried.others)?;
                probe.changed(Step::Altup, hidden)?;
                if let Some(per_layer) = per_layer {
                    let added = per_layer.run(&pass, &altup.scaled(backend, hidden)?)?;
                    for other in &mut carried.others {
                        backend.add(other, &added)?;
                    }
                }
            }
        }
        if let Some(scale) = self.output_scale {
            backend.affine(hidden, scale, 0.0)?;
            probe.changed(Step::Scale, hidden)?;
        }
        if self.connections.is_some() && pass.observes(Site::StreamSum) {
            let count = forward.model.spec.streams();
            let sum = backend.collapse(hidden, count, None)?;
            pass.observe(probe, Site::StreamSum, &sum)?;
        }
        pass.edit(Site::LayerOutput, hidden)?;
        probe.end(hidden)?;
        pass.observe(probe, Site::LayerOutput, hidden)
    }

    /// One part after the other, each on a sum of the streams, which it adds to and mixes.
    fn connected(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &mut B::Tensor,
        carried: &mut Carried<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = pass.forward.backend;
        let Some([mixer, connected_mlp]) = &self.connections else {
            return Ok(());
        };
        if self.mixes() {
            let (weights, read) = mixer.read(backend, hidden)?;
            let input = input(backend, &self.mixer_norms, &read, Target::Part)?;
            let input = input.map_or(Read::Lent(&read), Read::Own);
            let output = self.mix(pass, input, carried, probe)?;
            let output = self.mixed(pass, output, probe)?;
            *hidden = backend.mix_streams(hidden, &output, &weights)?;
        }
        let Some(mlp) = &self.mlp else {
            return Ok(());
        };
        pass.edit(Site::ResidualMid, hidden)?;
        pass.observe(probe, Site::ResidualMid, hidden)?;
        let (weights, read) = connected_mlp.read(backend, hidden)?;
        let input = input(backend, &self.mlp_norms, &read, Target::Part)?;
        let read = input.as_ref().unwrap_or(&read);
        let edited = pass.edited(Site::MlpInput, read)?;
        let read = edited.as_ref().unwrap_or(read);
        pass.observe(probe, Site::MlpInput, read)?;
        let output = mlp.run(pass, read, probe)?;
        let mut output = self.output(pass, output, &self.mlp_norms)?;
        pass.edit(Site::MlpOutput, &mut output)?;
        pass.observe(probe, Site::MlpOutput, &output)?;
        *hidden = backend.mix_streams(hidden, &output, &weights)?;
        Ok(())
    }

    /// One part after the other; either may be missing.
    fn sequential(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &mut B::Tensor,
        carried: &mut Carried<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = pass.forward.backend;
        let from_norm = self.spec.wiring == Wiring::SequentialFromNorm;
        // Where what is read is added, too.
        let target = if from_norm || self.laurel.is_some() {
            Target::Stream
        } else {
            Target::Part
        };
        let mut mlp_input = None;
        if self.mixes() {
            let side = self.side.as_ref();
            let joined = side.map(|side| side.run(pass, hidden, carried, probe));
            let joined = joined.transpose()?;
            let joined = joined.as_ref().unwrap_or(hidden);
            let mut input = input(backend, &self.mixer_norms, joined, target)?;
            // Its memory is the next tensor's, unless it is needed again.
            let again = from_norm || self.laurel.is_some();
            let own = if again { None } else { input.take() };
            let read = input.as_ref().unwrap_or(joined);
            let mixed = own.map_or(Read::Lent(read), Read::Own);
            let output = self.mix(pass, mixed, carried, probe)?;
            let beside = self.laurel.as_ref();
            let beside = beside.map(|laurel| laurel.run(backend, read)).transpose()?;
            if from_norm && let Some(input) = input {
                *hidden = input;
                probe.changed(Step::Norm, hidden)?;
            }
            let output = self.mixed(pass, output, probe)?;
            match (&self.mixer_norms.sum, &self.mlp_norms.input) {
                (None, Some(norm))
                    if !from_norm
                        && self.mlp.is_some()
                        && beside.is_none()
                        && !pass.edits(Site::ResidualMid) =>
                {
                    mlp_input = Some(backend.add_norm(hidden, &output, norm)?);
                }
                _ => add(backend, hidden, &output, &self.mixer_norms, probe)?,
            }
            if let (Some(laurel), Some(made)) = (&self.laurel, &beside) {
                laurel.join(backend, hidden, made)?;
                probe.changed(Step::Laurel, hidden)?;
            }
        }
        let Some(mlp) = &self.mlp else {
            return Ok(());
        };
        pass.edit(Site::ResidualMid, hidden)?;
        let input = match mlp_input {
            Some(input) => Some(input),
            None => input(backend, &self.mlp_norms, hidden, target)?,
        };
        pass.observe(probe, Site::ResidualMid, hidden)?;
        let read = input.as_ref().unwrap_or(hidden);
        let edited = pass.edited(Site::MlpInput, read)?;
        let read = edited.as_ref().unwrap_or(read);
        pass.observe(probe, Site::MlpInput, read)?;
        let output = mlp.run(pass, read, probe)?;
        if from_norm && let Some(input) = input {
            *hidden = input;
            probe.changed(Step::Norm, hidden)?;
        }
        let mut output = self.output(pass, output, &self.mlp_norms)?;
        pass.edit(Site::MlpOutput, &mut output)?;
        pass.observe(probe, Site::MlpOutput, &output)?;
        probe.added(Step::Mlp, &output)?;
        self.add_last(pass, hidden, &output, probe)
    }

    /// Both parts on the layer's input.
    fn parallel(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &mut B::Tensor,
        carried: &mut Carried<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = pass.forward.backend;
        let Some(mlp) = &self.mlp else {
            return self.sequential(pass, hidden, carried, probe);
        };
        let mut shared = input(backend, &self.mixer_norms, hidden, Target::Part)?;
        let mixed = if self.mixes() {
            let read = shared.as_ref().unwrap_or(hidden);
            Some(self.mix(pass, Read::Lent(read), carried, probe)?)
        } else {
            None
        };
        pass.edit(Site::ResidualMid, hidden)?;
        pass.observe(probe, Site::ResidualMid, hidden)?;
        if self.spec.wiring == Wiring::Parallel {
            shared = input(backend, &self.mlp_norms, hidden, Target::Part)?;
        }
        let read = shared.as_ref().unwrap_or(hidden);
        let edited = pass.edited(Site::MlpInput, read)?;
        let read = edited.as_ref().unwrap_or(read);
        pass.observe(probe, Site::MlpInput, read)?;
        let output = mlp.run(pass, read, probe)?;
        drop(shared);
        if let Some(mixed) = mixed {
            let mixed = self.mixed(pass, mixed, probe)?;
            add(backend, hidden, &mixed, &self.mixer_norms, probe)?;
        }
        let mut output = self.output(pass, output, &self.mlp_norms)?;
        pass.edit(Site::MlpOutput, &mut output)?;
        pass.observe(probe, Site::MlpOutput, &output)?;
        probe.added(Step::Mlp, &output)?;
        self.add_last(pass, hidden, &output, probe)
    }

    /// Adds what the MLP gives. Where the sum is the layer's output, which is to be measured, that happens on the
    /// way.
    fn add_last(
        &self,
        pass: &Pass<'_, '_, B>,
        hidden: &mut B::Tensor,
        output: &B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let leaves = self.mlp_norms.sum.is_none()
            && self.altup.is_none()
            && self.per_layer.is_none()
            && self.output_scale.is_none()
            && !pass.edits(Site::LayerOutput);
        if leaves && pass.measures(Site::LayerOutput) {
            return probe.add_measured(pass.index, pass.batch, hidden, output);
        }
        let backend = pass.forward.backend;
        add(backend, hidden, output, &self.mlp_norms, probe)
    }

    /// Whether anything mixes tokens here.
    fn mixes(&self) -> bool {
        self.attention.is_some() || self.mixer.is_some()
    }

    /// What the token mixers make of `input`, together.
    fn mix(
        &self,
        pass: &Pass<'_, '_, B>,
        input: Read<'_, B::Tensor>,
        carried: &mut Carried<B>,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        let mut attend = |attention: &AttentionWeights<'m, B>, input: Read<'_, B::Tensor>| {
            let edited = pass.edited(Site::AttentionInput, input.get())?;
            let read = edited.map_or(input, Read::Own);
            pass.observe(probe, Site::AttentionInput, read.get())?;
            attention.run(pass, read, carried, probe)
        };
        match (&self.attention, &self.mixer) {
            (Some(attention), Some(mixer)) => {
                let input = input.get();
                let mut attention = attend(attention, Read::Lent(input))?;
                // Its own share, while it can be told.
                pass.edit(Site::AttentionOutput, &mut attention)?;
                pass.observe(probe, Site::AttentionOutput, &attention)?;
                let mixed = mixer.run(pass, input)?;
                probe.beside(&attention, &mixed)?;
                backend.add(&mut attention, &mixed)?;
                Ok(attention)
            }
            (Some(attention), None) => attend(attention, input),
            (None, Some(mixer)) => mixer.run(pass, input.get()),
            (None, None) => backend.zeros(input.get()),
        }
    }

    /// What the token mixers add to the residual stream.
    fn mixed(
        &self,
        pass: &Pass<'_, '_, B>,
        output: B::Tensor,
        probe: &mut Probe<'_, B>,
    ) -> Result<B::Tensor> {
        let mut output = self.output(pass, output, &self.mixer_norms)?;
        if self.mixer.is_none() {
            pass.edit(Site::AttentionOutput, &mut output)?;
            pass.observe(probe, Site::AttentionOutput, &output)?;
        }
        pass.edit(Site::MixerOutput, &mut output)?;
        pass.observe(probe, Site::MixerOutput, &output)?;
        match (&self.attention, &self.mixer) {
            (Some(_), Some(_)) => {
                let norm = self.mixer_norms.output.is_some();
                probe.added_beside(&output, (!norm).then_some(self.spec.residual_scale))?;
            }
            (Some(_), None) => probe.added(Step::Attention, &output)?,
            (None, Some(_)) => probe.added(Step::Mixer, &output)?,
            (None, None) => {}
        }
        Ok(output)
    }

    /// What a part adds to the residual stream: its output after its norm and its factor.
    fn output(
        &self,
        pass: &Pass<'_, '_, B>,
        mut output: B::Tensor,
        norms: &Norms<B::Vector>,
    ) -> Result<B::Tensor> {
        let backend = pass.forward.backend;
        if let Some(norm) = &norms.output {
            output = backend.norm(&output, norm, Target::Stream)?;
        }
        if self.spec.residual_scale != 1.0 {
            backend.affine(&mut output, self.spec.residual_scale, 0.0)?;
        }
        Ok(output)
    }
}

/// Adds a part's output to the residual stream, with the norm behind the sum.
fn add<B: Backend>(
    backend: &B,
    hidden: &mut B::Tensor,
    output: &B::Tensor,
    norms: &Norms<B::Vector>,
    probe: &mut Probe<'_, B>,
) -> Result<()> {
    backend.add(hidden, output)?;
    if let Some(norm) = &norms.sum {
        *hidden = backend.norm(hidden, norm, Target::Stream)?;
        probe.changed(Step::Norm, hidden)?;
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
