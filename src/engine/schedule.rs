//! The layer-major walk: one layer over all micro-batches, then the next.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, time::Instant};

use indicatif::ProgressBar;

use super::{
    forward::Forward,
    intervention::{Branch, BranchStream, Interventions},
    layer::LayerWeights,
    memory,
    plan::{Outcome, Plan},
    probe::{Discard, Probe, Recorder},
    site::Site,
};
use crate::{
    backend::{Backend, Rows, Statistics},
    error::{Error, Result},
    interrupt,
    model::Model,
    progress::Progress,
};

/// Whole sequences that pass through a layer together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Index of each sequence in the run.
    pub(super) sequences: Vec<usize>,
    /// Rows of each sequence in the batch's tensors.
    pub(super) rows: Vec<Rows>,
    /// Whether the probes look at it; they do not at variants of sequences.
    pub(super) observed: bool,
}

impl Batch {
    /// The tokens of its sequences.
    pub(super) fn tokens<'s>(&self, all: &'s [Vec<u32>]) -> impl Iterator<Item = &'s Vec<u32>> {
        self.sequences.iter().map(|sequence| &all[*sequence])
    }
}

/// Runs the model over the sequences and returns what the plan asks for.
pub fn run<B: Backend>(
    backend: &B,
    model: &Model,
    sequences: &[Vec<u32>],
    plan: &Plan,
    recorder: &mut dyn Recorder,
    progress: Progress,
) -> Result<Outcome> {
    let input = (model, sequences);
    Walk::new(backend, input, plan, recorder, progress)?.run(None)
}

/// [`run`] with an experiment that acts behind the layers. The plan must ask for the statistics of
/// [`Site::LayerOutput`].
pub fn run_with<B: Backend>(
    backend: &B,
    model: &Model,
    sequences: &[Vec<u32>],
    plan: &Plan,
    interventions: &mut dyn Interventions,
    progress: Progress,
) -> Result<Outcome> {
    let input = (model, sequences);
    let mut recorder = Discard;
    Walk::new(backend, input, plan, &mut recorder, progress)?.run(Some(interventions))
}

/// A run under way.
struct Walk<'r, B: Backend> {
    sequences: &'r [Vec<u32>],
    forward: Forward<'r, B>,
    probe: Probe<'r, B>,
    /// The sequences' micro-batches and residual streams.
    streams: Vec<(Batch, B::Tensor)>,
    branches: Vec<BranchStream<B>>,
    progress: Progress,
    started: Instant,
}

impl<'r, B: Backend> Walk<'r, B> {
    /// Checks the input and embeds it.
    fn new(
        backend: &'r B,
        (model, sequences): (&'r Model, &'r [Vec<u32>]),
        plan: &'r Plan,
        recorder: &'r mut dyn Recorder,
        progress: Progress,
    ) -> Result<Self> {
        check(model, sequences)?;
        check_sites(model, plan)?;
        if plan.needs_head() {
            // Before hours of work rather than after.
            model.head()?;
        }
        let started = Instant::now();
        let forward = Forward::new(backend, model, plan, sequences);
        let mut probe = Probe::new(backend, plan, recorder);
        let mut streams = Vec::new();
        let width = memory::token_width(&model.spec);
        for batch in batches(sequences, backend.micro_batch_rows(width)) {
            interrupt::check()?;
            let hidden = forward.embed(&batch, sequences)?;
            probe.observe(Site::Embedding, 0, &batch, &hidden)?;
            streams.push((batch, hidden));
        }
        Ok(Self {
            sequences,
            forward,
            probe,
            streams,
            branches: Vec::new(),
            progress,
            started,
        })
    }

