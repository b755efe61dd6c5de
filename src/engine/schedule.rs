//! The layer-major walk: one layer over all micro-batches, then the next.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::{
    forward::Forward,
    layer::LayerWeights,
    plan::{Outcome, Plan},
    probe::{Probe, Recorder},
    site::Site,
};
use crate::{
    backend::{Backend, Rows},
    error::{Error, Result},
    interrupt,
    model::Model,
    progress::Progress,
};

/// Whole sequences that pass through a layer together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Index of the first sequence in the run.
    pub(super) first_sequence: usize,
    /// Rows of each sequence in the batch's tensors.
    pub(super) rows: Vec<Rows>,
}

impl Batch {
    fn sequences<'s>(&self, all: &'s [Vec<u32>]) -> &'s [Vec<u32>] {
        &all[self.first_sequence..self.first_sequence + self.rows.len()]
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
    check(model, sequences)?;
    check_sites(model, plan)?;
    if plan.needs_head() {
        // Before hours of work rather than after.
        model.head()?;
    }
    let started = Instant::now();
    let batches = batches(sequences, B::MICRO_BATCH_ROWS);
    let forward = Forward::new(backend, model, plan, sequences);
    let mut probe = Probe::new(backend, plan, recorder);

    let mut streams = Vec::with_capacity(batches.len());
    for batch in &batches {
        interrupt::check()?;
        let hidden = forward.embed(batch.sequences(sequences))?;
        probe.observe(Site::Embedding, 0, batch, &hidden)?;
        streams.push(hidden);
    }

    let layers = if plan.needs_layers() {
        model.spec.layers.len()
    } else {
        0
    };
    let bar = progress.steps("layers", (layers * batches.len()) as u64);
    for index in 0..layers {
        if index + 1 < layers {
            model.weights.prefetch(&model.spec.layer_tensors(index + 1));
        }
        let weights = LayerWeights::load(backend, model, index)?;
        for (batch, hidden) in batches.iter().zip(&mut streams) {
            interrupt::check()?;
            weights.run(&forward, index, batch, hidden, &mut probe)?;
            probe.guard(index, batch, hidden)?;
            bar.inc(1);
        }
        drop(weights);
        model.weights.release(&model.spec.layer_tensors(index));
    }
    bar.finish_and_clear();

    let mut outcome = Outcome::default();
    let head = || -> Result<()> {
        let bar = progress.steps("head", batches.len() as u64);
        for (batch, hidden) in batches.iter().zip(streams) {
            interrupt::check()?;
            let result = forward.head(batch, batch.sequences(sequences), hidden, &mut probe)?;
            outcome.token_nll.extend(result.token_nll);
            outcome.last_logits.extend(result.last_logits);
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    };
    let head = if plan.needs_final_norm() {
        head()
    } else {
        Ok(())
    };
    interrupt::check()?;
    // Before the head's own error: what overflowed in a layer is reported with that layer.
    let (statistics, statistics_time) = probe.finish()?;
    head?;
    outcome.statistics = statistics;
    outcome.timings.statistics = statistics_time;
    outcome.timings.forward = started.elapsed().saturating_sub(statistics_time);
    Ok(outcome)
}

/// Groups sequences until a micro-batch has about `target` rows.
fn batches(sequences: &[Vec<u32>], target: usize) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut rows = target;
    for (index, sequence) in sequences.iter().enumerate() {
        if rows + sequence.len() > target {
            batches.push(Batch {
                first_sequence: index,
                rows: Vec::new(),
            });
            rows = 0;
        }
        if let Some(batch) = batches.last_mut() {
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
            .map(|batch| (batch.first_sequence, batch.rows.clone()))
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
