//! `massact show`

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    files,
    present::SUMMARY,
    visible::{visible, visible_json},
};

/// The record of a run, without which a folder is none.
const RECORD: &str = "run.json";

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
    let damaged = |name: &str, reason: &dyn std::fmt::Display| {
        Error::new(folder.join(name).display(), reason)
            .remedy("the run's folder is damaged: run it again")
    };
    let record = read(folder, RECORD, files::DESCRIPTION)?;
    let record: Map<String, Value> =
        serde_json::from_str(&record).map_err(|error| damaged(RECORD, &error))?;
    let command = record
        .get("command")
        .and_then(Value::as_str)
        // It becomes the name of a file in the folder.
        .filter(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        })
        .filter(|name| !name.is_empty())
        .ok_or_else(|| damaged(RECORD, &"it does not say which command ran"))?;
    if args.json {
        let name = format!("{}.json", command.replace('-', "_"));
        let document = read(folder, &name, files::WRITTEN)?;
        serde_json::from_str::<IgnoredAny>(&document).map_err(|error| damaged(&name, &error))?;
        return super::to_stdout(visible_json(&document).as_ref());
    }
    let summary = read(folder, SUMMARY, files::WRITTEN)?;
    let lines = summary.split_inclusive('\n').map(|line| {
        let (line, end) = line
            .strip_suffix('\n')
            .map_or((line, ""), |line| (line, "\n"));
        format!("{}{end}", visible(line))
    });
    super::to_stdout(lines.collect::<String>())?;
    let notices = record.get("notices").and_then(Value::as_array);
    for notice in notices.into_iter().flatten().filter_map(Value::as_str) {
        crate::progress::say(notice);
    }
    Ok(())
}

/// A file of the run.
fn read(folder: &Path, name: &str, most: u64) -> Result<String> {
    let path = folder.join(name);
    files::read_text(&path, most).map_err(|error| {
        Error::new(path.display(), error).remedy(
            "give the folder of a finished run: the last line of a run names it, and it holds run.json",
        )
        .meant_path(folder)
    })
}
