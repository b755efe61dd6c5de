//! `massact sweep status`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{
    super::{print_json, print_line},
    run::selected,
};
use crate::{
    error::{Error, Result},
    report::table::{Align, Row, Table},
    sweep::{
        Failure, Folder, Indices, State, Task,
        slurm::{Queue, Queued},
    },
    visible::visible,
};

/// Value of the JSON's `schema` field.
const SCHEMA: &str = "massact/sweep-status/1";

/// What is done, runs, has failed and why, and waits.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The sweep's folder.
    dir: PathBuf,
    /// Only of the tasks in these lines of the manifest, counted from 0: `3`, or `0-2,7`.
    #[arg(long, value_name = "N")]
    index: Option<Indices>,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
    /// Print only how many tasks are neither done nor failed; for scripts.
    #[arg(long, conflicts_with = "json")]
    left: bool,
}

/// A sweep at this moment.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    schema: &'static str,
    tasks: usize,
    pub(super) done: usize,
    pub(super) running: Vec<Running>,
    pub(super) failed: Vec<Failed>,
    pub(super) waiting: usize,
    /// Those of the waiting that a cluster is to run.
    queued: Vec<InQueue>,
    /// Those of the waiting that were running when their job ended, and are in no queue.
    lost: Vec<Lost>,
}

/// A task and where it is in the manifest.
#[derive(Debug, Serialize)]
struct Place {
    index: usize,
    id: String,
    title: String,
    settings: Value,
}

#[derive(Debug, Serialize)]
pub(super) struct Running {
    #[serde(flatten)]
    place: Place,
    host: String,
    pid: u32,
    job: Option<String>,
    since: String,
}

#[derive(Debug, Serialize)]
struct InQueue {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    queued: Queued,
}

#[derive(Debug, Serialize)]
struct Lost {
    #[serde(flatten)]
    place: Place,
    host: String,
    job: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Failed {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    failure: Failure,
}

impl Status {
    /// Of the chosen tasks of a sweep, joined with what a cluster says of them.
    pub(super) fn of<'t>(
        folder: &Folder,
        tasks: impl Iterator<Item = (usize, &'t Task)>,
        queue: &Queue,
    ) -> Result<Self> {
        let mut status = Self {
            schema: SCHEMA,
            tasks: 0,
            done: 0,
            running: Vec::new(),
            failed: Vec::new(),
            waiting: 0,
            queued: Vec::new(),
            lost: Vec::new(),
        };
        for (index, task) in tasks {
            status.tasks += 1;
            let state = folder.state(task)?;
            match state {
                State::Done(_) => status.done += 1,
                _ if queue.is_lost(&state) => status.wait(index, task, &state, queue),
                State::Waiting { .. } => status.wait(index, task, &state, queue),
                State::Running { process, since, .. } => status.running.push(Running {
                    place: Place::of(index, task),
                    host: process.host,
                    pid: process.pid,
                    job: process.job.map(|job| job.id),
                    since,
                }),
                State::Failed(failure) => status.failed.push(Failed {
                    place: Place::of(index, task),
                    failure,
                }),
            }
        }
        Ok(status)
    }

    fn wait(&mut self, index: usize, task: &Task, state: &State, queue: &Queue) {
        self.waiting += 1;
        let place = Place::of(index, task);
        match (queue.of_task(&task.id), state) {
            (Some(queued), _) => self.queued.push(InQueue {
                place,
                queued: queued.clone(),
            }),
            (None, State::Running { process, .. }) => self.lost.push(Lost {
                place,
                host: process.host.clone(),
                job: process.job.as_ref().map(|job| job.id.clone()),
            }),
            (None, _) => {}
        }
    }

    /// `17 done, 1 running, 2 failed, 4 waiting (3 queued, 1 lost)`
    pub(super) fn counts(&self) -> String {
        let parts = [(self.queued.len(), "queued"), (self.lost.len(), "lost")];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let of_these = match parts.is_empty() {
            true => String::new(),
            false => format!(" ({})", parts.join(", ")),
        };
        format!(
            "{} done, {} running, {} failed, {} waiting{of_these}",
            self.done,
            self.running.len(),
            self.failed.len(),
            self.waiting
        )
    }

