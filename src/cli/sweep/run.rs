//! `massact sweep run`

use std::path::PathBuf;

use clap::Args;

use super::{supervisor, worker};
use crate::{
    error::{Kind, Result},
    sweep::Indices,
};

/// Run the tasks that are not done; any number of processes may do so at once.
///
/// A task that fails is recorded, and the others go on. What was interrupted or died is run again by
/// the next `sweep run`.
#[derive(Debug, Clone, Args)]
pub(in super::super) struct RunArgs {
    /// The sweep's folder.
    pub(in super::super) dir: PathBuf,
    /// Only the tasks in these lines of the manifest, counted from 0: `3`, or `0-2,7`.
    #[arg(long, value_name = "N")]
    pub(in super::super) index: Option<Indices>,
    /// Tasks at once on this machine, which share its cores.
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = super::super::args::positive)]
    pub(in super::super) jobs: usize,
    /// Where to compute, instead of what the plan says: as --device of a command, or `cuda:all` for a process
    /// on every card, which is faster than one on all of them.
    #[arg(long)]
    pub(in super::super) device: Option<String>,
    /// Remove models that this sweep has downloaded, and is done with, from the cache when together they
    /// take more than this.
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub(in super::super) max_cache_gb: Option<f64>,
    /// No progress and no notices.
    #[arg(long)]
    pub(in super::super) quiet: bool,
    /// One of the processes that `sweep run` starts; ends when its standard input does.
    /// The number is that of all of them.
    #[arg(long, hide = true)]
    pub(in super::super) worker: Option<usize>,
}

pub(in super::super) fn gigabytes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a number of at least 0".into()),
    }
}

pub(super) fn run(args: &RunArgs) -> Result<()> {
    if args.worker.is_some() {
        let outcome = worker::run(args);
        if let Err(error) = &outcome
            && error.kind() == Kind::Interrupted
        {
            // Whoever started it says so.
            std::process::exit(i32::from(error.exit_code()));
        }
        return outcome;
    }
    supervisor::run(args)
}

/// The tasks that are to be run, by their places in the manifest.
pub(super) fn selected(index: Option<&Indices>, count: usize) -> Result<Vec<usize>> {
    match index {
        None => Ok((0..count).collect()),
        Some(indices) => indices.below(count),
    }
}