    fn run(mut self, mut acting: Option<&mut dyn Interventions>) -> Result<Outcome> {
        let (plan, model) = (self.forward.plan, self.forward.model);
        let layers = if plan.needs_layers() {
            model.spec.layers.len()
        } else {
            0
        };
        let last_original = acting
            .as_ref()
            .and_then(|acting| acting.last_original_layer());
        let bar = self
            .progress
            .steps("layers", (layers * self.streams.len()) as u64);
        for index in 0..layers {
            if index + 1 < layers {
                model.weights.prefetch(&model.spec.layer_tensors(index + 1));
            }
            self.layer(index, &mut acting, &bar)?;
            model.weights.release(&model.spec.layer_tensors(index));
            if last_original == Some(index) {
                self.streams.clear();
            }
            if self.streams.is_empty() && self.branches.is_empty() {
                break;
            }
            let left = layers - index - 1;
            let streams = self.streams.len() + self.branches.len();
            bar.set_length(bar.position() + (left * streams) as u64);
        }
        bar.finish_and_clear();
        self.finish()
    }

    /// One layer over all streams, and what the experiment does behind it.
    fn layer(
        &mut self,
        index: usize,
        acting: &mut Option<&mut dyn Interventions>,
        bar: &ProgressBar,
    ) -> Result<()> {
        let weights = LayerWeights::load(self.forward.backend, self.forward.model, index)?;
        // First the branches that are there already: new ones have this layer behind them.
        for branch in &mut self.branches {
            interrupt::check()?;
            let (batch, hidden) = (&branch.batch, &mut branch.hidden);
            weights.run(&self.forward, index, batch, hidden, &mut self.probe)?;
            branch.overwrite(self.forward.backend, index)?;
            bar.inc(1);
        }
        for (batch, hidden) in &mut self.streams {
            interrupt::check()?;
            weights.run(&self.forward, index, batch, hidden, &mut self.probe)?;
            self.probe.guard(index, batch, hidden)?;
            if let Some(acting) = acting
                && acting.acts_at(index)
            {
                let found = self.probe.read_latest(Site::LayerOutput, index, batch)?;
                let backend = self.forward.backend;
                let split = act(backend, *acting, index, (batch, hidden), &found)?;
                self.branches.extend(split);
            }
            bar.inc(1);
        }
        Ok(())
    }

    /// Final norm and head, and what was measured.
    fn finish(mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let plan = self.forward.plan;
        let head = if plan.needs_final_norm() {
            self.head(&mut outcome)
        } else {
            let branches = std::mem::take(&mut self.branches);
            let ends = branches.into_iter().flat_map(|branch| branch.finish().2);
            outcome.branches.extend(ends);
            Ok(())
        };
        interrupt::check()?;
        // Before the head's own error: what overflowed in a layer is reported with that layer.
        let (statistics, statistics_time) = self.probe.finish()?;
        head?;
        outcome.statistics = statistics;
        outcome.timings.statistics = statistics_time;
        outcome.timings.forward = self.started.elapsed().saturating_sub(statistics_time);
        Ok(outcome)
    }

