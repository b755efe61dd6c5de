//! Mixture of experts: each expert over the tokens that chose it.
//!
//! Experts are loaded when their turn comes, one at a time: a layer of them may be many times
//! larger than the rest of the layer.
#![forbid(unsafe_code)]

use super::{
    changed_visits::ChangedVisits, gated::GatedWeights, parts::Projection, pass::Pass,
    probe::Probe, site::Site, trace::Source, visiting::Visiting, visits::Visits,
};
use crate::{
    backend::Backend,
    error::Result,
    interrupt,
    model::{
        Model,
        spec::{Activation, Experts},
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
    let forward = pass.forward;
    let mut logits = weights.logits(forward.backend, input)?;
    pass.edit(Site::RouterLogits, &mut logits)?;
    pass.observe(probe, Site::RouterLogits, &logits)?;
    visit(pass, weights, &logits, input, None, probe)
}

/// The same, given the router's logits, with a factor on each expert's output.
pub(super) fn visit<B: Backend>(
    pass: &Pass<'_, '_, B>,
    weights: &ExpertWeights<'_, B>,
    logits: &B::Tensor,
    input: &B::Tensor,
    factors: Option<&[f32]>,
    probe: &mut Probe<'_, B>,
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
    let visiting = Visiting {
        pass,
        spec,
        visitors: &visitors,
        read,
        factors,
        counts: backend.visits(&visitors),
    };
    let mut out = backend.zeros(read)?;
    let mut told = Visits::of(pass, &visitors, spec.visits())?;
    let followed = FollowedRow::all(backend, weights, logits, read, chosen.as_deref(), probe)?;
    let changed = ChangedVisits::of(&visiting)?;
    let mut experts = visiting.visited().peekable();
    let mut ahead = None;
    while let Some(expert) = experts.next() {
        interrupt::check()?;
        let mlp = match ahead.take() {
            Some(mlp) => mlp,
            None => visiting.load(expert)?,
        };
        if backend.loads_ahead()
            && let Some(next) = experts.peek()
        {
            // Where there is no memory for both, it is loaded in its turn.
            ahead = match visiting.load(*next) {
                Err(error) if error.is_out_of_memory() => None,
                loaded => Some(loaded?),
            };
        }
        let inner = match changed.inner(backend, expert)? {
            Some(inner) => inner,
            None => visiting.inner(expert, &mlp)?,
        };
        let y = match changed.output(backend, expert)? {
            Some(y) => y,
            None => visiting.output(expert, &mlp, &inner)?,
        };
        if let Some(told) = &mut told {
            told.add(backend, &inner, &y, visiting.counts[expert])?;
        }
        drop(inner);
        backend.add_visitors(&mut out, &y, &visitors, expert, !spec.weighted_inputs)?;
        for row in followed.iter().filter(|row| row.visits[expert] > 0) {
            row.tell(weights, &visiting, (expert, &mlp), probe)?;
        }
    }
    if let Some(told) = told {
        told.tell(pass, probe)?;
    }
    if let Some([_, up]) = latent {
        out = up.to_stream(backend, &out)?;
    }
    if let Some((mlp, gate)) = &weights.shared {
        let inner = mlp.inner(backend, input)?;
        let y = mlp.down(backend, &inner)?;
        match gate {
            None => {
                backend.add(&mut out, &y)?;
                probe.source(Source::Shared, &inner, &y)?;
            }
            Some(gate) => {
                let mut gate = gate.apply(backend, input)?;
                backend.activate(&mut gate, Activation::Sigmoid)?;
                backend.add_scaled(&mut out, &y, &gate)?;
                if probe.follows() {
                    let mut weighted = backend.zeros(&y)?;
                    backend.add_scaled(&mut weighted, &y, &gate)?;
                    probe.source(Source::Shared, &inner, &weighted)?;
                }
            }
        }
    }
    Ok(out)
}

/// A row with values that are followed, and the experts that it visits: each visit is made once more, alone,
/// so that what the expert reads and gives is known.
struct FollowedRow<B: Backend> {
    index: usize,
    read: B::Tensor,
    visitors: B::Visitors,
    visits: Vec<usize>,
}

impl<B: Backend> FollowedRow<B> {
    /// All of them; none where nothing is followed.
    fn all(
        backend: &B,
        weights: &ExpertWeights<'_, B>,
        logits: &B::Tensor,
        read: &B::Tensor,
        chosen: Option<&[u32]>,
        probe: &Probe<'_, B>,
    ) -> Result<Vec<Self>> {
        if !probe.follows() {
            return Ok(Vec::new());
        }
        let (logits, read) = (probe.row_tensors(logits)?, probe.row_tensors(read)?);
        let rows = logits.into_iter().zip(read).zip(probe.rows_followed());
        let rows = rows.enumerate();
        rows.map(|(index, ((logits, read), row))| {
            let routing = &weights.spec.routing;
            let count = routing.top_k;
            let chosen = chosen.map(|chosen| &chosen[row * count..(row + 1) * count]);
            let correction = weights.correction.as_ref();
            let visitors = backend.route(&logits, routing, correction, chosen)?;
            Ok(Self {
                index,
                read,
                visits: backend.visits(&visitors),
                visitors,
            })
        })
        .collect()
    }

    /// Its visit to an expert.
    fn tell(
        &self,
        weights: &ExpertWeights<'_, B>,
        all: &Visiting<'_, '_, '_, B>,
        (expert, mlp): (usize, &GatedWeights<'_, B>),
        probe: &mut Probe<'_, B>,
    ) -> Result<()> {
        let backend = all.pass.forward.backend;
        let own = Visiting {
            visitors: &self.visitors,
            read: &self.read,
            counts: self.visits.clone(),
            ..*all
        };
        let inner = own.inner(expert, mlp)?;
        let y = own.output(expert, mlp, &inner)?;
        let mut out = backend.zeros(&self.read)?;
        let weighted = !weights.spec.weighted_inputs;
        backend.add_visitors(&mut out, &y, &self.visitors, expert, weighted)?;
        if let Some([_, up]) = &weights.latent {
            out = up.product(backend, &out)?;
        }
        let (inner, out) = (backend.download(&inner)?, backend.download(&out)?);
        probe.source_of(self.index, Source::Expert(expert), &inner, &out)
    }
}
