//! One run of a sweep.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One task of a sweep: a line of manifest.jsonl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// A digest of what the task is.
    pub id: String,
    /// The command, such as `existence-validation`.
    pub command: String,
    /// Its arguments, as on a command line.
    pub arguments: Vec<String>,
    /// What tables call the model: the label, else its name.
    pub model: String,
    /// The revision, if one was named.
    #[serde(default)]
    pub revision: Option<String>,
    /// Training step of the revision, if known.
    #[serde(default)]
    pub step: Option<u64>,
    /// The plan's settings of this task, by flag with underscores.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// A task that is done, and the folder of its run (run.json, `<experiment>.json` ...).
#[derive(Debug, Clone)]
pub struct Finished {
    /// The task.
    pub task: Task,
    /// Where its files are.
    pub folder: PathBuf,
}

/// Hex digits of an id.
const ID_DIGITS: usize = 16;

impl Task {
    /// The id of a task: of the command and its arguments in any order, with paths as they are resolved. The
    /// label, which changes no number, is not to be among them.
    pub(super) fn id_of(command: &str, arguments: &[String]) -> String {
        let mut sorted = arguments.to_vec();
        sorted.sort();
        let what = json!([command, sorted]);
        let digest = blake3::hash(what.to_string().as_bytes()).to_hex();
        digest[..ID_DIGITS].to_owned()
    }

    /// What progress and tables of tasks call it: `gpt2@step1000 existence-validation seed=2`.
    pub fn title(&self) -> String {
        let mut title = self.model.clone();
        if let Some(revision) = &self.revision {
            title.push('@');
            title.push_str(revision);
        }
        title.push(' ');
        title.push_str(&self.command);
        title
    }
}