    fn head(&mut self, outcome: &mut Outcome) -> Result<()> {
        let streams = std::mem::take(&mut self.streams);
        let branches = std::mem::take(&mut self.branches);
        let total = streams.len() + branches.len();
        let bar = self.progress.steps("head", total as u64);
        for (batch, hidden) in streams {
            interrupt::check()?;
            let result = self
                .forward
                .head(&batch, self.sequences, hidden, &mut self.probe)?;
            outcome.token_nll.extend(result.token_nll);
            outcome.last_logits.extend(result.last_logits);
            bar.inc(1);
        }
        for branch in branches {
            interrupt::check()?;
            let (batch, hidden, mut branches) = branch.finish();
            let result = self
                .forward
                .head(&batch, self.sequences, hidden, &mut self.probe)?;
            for (branch, nll) in branches.iter_mut().zip(result.token_nll) {
                branch.token_nll = nll;
            }
            outcome.branches.extend(branches);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// Asks the experiment about each sequence of a micro-batch, reads what it wants to see and splits
/// off what it wants to change: one stream a variant.
fn act<B: Backend>(
    backend: &B,
    acting: &mut dyn Interventions,
    layer: usize,
    (batch, hidden): (&Batch, &B::Tensor),
    found: &[Statistics],
) -> Result<Vec<BranchStream<B>>> {
    let mut by_variant: BTreeMap<usize, Vec<(usize, Branch)>> = BTreeMap::new();
    for (place, (sequence, found)) in batch.sequences.iter().zip(found).enumerate() {
        let actions = acting.actions(layer, *sequence, found)?;
        if !actions.read.is_empty() {
            let first = batch.rows[place].start;
            let cells = actions.read.iter();
            let cells: Vec<(usize, usize)> = cells
                .map(|&(position, dimension)| (first + position, dimension))
                .collect();
            acting.values(layer, *sequence, &backend.values_at(hidden, &cells)?);
        }
        for branch in actions.branches {
            let branches = by_variant.entry(branch.variant).or_default();
            branches.push((place, branch));
        }
    }
    let split = by_variant.into_values().map(|branches| {
        let mut stream = BranchStream::split(backend, batch, hidden, branches)?;
        stream.overwrite(backend, layer)?;
        Ok(stream)
    });
    split.collect()
}

/// Groups sequences until a micro-batch has about `target` rows.
fn batches(sequences: &[Vec<u32>], target: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut rows = target;
    for (index, sequence) in sequences.iter().enumerate() {
        if rows + sequence.len() > target {
            batches.push(Batch {
                sequences: Vec::new(),
                rows: Vec::new(),
                observed: true,
            });
            rows = 0;
        }
        if let Some(batch) = batches.last_mut() {
            batch.sequences.push(index);
            batch.rows.push(rows..rows + sequence.len());
        }
        rows += sequence.len();
    }
    batches
}

/// Refuses sites that the model does not have.
fn check_sites(model: &Model, plan: &Plan) -> Result<()> {
    for site in Site::ALL {
        if plan.observes(site) && !site.exists_in(&model.spec) {
            return Err(Error::usage(
                format!("site `{}`", site.name()),
                "this model has layers of experts, inside which tokens go different ways",
            )
            .remedy("observe mlp_output instead"));
        }
    }
    Ok(())
}

/// Refuses sequences that the model cannot take.
fn check(model: &Model, sequences: &[Vec<u32>]) -> Result<()> {
    let spec = &model.spec;
    if sequences.is_empty() {
        return Err(Error::usage("input", "there is no sequence to run"));
    }
    for (index, sequence) in sequences.iter().enumerate() {
        if sequence.is_empty() {
            return Err(Error::usage(format!("sequence {index}"), "it has no token")
                .remedy("give at least one token id or some text"));
        }
        if let Some(token) = sequence
            .iter()
            .find(|token| **token as usize >= spec.vocab_size)
        {
            return Err(Error::usage(
                format!("sequence {index}"),
                format!(
                    "token id {token} is out of range, the model has {} tokens",
                    spec.vocab_size
                ),
            )
            .remedy(format!("use ids from 0 to {}", spec.vocab_size - 1)));
        }
        if let Some(positions) = spec.max_positions
            && sequence.len() > positions
        {
            return Err(Error::usage(
                format!("sequence {index}"),
                format!(
                    "{} tokens, but the model has {positions} positions",
                    sequence.len()
                ),
            )
            .remedy(format!("use --context-length {positions} or less")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn micro_batches_hold_whole_sequences() {
        let sequences: Vec<Vec<u32>> = [3, 5, 4, 20, 1].map(|n| vec![0; n]).to_vec();
        let batches = batches(&sequences, 9);
        let shape: Vec<_> = batches
            .iter()
            .map(|batch| (batch.sequences[0], batch.rows.clone()))
            .collect();
        assert_eq!(
            shape,
            [
                (0, vec![0..3, 3..8]),
                (2, vec![0..4]),
                (3, vec![0..20]),
                (4, vec![0..1])
            ]
        );
    }
}
