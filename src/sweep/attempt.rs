//! Attempts at a task: who has taken it, and how that ended.
//!
//! The n-th attempt is two files in the task's folder, `n.claim` and `n.end`. A claim appears by a hard link
//! or its like, which fails where the name is taken: of any number of processes, on any number of machines,
//! one gets it. The next number may be taken only when this attempt has ended or its process is dead, and
//! no number is ever given back, so that two who see the same dead process cannot both succeed it.
//!
//! A process is dead if the system says so, where it ran on this machine; else if it has not written
//! its claim again for [`SILENCE`], by the clock of the file system.
#![forbid(unsafe_code)]

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::process::{Fate, Process};
use crate::{
    error::{Error, Result},
    files,
    report::{atomic::write_atomic, run::now_rfc3339},
};

/// How often a process writes its claim again.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// After this long without a word a process on another machine counts as dead.
const SILENCE: Duration = Duration::from_secs(120);

/// Size of a claim: a block of the disk, which can become the end's where no other is free.
const CLAIM_BYTES: usize = 4096;

/// A task that this process works on.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    number: u32,
    // None only while it is dropped.
    heartbeat: Option<(Sender<()>, JoinHandle<()>)>,
}

/// The outcome of trying to take a task.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Claim),
    /// Somebody else has it.
    Theirs,
}

/// What `n.claim` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) process: Process,
    /// RFC 3339.
    pub(super) started_at: String,
}

/// What `n.end` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub(super) enum End {
    /// The run is in this folder, relative to the sweep's.
    Done {
        folder: String,
        seconds: f64,
        ended_at: String,
    },
    /// With an error.
    Failed {
        error: String,
        exit_code: u8,
        ended_at: String,
    },
    /// Interrupted, or to be tried again: the next may take it.
    Released { ended_at: String },
}

/// The last attempt at a task.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) number: u32,
    /// None if it cannot be read, as while it is being written.
    pub(super) record: Option<Record>,
    pub(super) end: Option<End>,
    /// When the claim was last written.
    modified: Option<SystemTime>,
}

impl Last {
    /// Of the task in `folder`; none if nobody has tried.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let number = last_number(folder).map_err(|error| Error::new(folder.display(), error))?;
        let Some(number) = number else {
            return Ok(None);
        };
        let claim = file(folder, number, "claim");
        // Opening asks the server anew, where the metadata alone may be a minute old.
        let modified = files::open(&claim).and_then(|file| file.metadata()?.modified());
        Ok(Some(Self {
            number,
            record: read(&claim),
            end: read(&file(folder, number, "end")),
            modified: modified.ok(),
        }))
    }

    /// Whether its process works on.
    pub(super) fn lives(&self, folder: &Path, here: &Process) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.record.as_ref().map(|record| record.process.fate(here)) {
            Some(Fate::Alive) => true,
            Some(Fate::Dead) => false,
            Some(Fate::Unknown) | None => self.heard_of(folder),
        }
    }

    /// Whether its process is on this machine.
    pub(super) fn is_near(&self, here: &Process) -> bool {
        let record = self.record.as_ref();
        record.is_some_and(|record| record.process.fate(here) == Fate::Alive)
    }

    fn heard_of(&self, folder: &Path) -> bool {
        let Some(modified) = self.modified else {
            return false;
        };
        // A file that is made now has the file system's idea of the time.
        let probe = tempfile::NamedTempFile::new_in(folder);
        let now = probe.and_then(|probe| probe.as_file().metadata()?.modified());
        let now = now.unwrap_or_else(|_| SystemTime::now());
        now.duration_since(modified)
            .map_or(true, |silence| silence < SILENCE)
    }
}

impl End {
    /// With this error, now.
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed {
            error: error.to_string(),
            exit_code: error.exit_code(),
            ended_at: now_rfc3339(),
        }
    }

    /// Given back, now.
    pub(super) fn released() -> Self {
        Self::Released {
            ended_at: now_rfc3339(),
        }
    }
}

