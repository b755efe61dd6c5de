//! `massact top-activation-magnitude`

use clap::Args;
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, ScaleArgs, TextArgs, positive, some_listed},
    run::{Done, Run},
    settings::{self, TextSettings},
    shared::Shared,
};
use crate::{
    data::Sequences,
    engine::Site,
    error::{Error, Result},
    experiments::top_activation_magnitude,
    present,
};

/// Largest and median magnitude by layer, as a picture.
#[derive(Debug, Args)]
pub(super) struct MagnitudeArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Measure this sentence instead of a dataset.
    #[arg(long, value_name = "S", conflicts_with_all = ["dataset", "text_file", "context_length", "nsamples"])]
    sentence: Option<String>,
    /// The sentence is what a user says, in the checkpoint's chat template, which has its own BOS.
    #[arg(long, requires = "sentence")]
    chat: bool,
    /// Sequences to average over.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive)]
    nsamples: usize,
    /// Magnitudes listed per layer.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = some_listed)]
    top_k: usize,
    /// Which tensor of every layer.
    #[arg(long, value_name = "SITE", default_value = "layer_output")]
    module_name: String,
    #[command(flatten)]
    draw: ScaleArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    #[serde(flatten)]
    text: TextSettings,
    nsamples: usize,
    site: Site,
    top_k: usize,
    sentence: Option<&'a str>,
    chat: bool,
}

impl MagnitudeArgs {
    pub(super) fn settings(&self, site: Site, sequences: &Sequences) -> Settings<'_> {
        Settings {
            text: TextSettings::of(
                sequences,
                self.text.seed,
                self.model.source.revision.as_deref(),
            ),
            nsamples: sequences.ids.len(),
            site,
            top_k: self.top_k,
            sentence: self.sentence.as_deref(),
            chat: self.chat,
        }
    }

    fn site(&self) -> Result<Site> {
        let site = Site::parse(&self.module_name)?;
        if site.per_layer() {
            return Ok(site);
        }
        Err(Error::usage(
            format!("--module-name {}", site.name()),
            "it is not a tensor of every layer",
        )
        .remedy("choose one that is, such as layer_output"))
    }
}

pub(super) fn run(args: &MagnitudeArgs, shared: &Shared) -> Result<Done> {
    let site = args.site()?;
    let run = Run::open(
        shared,
        "top-activation-magnitude",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let sequences = match &args.sentence {
        Some(sentence) => run.texts(&[sentence], args.text.add_bos_token, args.chat)?,
        None => run.windows(&args.text, args.nsamples)?,
    };
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(site, &sequences))?,
        |_| top_activation_magnitude::run(run.session(), &sequences.ids, site, args.top_k),
        |result, context| {
            present::top_activation_magnitude::artifacts(&result, args.draw.scale, context)
        },
    )
}
