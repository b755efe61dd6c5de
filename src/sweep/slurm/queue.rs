//! What squeue says of a sweep's arrays.
#![forbid(unsafe_code)]

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    process::Command,
};

use serde::Serialize;

use super::{
    super::state::State,
    command::output,
    submission::{Submission, read},
};
use crate::error::Result;

/// The arrays of a sweep that were submitted, and what of them is in the queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// By task: the element that is to run it or does.
    tasks: HashMap<String, Queued>,
    /// All elements that were submitted, as `12_3`.
    submitted: HashSet<String>,
    /// Those that hold a machine.
    alive: HashSet<String>,
}

/// An element of an array that is in the queue, or runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// Its id, `12_3`.
    pub job: String,
    /// Such as `PENDING` or `RUNNING`.
    pub state: String,
    /// Why it waits, as squeue has it.
    pub reason: String,
}

/// A line of squeue.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    array: &'a str,
    index: usize,
    state: &'a str,
    reason: &'a str,
}

impl Queue {
    /// Asks squeue about the sweep in `root`; none if nothing was submitted of it.
    pub fn ask(root: &Path) -> Result<Option<Self>> {
        let submissions = read(root)?;
        if submissions.is_empty() {
            return Ok(None);
        }
        let ids: Vec<&str> = submissions.iter().map(|one| one.job.as_str()).collect();
        let mut command = Command::new("squeue");
        // One line an element of an array; its array, its index, its state, and why it waits.
        command.args(["--noheader", "--array", "--format=%F|%K|%T|%r"]);
        command.arg(format!("--jobs={}", ids.join(",")));
        let listing = match output(&mut command) {
            Ok(listing) => listing,
            // What it says where it has forgotten all of them.
            Err(error) if error.to_string().contains("Invalid job id") => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Some(Self::of(&submissions, &listing)))
    }

    fn of(submissions: &[Submission], listing: &str) -> Self {
        let arrays: HashMap<&str, &Submission> = submissions
            .iter()
            .map(|submission| (submission.job.as_str(), submission))
            .collect();
        let mut queue = Self::default();
        for submission in submissions {
            let elements = 0..submission.tasks.len();
            let names = elements.map(|index| format!("{}_{index}", submission.job));
            queue.submitted.extend(names);
        }
        for line in listing.lines().filter_map(Line::parse) {
            let Some(submission) = arrays.get(line.array) else {
                continue;
            };
            let job = format!("{}_{}", line.array, line.index);
            if line.state != "PENDING" {
                queue.alive.insert(job.clone());
            }
            for task in submission.tasks.get(line.index).into_iter().flatten() {
                let queued = Queued {
                    job: job.clone(),
                    state: line.state.to_owned(),
                    reason: line.reason.to_owned(),
                };
                // Of two, the one that is nearer to running it.
                let known = queue.tasks.get(task);
                if known.is_none_or(|known| known.state == "PENDING") {
                    queue.tasks.insert(task.clone(), queued);
                }
            }
        }
        queue
    }

    /// The element that has a task, by the task's id.
    pub fn of_task(&self, id: &str) -> Option<&Queued> {
        self.tasks.get(id)
    }

    /// Whether a task that counts as running has lost its process: it was part of an array's element that no
    /// longer runs. What this machine knows itself it knows better.
    pub fn is_lost(&self, state: &State) -> bool {
        let State::Running { process, near, .. } = state else {
            return false;
        };
        let job = process.job.as_ref();
        !near
            && job.is_some_and(|job| {
                self.submitted.contains(&job.id) && !self.alive.contains(&job.id)
            })
    }
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.trim().splitn(4, '|');
        Some(Self {
            array: parts.next()?,
            index: parts.next()?.parse().ok()?,
            state: parts.next()?,
            reason: parts.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::process::{Job, Process},
        *,
    };

    fn submission(job: &str, tasks: &[&[&str]]) -> Submission {
        let owned = |part: &&[&str]| part.iter().map(|id| (*id).to_owned()).collect();
        Submission {
            job: job.to_owned(),
            submitted_at: String::new(),
            indices: Vec::new(),
            tasks: tasks.iter().map(owned).collect(),
        }
    }

    fn running(job: Option<&str>, near: bool) -> State {
        let job = job.map(|id| Job {
            id: id.to_owned(),
            restarts: 0,
        });
        State::Running {
            process: Process {
                job,
                ..Process::default()
            },
            since: String::new(),
            near,
        }
    }

    fn queue() -> Queue {
        let submissions = [
            submission("12", &[&["a", "b"], &["c"], &["d"], &["e"]]),
            submission("15", &[&["c"], &["a"]]),
        ];
        let listing = "12|0|RUNNING|None\n12|1|PENDING|Resources\n\
                       12|2|PENDING|Nodes required for job are DOWN, DRAINED|or so\n\
                       15|0|CONFIGURING|None\n15|1|PENDING|Priority\n15|7|RUNNING|None\n99|0|RUNNING|None\n\
                       18|N/A|RUNNING|None\n\nnonsense\n";
        Queue::of(&submissions, listing)
    }

    #[test]
    fn tasks_have_the_element_that_is_nearest_to_running_them() {
        let queue = queue();
        let job = |id: &str| queue.of_task(id).map(|queued| queued.job.as_str());
        assert_eq!(job("a"), Some("12_0"));
        assert_eq!(job("b"), Some("12_0"));
        assert_eq!(job("c"), Some("15_0"));
        assert_eq!(job("e"), None);
        let reason = queue.of_task("d").map(|queued| queued.reason.as_str());
        assert_eq!(
            reason,
            Some("Nodes required for job are DOWN, DRAINED|or so")
        );
    }

    #[test]
    fn who_is_no_longer_in_the_queue_is_lost() {
        let queue = queue();
        let lost = |job, near| queue.is_lost(&running(job, near));
        assert!(lost(Some("12_3"), false));
        // Put back, and not started again.
        assert!(lost(Some("12_2"), false));
        assert!(!lost(Some("12_0"), false));
        assert!(!lost(Some("12_3"), true));
        // Of others nothing is known: another cluster, or no cluster.
        assert!(!lost(Some("77_0"), false));
        assert!(!lost(None, false));
        assert!(!queue.is_lost(&State::Waiting { attempts: 1 }));
    }
}
