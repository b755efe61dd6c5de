//! `massact sweep report`

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::print_line;
use crate::{
    error::Result,
    present::sweep::{self, Item},
    report::atomic::write_atomic,
    sweep::{Finished, Folder, MeasuredRun, State},
};

/// One page about the sweep: DIR/report.html, with a row a model, and links to the runs' pages.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The sweep's folder.
    dir: PathBuf,
}

pub(super) fn run(args: &ReportArgs) -> Result<()> {
    let path = write(&args.dir)?;
    print_line(&path.display().to_string())
}

/// Writes the page.
pub(in super::super) fn write(dir: &Path) -> Result<PathBuf> {
    let folder = Folder::at(dir);
    let manifest = folder.manifest()?;
    let mut items = Vec::with_capacity(manifest.tasks.len());
    for task in manifest.tasks {
        let state = folder.state(&task)?;
        let run = match &state {
            State::Done(results) => MeasuredRun::read(&Finished {
                task: task.clone(),
                folder: results.clone(),
            })?,
            _ => None,
        };
        items.push(Item { task, state, run });
    }
    let root = folder.root();
    let title = root
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let command_line = format!("massact sweep run {}", dir.display());
    let page = sweep::report(&title.unwrap_or_default(), root, &items, command_line);
    write_atomic(&root.join("report.html"), page.as_bytes())
}
