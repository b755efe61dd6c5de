//! The tasks whose accuracy is measured, from flags to items.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::{args::positive, settings::TaskSettings};
use crate::{
    data::{
        Provenance,
        items::{self, Convention, Reading, Task, TaskSource},
    },
    error::{Error, Result},
    hub::Hub,
    model::Model,
    progress::Progress,
};

/// Which tasks, and how.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// Also measure accuracy on these multiple-choice tasks, zero-shot, under every intervention:
    /// hellaswag, piqa, social_iqa, winogrande, truthfulqa_mc1, truthfulqa_mc2, arc_easy,
    /// arc_challenge, from the hub.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    tasks: Vec<String>,
    /// A task whose items are in a file (.jsonl, .parquet): of a name from --tasks in that set's own
    /// fields, of any other in `context`, `choices` and `gold`. Repeatable.
    #[arg(long, value_name = "NAME=FILE", value_parser = task_arg)]
    task: Vec<TaskArg>,
    /// Whose prompts and normalisation.
    #[arg(long, value_enum, default_value_t = Convention::LmEval)]
    task_convention: Convention,
    /// Whether each text of a task begins with the BOS token. Default: as the tokenizer does by itself,
    /// which is lm-eval's default, too.
    #[arg(long, value_name = "true|false")]
    task_add_bos_token: Option<bool>,
    /// The first N items of each task instead of all.
    #[arg(long, value_name = "N", value_parser = positive)]
    limit: Option<usize>,
}

/// `NAME=FILE`
#[derive(Debug, Clone, PartialEq, Eq)]
struct TaskArg {
    name: String,
    file: PathBuf,
}

fn task_arg(text: &str) -> Result<TaskArg, String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(TaskArg {
            name: name.to_owned(),
            file: file.into(),
        }),
        _ => Err("expected NAME=FILE; a task from the hub is --tasks NAME".into()),
    }
}

impl TaskArgs {
    /// The tasks that are asked for; refuses unknown ones, and two of one name.
    pub(super) fn wanted(&self) -> Result<Vec<TaskSource>> {
        let mut wanted: Vec<TaskSource> = Vec::new();
        let named = self.tasks.iter().map(|name| (name, None));
        let local = self.task.iter().map(|task| (&task.name, Some(&task.file)));
        for (name, file) in named.chain(local) {
            if wanted.iter().any(|other| other.name == *name) {
                return Err(
                    Error::usage(format!("--task {name}"), "two tasks have this name")
                        .remedy("give each its own name"),
                );
            }
            wanted.push(match file {
                Some(file) => TaskSource::local(name, Path::new(file))?,
                None => TaskSource::named(name)?,
            });
        }
        Ok(wanted)
    }

    /// Loads them, with what each is read from.
    pub(super) fn load(
        &self,
        wanted: &[TaskSource],
        model: &Model,
        progress: Progress,
    ) -> Result<(Vec<Task>, Vec<Provenance>)> {
        let hub = || Hub::from_env(progress);
        let reading = Reading {
            convention: self.task_convention,
            add_bos_token: self.task_add_bos_token,
            limit: self.limit,
        };
        let load = |task| items::load(task, reading, model, &hub, progress);
        let tasks = wanted.iter().map(load);
        let tasks: Vec<_> = tasks.collect::<Result<_>>()?;
        Ok(tasks.into_iter().unzip())
    }

    /// What decides the numbers; none without tasks, whose runs keep their folders.
    pub(super) fn settings(&self, tasks: &[Task]) -> Option<TaskSettings> {
        (!tasks.is_empty()).then(|| TaskSettings {
            task_sets: tasks.iter().map(Into::into).collect(),
            task_convention: self.task_convention,
            task_add_bos_token: self.task_add_bos_token,
            limit: self.limit,
        })
    }
}

/// Tokens that the model reads for the tasks.
pub(super) fn tokens(tasks: &[Task]) -> usize {
    let items = tasks.iter().flat_map(|task| &task.items);
    let requests = items.flat_map(|item| &item.choices);
    requests.map(|request| request.ids.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(tasks: &[&str], task: &[&str]) -> TaskArgs {
        TaskArgs {
            tasks: tasks.iter().map(|name| (*name).to_owned()).collect(),
            task: task
                .iter()
                .map(|text| task_arg(text).expect("NAME=FILE"))
                .collect(),
            task_convention: Convention::LmEval,
            task_add_bos_token: None,
            limit: None,
        }
    }

    #[test]
    fn names_and_files() {
        assert!(task_arg("piqa").is_err() && task_arg("=x").is_err() && task_arg("x=").is_err());
        let wanted = args(&["piqa"], &["mine=Cargo.toml"])
            .wanted()
            .expect("fine");
        assert_eq!(wanted[0].file, None);
        assert_eq!(wanted[1].file.as_deref(), Some(Path::new("Cargo.toml")));
        for (bad, says) in [
            (
                args(&["piqua"], &[]),
                "--tasks piqua: no task that massact knows; did you mean `piqa`? else use hellaswag,",
            ),
            (
                args(&["piqa"], &["piqa=Cargo.toml"]),
                "two tasks have this name",
            ),
            (args(&[], &["mine=none.jsonl"]), "none.jsonl: no such file"),
        ] {
            let error = bad.wanted().expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
