//! `massact figures`

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, ThresholdArgs},
    run::{Done, Run},
    sentence::{SentenceArgs, SentenceSettings},
    settings,
    shared::Shared,
};
use crate::{
    data::Sequences,
    error::Result,
    experiments::{
        Finding,
        activation_figures::{self, Request},
    },
    present::figures::{self, Figure, Ridges},
};

/// Output features in 3-D, and magnitudes in attention, MLP and norms, as pictures.
#[derive(Debug, Args)]
pub(super) struct FiguresArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    sentence: SentenceArgs,
    /// Which figures; all by default.
    #[arg(long, value_name = "A,B", value_enum, value_delimiter = ',')]
    which: Vec<Figure>,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings {
    #[serde(flatten)]
    sentence: SentenceSettings,
    which: Vec<&'static str>,
    #[serde(flatten)]
    thresholds: ThresholdArgs,
}

impl FiguresArgs {
    fn which(&self) -> &[Figure] {
        match self.which.as_slice() {
            [] => Figure::value_variants(),
            which => which,
        }
    }

    pub(super) fn settings(&self, sequences: &Sequences) -> Settings {
        let revision = self.model.source.revision.as_deref();
        Settings {
            sentence: self.sentence.settings(sequences, revision),
            which: self.which().iter().map(|figure| figure.file()).collect(),
            thresholds: self.thresholds,
        }
    }
}

pub(super) fn run(args: &FiguresArgs, shared: &Shared) -> Result<Done> {
    let run = Run::open(
        shared,
        "figures",
        &args.model,
        &args.output,
        args.sentence.text.seed,
    )?;
    let model = run.model();
    let sequences = args.sentence.load(&run)?;
    let which = args.which();
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&sequences))?,
        |_| {
            let (layers, width) = (model.spec.layers.len(), model.spec.hidden_size);
            let mut ridges = Ridges::new(layers, sequences.context_length, width);
            let finding = activation_figures::run(
                run.session(),
                &sequences.ids,
                &Request {
                    abs_threshold: args.thresholds.abs_threshold as f32,
                    rel_threshold: args.thresholds.rel_threshold as f32,
                    sites: Figure::sites(which),
                    outputs: which.contains(&Figure::OutputFeatureTokenwise),
                },
                &mut ridges,
            )?;
            Ok(Finding {
                result: (finding.result, ridges),
                timings: finding.timings,
            })
        },
        |(result, ridges), context| figures::artifacts(&result, &ridges, which, context),
    )
}
