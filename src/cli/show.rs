//! `massact show`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    present::SUMMARY,
};

/// Prints again what a finished run printed.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Folder of the run.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Print the experiment's JSON instead of the table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ShowArgs) -> Result<()> {
    let folder = &args.folder;
    let record: Value = {
        let text = read(folder, "run.json")?;
        let damaged = |error| {
            Error::new(folder.join("run.json").display(), error)
                .remedy("the run's folder is damaged: run it again")
        };
        serde_json::from_slice(&text).map_err(damaged)?
    };
    if args.json {
        let command = record["command"].as_str().unwrap_or_default();
        let name = format!("{}.json", command.replace('-', "_"));
        return super::to_stdout(read(folder, &name)?);
    }
    super::to_stdout(read(folder, SUMMARY)?)?;
    for notice in record["notices"].as_array().into_iter().flatten() {
        if let Some(notice) = notice.as_str() {
            crate::progress::say(notice);
        }
    }
    Ok(())
}

/// A file of the run.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|error| {
        Error::new(path.display(), error).remedy(
            "give the folder of a finished run: the last line of a run names it, and it holds run.json",
        )
        .meant_path(folder)
    })
}
