//! `massact life`

use clap::Args;
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, ThresholdArgs, positive, some_listed},
    run::{Done, Run},
    sentence::{SentenceArgs, SentenceSettings},
    settings,
    shared::Shared,
};
use crate::{
    data::Sequences,
    error::Result,
    experiments::life::{self, Ablation, Choice, Life, Setup},
    present,
};

/// Where do massive activations come from, how long do they stay, and what takes them away?
#[derive(Debug, Args)]
pub(super) struct LifeArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    sentence: SentenceArgs,
    /// Sequences to look at, of a text that --dataset or --text-file names.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, conflicts_with_all = ["sentence", "token_ids"])]
    nsamples: usize,
    /// Only tokens with this text, whatever space is around it; may be given several times.
    #[arg(long, value_name = "TEXT")]
    token: Vec<String>,
    /// Only these token positions.
    #[arg(long, value_name = "0,4", value_delimiter = ',')]
    position: Vec<usize>,
    /// Only these dimensions. With --position or --token beside it these values are followed, massive or
    /// not.
    #[arg(long, value_name = "507,8", value_delimiter = ',')]
    dimension: Vec<usize>,
    /// Values to follow at most, those of the largest magnitude.
    #[arg(long, value_name = "K", default_value_t = 8, value_parser = some_listed)]
    top_k: usize,
    /// Neurons listed in every layer, those of the largest products.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = some_listed)]
    neurons: usize,
    /// Also set the weights through which they enter to zero, in memory, and measure again: perplexity of the
    /// sequences, attention to the tokens, and the values.
    #[arg(long)]
    ablate_weight: bool,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    #[serde(flatten)]
    sentence: SentenceSettings,
    nsamples: usize,
    token: &'a [String],
    position: &'a [usize],
    dimension: &'a [usize],
    top_k: usize,
    neurons: usize,
    ablate_weight: bool,
    #[serde(flatten)]
    thresholds: ThresholdArgs,
}

impl LifeArgs {
    pub(super) fn settings(&self, sequences: &Sequences) -> Settings<'_> {
        let revision = self.model.source.revision.as_deref();
        Settings {
            sentence: self.sentence.settings(sequences, revision),
            nsamples: sequences.ids.len(),
            token: &self.token,
            position: &self.position,
            dimension: &self.dimension,
            top_k: self.top_k,
            neurons: self.neurons,
            ablate_weight: self.ablate_weight,
            thresholds: self.thresholds,
        }
    }

    fn setup(&self) -> Setup {
        Setup {
            thresholds: self.thresholds.into(),
            choice: Choice {
                positions: self.position.clone(),
                tokens: self.token.clone(),
                dimensions: self.dimension.clone(),
            },
            most: self.top_k,
            neurons: self.neurons,
        }
    }
}

pub(super) fn run(args: &LifeArgs, shared: &Shared) -> Result<Done> {
    let seed = args.sentence.text.seed;
    let run = Run::open(shared, "life", &args.model, &args.output, seed)?;
    let sequences = args.sentence.load_some(&run, args.nsamples)?;
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&sequences))?,
        |_| {
            let mut found = life::run(run.session(), &sequences.ids, &args.setup())?;
            if args.ablate_weight {
                found.result.ablation = ablation(args, shared, &run, &sequences, &found.result)?;
            }
            Ok(found)
        },
        |result, context| present::life::artifacts(&result, context),
    )
}

/// The same sequences without the weights through which the values enter; none where there are no such.
fn ablation(
    args: &LifeArgs,
    shared: &Shared,
    run: &Run<'_>,
    sequences: &Sequences,
    life: &Life,
) -> Result<Option<Ablation>> {
    let weights = life.super_weights();
    if weights.is_empty() {
        return Ok(None);
    }
    let before = life::measure(run.session(), &sequences.ids, life)?;
    let altered = shared.altered(&args.model, run.progress, |model| {
        life::zero(model, &weights)
    })?;
    let after = life::measure(&altered, &sequences.ids, life)?;
    Ok(Some(Ablation {
        weights,
        before,
        after,
    }))
}