impl Claim {
    /// Takes the task of `folder`, unless somebody has it, or it has ended for good.
    pub(super) fn take(folder: &Path, here: &Process) -> Result<Claimed> {
        let fail = |error: io::Error| Error::new(folder.display(), error);
        fs::create_dir_all(folder).map_err(fail)?;
        let last = Last::read(folder)?;
        let number = match &last {
            None => 1,
            Some(last) => {
                let ended = matches!(last.end, Some(End::Done { .. } | End::Failed { .. }));
                if ended || last.lives(folder, here) {
                    return Ok(Claimed::Theirs);
                }
                last.number + 1
            }
        };
        let record = Record {
            process: here.clone(),
            started_at: now_rfc3339(),
        };
        let bytes = record.bytes(folder)?;
        let mut temp = tempfile::Builder::new()
            .prefix(".claim-")
            .tempfile_in(folder)
            .map_err(fail)?;
        temp.write_all(&bytes)
            .and_then(|()| temp.as_file().sync_all())
            .map_err(fail)?;
        let path = file(folder, number, "claim");
        match temp.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                return Ok(Claimed::Theirs);
            }
            Err(error) => return Err(fail(error.error)),
        }
        Ok(Claimed::Ours(Self {
            folder: folder.to_owned(),
            number,
            heartbeat: heartbeat(path, bytes),
        }))
    }

    /// Records how it ended; the claim is over.
    pub(super) fn end(mut self, end: &End) -> Result<()> {
        self.stop();
        // Somebody may have taken us for dead. Then the task is theirs.
        if last_number(&self.folder).is_ok_and(|last| last != Some(self.number)) {
            return Ok(());
        }
        let path = file(&self.folder, self.number, "end");
        let bytes = json(&path, end)?;
        let Err(error) = write_atomic(&path, &bytes) else {
            return Ok(());
        };
        // The disk may be full, which is what is to be recorded: the claim's own block serves.
        self.convert(&path, &bytes).map_err(|_| error)
    }

    /// Writes over the claim and gives it the end's name.
    fn convert(&self, end: &Path, bytes: &[u8]) -> io::Result<()> {
        let claim = file(&self.folder, self.number, "claim");
        let mut padded = bytes.to_vec();
        padded.truncate(CLAIM_BYTES);
        padded.resize(CLAIM_BYTES, b' ');
        overwrite(&claim, &padded)?;
        fs::rename(claim, end)
    }

    fn stop(&mut self) {
        if let Some((stop, thread)) = self.heartbeat.take() {
            drop(stop);
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Record {
    fn bytes(&self, folder: &Path) -> Result<Vec<u8>> {
        let mut bytes = json(folder, self)?;
        let length = bytes.len().max(CLAIM_BYTES);
        bytes.resize(length, b' ');
        Ok(bytes)
    }
}

/// Ends an attempt whose process is dead: what the one who watched it knows of its death.
pub(super) fn end_of_dead(folder: &Path, number: u32, end: &End) -> Result<()> {
    let path = file(folder, number, "end");
    write_atomic(&path, &json(&path, end)?).map(drop)
}

fn heartbeat(path: PathBuf, bytes: Vec<u8>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel::<()>();
    let beat = move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            // A file system that is away for a moment may be back for the next.
            let _ = overwrite(&path, &bytes);
        }
    };
    let thread = thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(beat);
    thread.ok().map(|thread| (stop, thread))
}

/// Writes over a file that is there, in its own blocks.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn file(folder: &Path, number: u32, kind: &str) -> PathBuf {
    folder.join(format!("{number:04}.{kind}"))
}

fn json(place: &Path, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::new(place.display(), format!("not valid JSON: {error}")))
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read(path, files::DESCRIPTION).ok()?).ok()
}

