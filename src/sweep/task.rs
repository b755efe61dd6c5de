//! A line of a sweep's manifest.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One task of a sweep: a line of manifest.jsonl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Digest of what the task is.
    pub id: String,
    /// Command, as `massact` takes it.
    pub command: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What tables call the model: the label, else its name.
    pub model: String,
    /// Branch, tag or commit.
    pub revision: Option<String>,
    /// Training step of the revision, if known.
    pub step: Option<u64>,
    /// The plan's settings of this task, by flag with underscores.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// A task that is done, and the folder of its run (run.json, <experiment>.json ...).
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The task.
    pub task: Task,
    /// The folder.
    pub folder: PathBuf,
}