    /// Why tasks failed, a line a reason.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<&Place>)> = Vec::new();
        for failed in &self.failed {
            let error = failed.failure.error.as_str();
            match reasons.iter_mut().find(|(other, _)| *other == error) {
                Some((_, places)) => places.push(&failed.place),
                None => reasons.push((error, vec![&failed.place])),
            }
        }
        let line = |(error, places): &(&str, Vec<&Place>)| match places.as_slice() {
            [only] => {
                let settings = settings(&only.settings);
                format!(
                    "task {} failed ({} {settings}): {error}",
                    only.index, only.title
                )
            }
            several => {
                let indices: Vec<String> = several
                    .iter()
                    .map(|place| place.index.to_string())
                    .collect();
                format!("tasks {} failed: {error}", indices.join(", "))
            }
        };
        reasons.iter().map(line).collect()
    }

    fn under_way(&self) -> Option<Table> {
        let mut table = Table::new([
            ("task", Align::Right),
            ("running", Align::Left),
            ("settings", Align::Left),
            ("where", Align::Left),
            ("since", Align::Left),
        ]);
        for running in &self.running {
            let job = running.job.as_ref();
            table.push(Row::new([
                running.place.index.to_string(),
                running.place.title.clone(),
                settings(&running.place.settings),
                match job {
                    Some(job) => format!("{}, job {job}", running.host),
                    None => format!("{}, process {}", running.host, running.pid),
                },
                running.since.clone(),
            ]));
        }
        (!self.running.is_empty()).then_some(table)
    }

    /// What waits in a cluster's queue, a line an element, and what is lost.
    fn in_queue(&self) -> Vec<String> {
        let mut elements: Vec<(&Queued, Vec<usize>)> = Vec::new();
        for InQueue { place, queued } in &self.queued {
            match elements
                .iter_mut()
                .find(|(other, _)| other.job == queued.job)
            {
                Some((_, places)) => places.push(place.index),
                None => elements.push((queued, vec![place.index])),
            }
        }
        let queued = elements.into_iter().map(|(queued, places)| {
            // A job that runs waits for nothing, which squeue calls `None`.
            let why = match queued.state.as_str() {
                "PENDING" => queued.reason.clone(),
                state => state.to_lowercase(),
            };
            format!("{} queued (job {}, {why})", tasks(places), queued.job)
        });
        let lost = self.lost.iter().map(|lost| {
            let job = lost.job.as_deref().unwrap_or_default();
            let (task, host) = (tasks(vec![lost.place.index]), &lost.host);
            format!("{task} waiting (lost: job {job} on {host} has ended)")
        });
        queued.chain(lost).collect()
    }
}

/// `task 3`, `tasks 0-2,7`
fn tasks(places: Vec<usize>) -> String {
    let word = if places.len() == 1 { "task" } else { "tasks" };
    format!("{word} {}", places.into_iter().collect::<Indices>())
}

impl Place {
    fn of(index: usize, task: &Task) -> Self {
        Self {
            index,
            id: task.id.clone(),
            title: task.title(),
            settings: Value::Object(task.settings.clone()),
        }
    }
}

fn settings(settings: &Value) -> String {
    let settings = settings.as_object().into_iter().flatten();
    let settings: Vec<String> = settings
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}={text}"),
            None => format!("{key}={value}"),
        })
        .collect();
    settings.join(" ")
}

/// What the cluster says. Where it says nothing, the sweep's folder still says the rest.
fn queue(folder: &Folder) -> Queue {
    match Queue::ask(folder.root()) {
        Ok(queue) => queue.unwrap_or_default(),
        Err(error) => {
            crate::progress::say(format_args!("{error}; what is in the queue is not shown"));
            Queue::default()
        }
    }
}

pub(super) fn run(args: &StatusArgs) -> Result<()> {
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let chosen = selected(args.index.as_ref(), manifest.tasks.len())?;
    let chosen = chosen
        .into_iter()
        .map(|index| (index, &manifest.tasks[index]));
    if args.left {
        let status = Status::of(&folder, chosen, &Queue::default())?;
        return print_line(&(status.running.len() + status.waiting).to_string());
    }
    let status = Status::of(&folder, chosen, &queue(&folder))?;
    if args.json {
        let document = serde_json::to_value(&status)
            .map_err(|error| Error::new("status", format!("not valid JSON: {error}")))?;
        return print_json(&document);
    }
    if let Some(table) = status.under_way() {
        table.print()?;
    }
    for line in status.in_queue().into_iter().chain(status.failures()) {
        print_line(&visible(&line))?;
    }
    print_line(&status.counts())
}
