//! `massact tokens-analysis`

use clap::Args;

use super::{
    args::{ModelArgs, OutputArgs, ScaleArgs, TextArgs, ThresholdArgs, positive},
    run::{Done, Run},
    settings::{self, CorpusSettings, TextSettings, TokensSettings},
    shared::{Corpus, CorpusRequest, Shared},
};
use crate::{
    data::Sequences,
    error::Result,
    experiments::{Finding, tokens_analysis},
    present::{self, Compat},
};

/// On which tokens and in which dimensions are the massive activations?
#[derive(Debug, Args)]
pub(super) struct TokensArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Sequences to look at.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    nsamples: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    /// Whose dimensions and magnitudes to report: `reference` follows the published program, whose
    /// summary depends on the order of the sequences. The JSON holds both.
    #[arg(long, value_enum, default_value_t = Compat::None)]
    compat: Compat,
    #[command(flatten)]
    draw: ScaleArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl TokensArgs {
    /// What it wants of the corpus.
    pub(super) fn corpus(&self) -> CorpusRequest {
        CorpusRequest {
            text: self.text.clone(),
            nsamples: self.nsamples,
            thresholds: self.thresholds,
            values: false,
        }
    }

    pub(super) fn settings(&self, sequences: &Sequences) -> TokensSettings {
        TokensSettings {
            corpus: CorpusSettings {
                text: TextSettings::of(
                    sequences,
                    self.text.seed,
                    self.model.source.revision.as_deref(),
                ),
                nsamples: self.nsamples,
                thresholds: self.thresholds,
            },
            compat: self.compat,
        }
    }
}

pub(super) fn run(args: &TokensArgs, shared: &Shared) -> Result<Done> {
    let run = Run::open(
        shared,
        "tokens-analysis",
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
            let result = tokens_analysis::summarise(run.session(), ids, &walk, thresholds);
            Ok(Finding { result, timings })
        },
        |result, context| {
            let (compat, scale) = (args.compat, args.draw.scale);
            present::tokens_analysis::artifacts(&result, compat, scale, context)
        },
    )
}
