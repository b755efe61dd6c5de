//! `massact profile`

use clap::Args;
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, ScaleArgs, some_listed},
    input::InputArgs,
    run::{Done, Run},
    settings::{self, InputSettings},
    shared::Shared,
};
use crate::{
    data::Sequences,
    engine::Site,
    error::Result,
    experiments::profile::{self, Request},
    present,
};

/// Distribution, outliers and rounding errors of every tensor of the forward pass.
#[derive(Debug, Args)]
pub(super) struct ProfileArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Entries of largest magnitude to list of each tensor.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = some_listed)]
    top_k: usize,
    /// Tensors to look at, by the names that `capture --sites` has; all by default.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    sites: Vec<String>,
    #[command(flatten)]
    draw: ScaleArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    #[serde(flatten)]
    input: InputSettings<'a>,
    /// Null for all.
    sites: Option<&'a [Site]>,
    top_k: usize,
}

impl ProfileArgs {
    fn sites(&self) -> Result<Vec<Site>> {
        self.sites
            .iter()
            .map(|name| Site::parse(name.trim()))
            .collect()
    }

    pub(super) fn settings<'a>(&'a self, sites: &'a [Site], sequences: &Sequences) -> Settings<'a> {
        Settings {
            input: InputSettings::of(sequences, self.model.source.revision.as_deref()),
            sites: (!sites.is_empty()).then_some(sites),
            top_k: self.top_k,
        }
    }
}

pub(super) fn run(args: &ProfileArgs, shared: &Shared) -> Result<Done> {
    let asked = args.sites()?;
    let run = Run::open(
        shared,
        "profile",
        &args.model,
        &args.output,
        args.input.seed,
    )?;
    let sequences = args.input.load(&run)?;
    let request = Request {
        sites: match asked.as_slice() {
            [] => Site::ALL.to_vec(),
            asked => asked.to_vec(),
        },
        top_k: args.top_k,
    };
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&asked, &sequences))?,
        |_| profile::run(run.session(), &sequences.ids, &request),
        |result, context| present::profile::artifacts(&result, args.draw.scale, context),
    )
}
