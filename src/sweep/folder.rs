//! The folder of a sweep.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    attempt::{self, Claim, Claimed, End, Last},
    manifest::{self, Manifest},
    process::Process,
    state::State,
    task::{Finished, Task},
};
use crate::{
    error::{Error, Result},
    report::run::now_rfc3339,
};

/// A sweep on disk, as this process sees it.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    here: Process,
}

impl Folder {
    /// The sweep in `root`, which is there or is to be made.
    pub fn at(root: &Path) -> Self {
        Self {
            root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
            here: Process::current(),
        }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the runs go: what `--save-dir` is to a single one.
    pub fn results(&self) -> PathBuf {
        self.root.join("results")
    }

    /// The tasks.
    pub fn manifest(&self) -> Result<Manifest> {
        Manifest::read(&self.root.join(manifest::NAME))
    }

    /// Writes the tasks; what has become of those that were there before stays.
    pub fn write(&self, manifest: &Manifest) -> Result<PathBuf> {
        fs::create_dir_all(&self.root).map_err(|error| {
            Error::usage(format!("--dir {}", self.root.display()), error)
                .remedy("name a folder that can be made")
        })?;
        let path = self.root.join(manifest::NAME);
        manifest.write(&path)?;
        Ok(path)
    }

    /// What the sweep has brought into the hub's cache.
    pub(super) fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    fn attempts(&self, task: &Task) -> PathBuf {
        self.root.join("tasks").join(&task.id)
    }

    /// What has become of a task.
    pub fn state(&self, task: &Task) -> Result<State> {
        State::read(&self.root, &self.attempts(task), &self.here)
    }

    /// Takes a task, unless somebody has it, or it has ended.
    pub fn claim(&self, task: &Task) -> Result<Claimed> {
        Claim::take(&self.attempts(task), &self.here)
    }

    /// The run is whole and in `folder`.
    pub fn done(&self, claim: Claim, folder: &Path, seconds: f64) -> Result<()> {
        let inside = folder.strip_prefix(&self.root).unwrap_or(folder);
        claim.end(&End::Done {
            folder: inside.to_string_lossy().into_owned(),
            seconds,
            ended_at: now_rfc3339(),
        })
    }

    /// The run failed.
    pub fn failed(&self, claim: Claim, error: &Error) -> Result<()> {
        claim.end(&End::failed(error))
    }

    /// Gives the task back: it was interrupted.
    pub fn release(&self, claim: Claim) -> Result<()> {
        claim.end(&End::released())
    }

    /// The task that the process `pid` of this machine had when it died.
    pub fn left_by<'m>(&self, manifest: &'m Manifest, pid: u32) -> Option<&'m Task> {
        manifest.tasks.iter().find(|task| {
            let last = Last::read(&self.attempts(task)).ok().flatten();
            last.is_some_and(|last| {
                let process = last.record.as_ref().map(|record| &record.process);
                let its = process
                    .is_some_and(|process| process.pid == pid && process.host == self.here.host);
                its && last.end.is_none()
            })
        })
    }

    /// Records that a task's process died of it.
    pub fn died(&self, task: &Task, error: &Error) -> Result<()> {
        let folder = self.attempts(task);
        match Last::read(&folder)? {
            Some(last) if last.end.is_none() && !last.lives(&folder, &self.here) => {
                attempt::end_of_dead(&folder, last.number, &End::failed(error))
            }
            _ => Ok(()),
        }
    }

    /// Gives back a task whose job, as its cluster says, no longer runs, and so neither does its process.
    pub fn release_lost(&self, task: &Task, job: &str) -> Result<()> {
        let folder = self.attempts(task);
        let Some(last) = Last::read(&folder)?.filter(|last| last.end.is_none()) else {
            return Ok(());
        };
        let its = last.record.and_then(|record| record.process.job);
        // Somebody else may have it by now.
        if its.is_some_and(|its| its.id == job) {
            attempt::end_of_dead(&folder, last.number, &End::released())?;
        }
        Ok(())
    }

    /// Lets failed tasks be tried again. Returns how many there were.
    pub fn retry(&self, manifest: &Manifest) -> Result<usize> {
        let mut count = 0;
        for task in &manifest.tasks {
            let folder = self.attempts(task);
            if !matches!(self.state(task)?, State::Failed(_)) {
                continue;
            }
            if let Some(last) = Last::read(&folder)? {
                attempt::end_of_dead(&folder, last.number, &End::released())?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The tasks that are done, in the order of the manifest.
    pub fn finished(&self, manifest: &Manifest) -> Result<Vec<Finished>> {
        let mut finished = Vec::new();
        for task in &manifest.tasks {
            if let State::Done(folder) = self.state(task)? {
                finished.push(Finished {
                    task: task.clone(),
                    folder,
                });
            }
        }
        Ok(finished)
    }
}
