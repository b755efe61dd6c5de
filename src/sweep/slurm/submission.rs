//! jobs.jsonl: what was submitted, a line an array.
#![forbid(unsafe_code)]

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files,
};

/// An array that was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Slurm's id of it.
    pub job: String,
    /// RFC 3339.
    pub submitted_at: String,
    /// The manifest's lines, by index of the array, as `--index` takes them.
    pub indices: Vec<String>,
    /// The ids of the same tasks: a later plan may have them in other lines.
    pub tasks: Vec<Vec<String>>,
}

/// The folder of a sweep for what belongs to Slurm.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join("slurm")
}

fn file(root: &Path) -> PathBuf {
    folder(root).join("jobs.jsonl")
}

impl Submission {
    /// Adds it to the file of the sweep in `root`.
    pub fn record(&self, root: &Path) -> Result<()> {
        let path = file(root);
        let mut line = serde_json::to_vec(self)
            .map_err(|error| Error::new(path.display(), format!("not valid JSON: {error}")))?;
        line.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).open(&path);
        // One write, so that two who submit at once do not mix.
        file.and_then(|mut file| {
            file.write_all(&line)?;
            file.sync_all()
        })
        .map_err(|error| Error::new(path.display(), error))
    }
}

/// What was submitted of the sweep in `root`, first to last; none if nothing was.
pub fn read(root: &Path) -> Result<Vec<Submission>> {
    let path = file(root);
    let text = match files::read_text(&path, files::WRITTEN) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::new(path.display(), error)),
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                Error::new(format!("{}, line {}", path.display(), index + 1), error)
                    .remedy("remove the line")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_read() {
        let root = tempfile::tempdir().expect("a folder");
        assert_eq!(read(root.path()), Ok(Vec::new()));
        std::fs::create_dir(folder(root.path())).expect("a folder");
        let submission = |job: &str| Submission {
            job: job.to_owned(),
            submitted_at: "2026-01-01T00:00:00Z".to_owned(),
            indices: vec!["0-1".to_owned(), "2".to_owned()],
            tasks: vec![vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]],
        };
        for job in ["12", "15"] {
            submission(job).record(root.path()).expect("recorded");
        }
        assert_eq!(
            read(root.path()),
            Ok(vec![submission("12"), submission("15")])
        );
        std::fs::write(file(root.path()), "{\n").expect("written");
        assert!(read(root.path()).is_err());
    }
}
