//! Who works on a task, and whether it still does.
#![forbid(unsafe_code)]

use std::fs;

use serde::{Deserialize, Serialize};

/// A process on some machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of the machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// When the system started it, in its own ticks: process ids come again.
    pub(super) started: Option<u64>,
    /// The machine's start and the process's namespace: pids of others say nothing here.
    pub(super) place: Option<String>,
    /// The job of a cluster that it is part of, and how often that was started again.
    pub job: Option<Job>,
}

/// A job of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// How often it was put back into the queue.
    pub restarts: u32,
}

/// What is known of a process from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Alive,
    Dead,
    /// It is on another machine.
    Unknown,
}

impl Process {
    /// This one.
    pub(super) fn current() -> Self {
        let pid = std::process::id();
        Self {
            host: host(),
            pid,
            started: start_of(pid),
            place: place(),
            job: job(),
        }
    }

    /// Whether it still runs.
    pub(super) fn fate(&self, here: &Self) -> Fate {
        if let (Some(job), Some(ours)) = (&self.job, &here.job)
            && job.id == ours.id
            && job.restarts < ours.restarts
        {
            // A job that starts again has ended before.
            return Fate::Dead;
        }
        if self.host != here.host || self.place != here.place || self.place.is_none() {
            return Fate::Unknown;
        }
        match start_of(self.pid) {
            Some(started) if Some(started) == self.started => Fate::Alive,
            _ => Fate::Dead,
        }
    }
}

#[cfg(unix)]
fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// The system's start and the namespace of its process ids; Linux only.
fn place() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// When a process was started; none if there is none, or it has ended and waits for its parent.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    // The 22nd field of the line; the state is the third.
    fields.get(19)?.parse().ok()
}

fn job() -> Option<Job> {
    let variable = |name: &str| std::env::var(name).ok();
    let id = match (
        variable("SLURM_ARRAY_JOB_ID"),
        variable("SLURM_ARRAY_TASK_ID"),
    ) {
        (Some(job), Some(task)) => format!("{job}_{task}"),
        _ => variable("SLURM_JOB_ID")?,
    };
    let restarts = variable("SLURM_RESTART_COUNT").and_then(|count| count.parse().ok());
    Some(Job {
        id,
        restarts: restarts.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_alive_and_another_with_its_pid_was_not_it() {
        let here = Process::current();
        assert_eq!(here.fate(&here), Fate::Alive);
        let earlier = Process {
            started: here.started.map(|started| started - 1),
            ..here.clone()
        };
        assert_eq!(earlier.fate(&here), Fate::Dead);
        let elsewhere = Process {
            host: "another".to_owned(),
            ..here.clone()
        };
        assert_eq!(elsewhere.fate(&here), Fate::Unknown);
        let namespace = Process {
            place: Some("another".to_owned()),
            ..here.clone()
        };
        assert_eq!(namespace.fate(&here), Fate::Unknown);
    }

    #[test]
    fn a_job_that_was_put_back_has_ended() {
        let job = |restarts, host: &str| Process {
            host: host.to_owned(),
            job: Some(Job {
                id: "7_1".to_owned(),
                restarts,
            }),
            ..Process::default()
        };
        assert_eq!(job(0, "a").fate(&job(1, "b")), Fate::Dead);
        assert_eq!(job(1, "a").fate(&job(1, "b")), Fate::Unknown);
        let other = Process {
            job: None,
            ..job(0, "b")
        };
        assert_eq!(job(0, "a").fate(&other), Fate::Unknown);
    }
}
