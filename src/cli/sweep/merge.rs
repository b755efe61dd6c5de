//! `massact sweep merge`

use std::path::PathBuf;

use clap::Args;

use super::super::print_line;
use crate::{
    error::Result,
    sweep::{Folder, merge},
};

/// Put all runs that are done into long tables, as Parquet and CSV in DIR/merged.
#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The sweep's folder.
    dir: PathBuf,
}

pub(super) fn run(args: &MergeArgs) -> Result<()> {
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let finished = folder.finished(&manifest)?;
    for path in merge::write(folder.root(), &finished)? {
        print_line(&path.display().to_string())?;
    }
    let (done, all) = (finished.len(), manifest.tasks.len());
    if done < all {
        crate::progress::say(format_args!(
            "{done} of {all} tasks are done; the tables have those"
        ));
    }
    Ok(())
}
