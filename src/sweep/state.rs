//! What has become of a task.
#![forbid(unsafe_code)]

use std::path::{Component, Path, PathBuf};

use serde::Serialize;

use super::{
    attempt::{End, Last},
    process::Process,
};
use crate::error::Result;

/// Where a task stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Nobody works on it.
    Waiting {
        /// Attempts that came to no end.
        attempts: u32,
    },
    /// Somebody does.
    Running {
        /// Who.
        process: Process,
        /// Since when, RFC 3339.
        since: String,
        /// Whether on this machine, where its death would be seen at once.
        near: bool,
    },
    /// Its results are in this folder.
    Done(PathBuf),
    /// With an error.
    Failed(Failure),
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// One line: the thing, the reason, the remedy.
    pub error: String,
    /// What the command alone would have ended with.
    pub exit_code: u8,
}

/// Whether results lie where those of a sweep do, and not where somebody who wrote the record would have them read.
fn is_inside(folder: &str) -> bool {
    let mut parts = Path::new(folder).components();
    parts.all(|part| matches!(part, Component::Normal(_)))
}

impl State {
    /// Of the task whose attempts are in `folder`; the sweep is in `root`.
    pub(super) fn read(root: &Path, folder: &Path, here: &Process) -> Result<Self> {
        let Some(last) = Last::read(folder)? else {
            return Ok(Self::Waiting { attempts: 0 });
        };
        let waiting = Self::Waiting {
            attempts: last.number,
        };
        Ok(match &last.end {
            Some(End::Done { folder, .. }) if !is_inside(folder) => Self::Failed(Failure {
                error: format!(
                    "{folder}: the record of the task names results outside of the sweep; `massact sweep retry --failed` makes them again"
                ),
                exit_code: 1,
            }),
            Some(End::Done { folder, .. }) => {
                let folder = root.join(folder);
                // Somebody may have removed the results: then there are none.
                if folder.join("run.json").is_file() {
                    Self::Done(folder)
                } else {
                    Self::Failed(Failure {
                        error: format!(
                            "{}: the results are gone; `massact sweep retry --failed` makes them again",
                            folder.display()
                        ),
                        exit_code: 1,
                    })
                }
            }
            Some(End::Failed {
                error, exit_code, ..
            }) => Self::Failed(Failure {
                error: error.clone(),
                exit_code: *exit_code,
            }),
            Some(End::Released { .. }) => waiting,
            None if last.lives(folder, here) => {
                let near = last.is_near(here);
                let record = last.record;
                Self::Running {
                    near,
                    since: record
                        .as_ref()
                        .map(|record| record.started_at.clone())
                        .unwrap_or_default(),
                    process: record.map(|record| record.process).unwrap_or_default(),
                }
            }
            None => waiting,
        })
    }
}