/// The largest number of a claim or end.
fn last_number(folder: &Path) -> io::Result<Option<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut last = None;
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let (number, kind) = name.split_once('.')?;
            matches!(kind, "claim" | "end").then_some(())?;
            number.parse::<u32>().ok()
        });
        last = last.max(number);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn take(folder: &Path) -> Claimed {
        Claim::take(folder, &Process::current()).expect("the folder can be written")
    }

    fn ours(folder: &Path) -> Claim {
        match take(folder) {
            Claimed::Ours(claim) => claim,
            Claimed::Theirs => panic!("somebody has it"),
        }
    }

    fn claim_of(folder: &Path, number: u32, process: Process) {
        let record = Record {
            process,
            started_at: now_rfc3339(),
        };
        let bytes = record.bytes(folder).expect("JSON");
        fs::write(file(folder, number, "claim"), bytes).expect("written");
    }

    fn failed() -> End {
        End::Failed {
            error: "why".to_owned(),
            exit_code: 1,
            ended_at: now_rfc3339(),
        }
    }

    #[test]
    fn one_of_many_gets_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 1..=8 {
            let barrier = Barrier::new(8);
            let taken = thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            match take(folder.path()) {
                                Claimed::Ours(claim) => Some(claim),
                                Claimed::Theirs => None,
                            }
                        })
                    })
                    .collect();
                let found = threads
                    .into_iter()
                    .map(|thread| thread.join().expect("no panic"));
                found.flatten().collect::<Vec<_>>()
            });
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].number, number);
            for claim in taken {
                let ended_at = now_rfc3339();
                claim.end(&End::Released { ended_at }).expect("written");
            }
        }
    }

    #[test]
    fn done_and_failed_are_for_good() {
        let folder = tempfile::tempdir().expect("a folder");
        ours(folder.path()).end(&failed()).expect("written");
        assert!(matches!(take(folder.path()), Claimed::Theirs));
        let last = Last::read(folder.path()).expect("read").expect("one");
        assert!(matches!(last.end, Some(End::Failed { .. })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_dead_are_succeeded_and_the_living_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        // Another process has its id now.
        let here = Process::current();
        let dead = Process {
            started: here.started.map(|started| started - 1),
            ..here.clone()
        };
        claim_of(folder.path(), 1, dead);
        assert_eq!(ours(folder.path()).number, 2);
        claim_of(folder.path(), 3, here);
        assert!(matches!(take(folder.path()), Claimed::Theirs));
    }

    #[test]
    fn another_machines_silence_is_its_death() {
        let folder = tempfile::tempdir().expect("a folder");
        let elsewhere = Process {
            host: "elsewhere".to_owned(),
            pid: 1,
            ..Process::default()
        };
        claim_of(folder.path(), 1, elsewhere);
        assert!(matches!(take(folder.path()), Claimed::Theirs));
        let claim = fs::File::options()
            .write(true)
            .open(file(folder.path(), 1, "claim"))
            .expect("there");
        claim
            .set_modified(SystemTime::now() - SILENCE - Duration::from_secs(1))
            .expect("set");
        assert_eq!(ours(folder.path()).number, 2);
    }

    #[test]
    fn a_claim_becomes_the_end_where_the_disk_is_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let claim = ours(folder.path());
        let end = file(folder.path(), 1, "end");
        let bytes = serde_json::to_vec(&failed()).expect("JSON");
        claim.convert(&end, &bytes).expect("in its own block");
        let last = Last::read(folder.path()).expect("read").expect("one");
        assert!(matches!(last.end, Some(End::Failed { .. })));
        assert!(!file(folder.path(), 1, "claim").exists());
    }

    #[test]
    fn one_who_was_taken_for_dead_says_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let claim = ours(folder.path());
        claim_of(folder.path(), 2, Process::current());
        claim.end(&failed()).expect("nothing to do");
        assert!(!file(folder.path(), 1, "end").exists());
    }
}
