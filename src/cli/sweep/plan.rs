//! `massact sweep plan`

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;

use super::{super::print_line, counted, estimate, flags};
use crate::{
    error::Result,
    progress::Progress,
    sweep::{Folder, Manifest, Plan},
};

/// Make a sweep's folder from a plan: a line a task in manifest.jsonl.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The plan, in TOML.
    plan: PathBuf,
    /// The sweep's folder. What is done in it already stays done.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// No progress and no notices.
    #[arg(long)]
    quiet: bool,
}

pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let plan = Plan::read(&args.plan)?;
    let manifest = plan.manifest(&flags::commands(), |task| flags::experiment(task).map(drop))?;
    let folder = Folder::at(&args.dir);
    let path = folder.write(&manifest)?;
    let progress = Progress::new(args.quiet);
    let models = models(&manifest);
    print_line(&format!(
        "{} on {}",
        counted(manifest.tasks.len(), "task"),
        counted(models.len(), "model")
    ))?;
    print_line(&estimate::downloads(&manifest, progress)?)?;
    progress.notice(&format!("tasks in {}", path.display()));
    Ok(())
}

fn models(manifest: &Manifest) -> BTreeSet<(&str, Option<&str>)> {
    let tasks = manifest.tasks.iter();
    tasks
        .map(|task| (task.model.as_str(), task.revision.as_deref()))
        .collect()
}
