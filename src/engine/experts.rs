//! Mixture of experts: each expert over the tokens that chose it.
//!
//! Experts are loaded when their turn comes, one at a time: a layer of them may be many times
//! larger than the rest of the layer.
#![forbid(unsafe_code)]

use super::{gated::GatedWeights, parts::Projection, pass::Pass, probe::Probe, site::Site};
use crate::{
    backend::Backend,
    error::Result,
    interrupt,
    model::{
        Model,
        spec::{Activation, Experts, GatedMlp},
    },
};

/// What of a layer's experts stays on the device.
pub(super) struct ExpertWeights<'m, B: Backend> {
    spec: &'m Experts,
    router: Projection<'m, B>,
    correction: Option<B::Vector>,
    /// The experts of every token id, where they are fixed.
    table: Option<Vec<u32>>,
    latent: Option<[Projection<'m, B>; 2]>,
    shared: Option<(GatedWeights<'m, B>, Option<Projection<'m, B>>)>,
}

impl<'m, B: Backend> ExpertWeights<'m, B> {
    /// Puts it there.
    pub(super) fn load(backend: &B, model: &'m Model, spec: &'m Experts) -> Result<Self> {
        let load = |linear| Projection::load(backend, model, linear);
        let shared = spec.shared.as_ref().map(|shared| {
            Ok((
                GatedWeights::load(backend, model, &shared.mlp)?,
                shared.gate.as_ref().map(load).transpose()?,
            ))
        });
        let latent = spec.latent.as_ref();
        let latent = latent.map(|[down, up]| Ok([load(down)?, load(up)?]));
        let correction = spec.routing.correction.as_ref();
        Ok(Self {
            spec,
            router: load(&spec.routing.router)?,
            correction: correction
                .map(|correction| backend.vector(model.vector(correction)?))
                .transpose()?,
            table: model.token_table(spec)?,
            latent: latent.transpose()?,
            shared: shared.transpose()?,
        })
    }

    /// The experts of each row, where a table says them.
    fn chosen(&self, pass: &Pass<'_, '_, B>) -> Option<Vec<u32>> {
        let table = self.table.as_ref()?;
        let count = self.spec.routing.top_k;
        let tokens = pass.forward.tokens(pass.batch).into_iter();
        let own = |token: usize| &table[token * count..(token + 1) * count];
        Some(tokens.flat_map(own).copied().collect())
    }

    /// The router's logits.
    pub(super) fn logits(&self, backend: &B, input: &B::Tensor) -> Result<B::Tensor> {
        self.router.apply(backend, input)
    }
}

/// The experts' weighted sum.
pub(super) fn run<B: Backend>(
    pass: &Pass<'_, '_, B>,
    weights: &ExpertWeights<'_, B>,
    input: &B::Tensor,
    probe: &mut Probe<'_, B>,
) -> Result<B::Tensor> {
    let logits = weights.logits(pass.forward.backend, input)?;
    pass.observe(probe, Site::RouterLogits, &logits)?;
    visit(pass, weights, &logits, input, None)
}

/// The same, given the router's logits, with a factor on each expert's output.
pub(super) fn visit<B: Backend>(
    pass: &Pass<'_, '_, B>,
    weights: &ExpertWeights<'_, B>,
    logits: &B::Tensor,
    input: &B::Tensor,
    factors: Option<&[f32]>,
) -> Result<B::Tensor> {
    let forward = pass.forward;
    let backend = forward.backend;
    let spec = weights.spec;
    let chosen = weights.chosen(pass);
    let correction = weights.correction.as_ref();
    let visitors = backend.route(logits, &spec.routing, correction, chosen.as_deref())?;
    let latent = weights.latent.as_ref();
    let narrow = latent
        .map(|[down, _]| down.apply(backend, input))
        .transpose()?;
    let read = narrow.as_ref().unwrap_or(input);
    let mut out = backend.zeros(read)?;
    let load = |expert: usize| {
        let mlp = GatedMlp {
            gate: spec.expert.gate.as_ref().map(|gate| gate.of_expert(expert)),
            up: spec.expert.up.of_expert(expert),
            down: spec.expert.down.of_expert(expert),
            ..spec.expert
        };
        GatedWeights::load(backend, forward.model, &mlp)
    };
    let visits = backend.visits(&visitors).into_iter().enumerate();
    let mut experts = visits
        .filter_map(|(expert, visits)| (visits > 0).then_some(expert))
        .peekable();
    let mut ahead = None;
    while let Some(expert) = experts.next() {
        interrupt::check()?;
        let mlp = match ahead.take() {
            Some(mlp) => mlp,
            None => load(expert)?,
        };
        if backend.loads_ahead()
            && let Some(next) = experts.peek()
        {
            // Where there is no memory for both, it is loaded in its turn.
            ahead = match load(*next) {
                Err(error) if error.is_out_of_memory() => None,
                loaded => Some(loaded?),
            };
        }
        let mut x = backend.gather_visitors(read, &visitors, expert)?;
        if spec.weighted_inputs {
            backend.weigh_visitors(&mut x, &visitors, expert)?;
        }
        let mut y = mlp.run(backend, &x)?;
        if let Some(factors) = factors {
            backend.affine(&mut y, factors[expert], 0.0)?;
        }
        backend.add_visitors(&mut out, &y, &visitors, expert, !spec.weighted_inputs)?;
    }
    if let Some([_, up]) = latent {
        out = up.to_stream(backend, &out)?;
    }
    if let Some((mlp, gate)) = &weights.shared {
        let y = mlp.run(backend, input)?;
        match gate {
            None => backend.add(&mut out, &y)?,
            Some(gate) => {
                let mut gate = gate.apply(backend, input)?;
                backend.activate(&mut gate, Activation::Sigmoid)?;
                backend.add_scaled(&mut out, &y, &gate)?;
            }
        }
    }
    Ok(out)
}
