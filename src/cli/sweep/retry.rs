//! `massact sweep retry`

use std::path::PathBuf;

use clap::Args;

use super::super::print_line;
use crate::{error::Result, sweep::Folder};

/// Let tasks that failed be run again.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// The sweep's folder.
    dir: PathBuf,
    /// Those that failed.
    #[arg(long, required = true)]
    failed: bool,
}

pub(super) fn run(args: &RetryArgs) -> Result<()> {
    let folder = Folder::at(&args.dir);
    let count = folder.retry(&folder.manifest()?)?;
    print_line(&match count {
        1 => "1 task waits again".to_owned(),
        _ => format!("{count} tasks wait again"),
    })
}
