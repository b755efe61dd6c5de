//! `massact figures`

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    args::{LayerArgs, ModelArgs, OutputArgs, ScaleArgs, ThresholdArgs},
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
    present::figures::{self, Figure, Look, Ridges},
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
    drawn: LayerArgs,
    /// One height for one value in all 3-D plots.
    #[arg(long)]
    shared_scale: bool,
    #[command(flatten)]
    draw: ScaleArgs,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    #[serde(flatten)]
    sentence: SentenceSettings,
    which: Vec<&'static str>,
    layers: Option<&'a BTreeSet<usize>>,
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

    pub(super) fn settings(&self, sequences: &Sequences) -> Settings<'_> {
        let revision = self.model.source.revision.as_deref();
        Settings {
            sentence: self.sentence.settings(sequences, revision),
            which: self.which().iter().map(|figure| figure.file()).collect(),
            layers: self.drawn.listed(),
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
    let drawn = args.drawn.of(model.spec.layers.len())?;
    let sequences = args.sentence.load(&run)?;
    let which = args.which();
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&sequences))?,
        |_| {
            let width = model.spec.state_width();
            let layers = drawn
                .as_ref()
                .map_or(model.spec.layers.len(), BTreeSet::len);
            let mut ridges = Ridges::new(layers, sequences.context_length, width);
            let finding = activation_figures::run(
                run.session(),
                &sequences.ids,
                &Request {
                    abs_threshold: args.thresholds.abs_threshold as f32,
                    rel_threshold: args.thresholds.rel_threshold as f32,
                    sites: Figure::sites(which),
                    outputs: which.contains(&Figure::OutputFeatureTokenwise),
                    output_layers: drawn
                        .as_ref()
                        .map(|layers| layers.iter().copied().collect()),
                },
                &mut ridges,
            )?;
            Ok(Finding {
                result: (finding.result, ridges),
                timings: finding.timings,
            })
        },
        |(result, ridges), context| {
            let look = Look {
                scale: args.draw.scale,
                shared_scale: args.shared_scale,
            };
            figures::artifacts(&result, &ridges, which, look, context)
        },
    )
}
