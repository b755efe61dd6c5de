//! `massact sweep status`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::super::{print_json, print_line};
use crate::{
    error::{Error, Result},
    report::table::{Align, Row, Table},
    sweep::{Failure, Folder, State, Task},
};

/// Value of the JSON's `schema` field.
const SCHEMA: &str = "massact/sweep-status/1";

/// What is done, runs, has failed and why, and waits.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The sweep's folder.
    dir: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
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
pub(super) struct Failed {
    #[serde(flatten)]
    place: Place,
    #[serde(flatten)]
    failure: Failure,
}

impl Status {
    /// Of the chosen tasks of a sweep.
    pub(super) fn of<'t>(
        folder: &Folder,
        tasks: impl Iterator<Item = (usize, &'t Task)>,
    ) -> Result<Self> {
        let mut status = Self {
            schema: SCHEMA,
            tasks: 0,
            done: 0,
            running: Vec::new(),
            failed: Vec::new(),
            waiting: 0,
        };
        for (index, task) in tasks {
            status.tasks += 1;
            match folder.state(task)? {
                State::Done(_) => status.done += 1,
                State::Waiting { .. } => status.waiting += 1,
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

    /// `17 done, 1 running, 2 failed, 0 waiting`
    pub(super) fn counts(&self) -> String {
        format!(
            "{} done, {} running, {} failed, {} waiting",
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

pub(super) fn run(args: &StatusArgs) -> Result<()> {
    let folder = Folder::at(&args.dir);
    let manifest = folder.manifest()?;
    let status = Status::of(&folder, manifest.tasks.iter().enumerate())?;
    if args.json {
        let document = serde_json::to_value(&status)
            .map_err(|error| Error::new("status", format!("not valid JSON: {error}")))?;
        return print_json(&document);
    }
    if let Some(table) = status.under_way() {
        table.print()?;
    }
    for line in status.failures() {
        print_line(&line)?;
    }
    print_line(&status.counts())
}
