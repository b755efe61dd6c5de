//! `massact existence-validation`

use clap::Args;

use super::{
    args::{ModelArgs, OutputArgs, ScaleArgs, TextArgs, ThresholdArgs, positive},
    run::Run,
    settings::{self, CorpusSettings, TextSettings},
};
use crate::{
    data::Sequences,
    error::Result,
    experiments::{existence_validation, published},
    present,
};

/// Are there massive activations, in which layers, how large?
#[derive(Debug, Args)]
pub(super) struct ExistenceArgs {
    #[command(flatten)]
    model: ModelArgs,
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
    output: OutputArgs,
}

impl ExistenceArgs {
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

pub(super) fn run(args: &ExistenceArgs) -> Result<()> {
    let run = Run::open(
        "existence-validation",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let sequences = run.windows(&args.text, args.nsamples)?;
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&sequences))?,
        |_| existence_validation::run(&run.session, &sequences.ids, args.thresholds.into()),
        |result, context| {
            let published = published::find(&context.model.name, sequences.add_bos_token);
            let (published, scale) = (published.as_ref(), args.draw.scale);
            present::existence_validation::artifacts(&result, published, scale, context)
        },
    )
}
