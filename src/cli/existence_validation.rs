//! `massact existence-validation`

use clap::Args;

use super::{
    args::{ModelArgs, OutputArgs, ScaleArgs, TextArgs, ThresholdArgs, positive},
    run::{Done, Run},
    settings::{self, CorpusSettings, TextSettings},
    shared::{Corpus, CorpusRequest, Shared},
};
use crate::{
    data::Sequences,
    error::Result,
    experiments::{Finding, existence_validation, published},
    present,
};

/// Are there massive activations, in which layers, how large?
#[derive(Debug, Args)]
pub(super) struct ExistenceArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Sequences to average over.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    nsamples: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    draw: ScaleArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl ExistenceArgs {
    /// What it wants of the corpus.
    pub(super) fn corpus(&self) -> CorpusRequest {
        CorpusRequest {
            text: self.text.clone(),
            nsamples: self.nsamples,
            thresholds: self.thresholds,
            values: false,
        }
    }

    pub(super) fn settings(&self, sequences: &Sequences) -> CorpusSettings {
        CorpusSettings {
            text: TextSettings::of(
                sequences,
                self.text.seed,
                self.model.source.revision.as_deref(),
            ),
            nsamples: self.nsamples,
            thresholds: self.thresholds,
        }
    }
}

pub(super) fn run(args: &ExistenceArgs, shared: &Shared) -> Result<Done> {
    let run = Run::open(
        shared,
        "existence-validation",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let sequences = run.windows(&args.text, args.nsamples)?;
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&sequences))?,
        |_| {
            let Corpus { walk, timings } = run.corpus(&args.corpus())?;
            let (ids, thresholds) = (&sequences.ids, args.thresholds.into());
            let result = existence_validation::summarise(run.session(), ids, &walk, thresholds);
            Ok(Finding { result, timings })
        },
        |result, context| {
            let published =
                published::find(context.model.published_name(), sequences.add_bos_token);
            let (published, scale) = (published.as_ref(), args.draw.scale);
            present::existence_validation::artifacts(&result, published, scale, context)
        },
    )
}
