//! manifest.jsonl: the tasks of a sweep, a line each.
#![forbid(unsafe_code)]

use std::{collections::HashSet, path::Path};

use serde_json::Value;

use super::task::Task;
use crate::{
    error::{Error, Result},
    files,
    report::atomic::write_atomic,
};

/// The file's name.
pub(super) const NAME: &str = "manifest.jsonl";

/// The tasks, in the order in which they are to run: those of one model follow each other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// First to last.
    pub tasks: Vec<Task>,
}

impl Manifest {
    /// Reads the file. A line that is no task is one that cannot be run, and does not harm the others.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = files::read_text(path, files::WRITTEN).map_err(|error| {
            Error::usage(path.display(), error)
                .remedy("make it with `massact sweep plan PLAN --dir DIR`")
                .meant_path(path)
        })?;
        let mut ids = HashSet::new();
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let tasks = lines
            .map(|(index, line)| {
                let task = parse(line, index + 1);
                if ids.insert(task.id.clone()) {
                    return Ok(task);
                }
                Err(Error::new(
                    format!("{}, line {}", path.display(), index + 1),
                    format!("a second task has the id {}", task.id),
                )
                .remedy("remove one of the lines"))
            })
            .collect::<Result<_>>()?;
        Ok(Self { tasks })
    }

    /// Writes the file.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        for task in &self.tasks {
            let line = serde_json::to_vec(task)
                .map_err(|error| Error::new(path.display(), format!("not valid JSON: {error}")))?;
            bytes.extend(line);
            bytes.push(b'\n');
        }
        write_atomic(path, &bytes).map(drop)
    }
}

/// A task; of a line that is none, a task that fails with the reason.
fn parse(line: &str, number: usize) -> Task {
    match serde_json::from_str::<Task>(line) {
        // An id becomes the name of a folder.
        Ok(task) if plain(&task.id) => task,
        Ok(_) => broken(line, number, "its id is not of letters and digits"),
        Err(error) => broken(line, number, &error.to_string()),
    }
}

fn plain(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn broken(line: &str, number: usize, why: &str) -> Task {
    Task {
        id: blake3::hash(line.as_bytes()).to_hex()[..16].to_owned(),
        command: String::new(),
        arguments: Vec::new(),
        model: format!("line {number} of the manifest"),
        revision: None,
        step: None,
        settings: [("error".to_owned(), Value::from(why))]
            .into_iter()
            .collect(),
    }
}
