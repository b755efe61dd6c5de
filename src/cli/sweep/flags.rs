//! From the command line's own definition to what a plan may set, and from a task to a command.

use clap::{Arg, ArgAction, Subcommand};

use super::super::{Cli, Command, experiment::Experiment, hyphenated, parsed};
use crate::{
    error::{Error, Result},
    sweep::{Flag, Flags, Kind, NOT_SETTINGS, Task},
};

/// The commands that a task can be.
fn experiments() -> clap::Command {
    Experiment::augment_subcommands(clap::Command::new("massact"))
}

/// What a plan may set, command by command.
pub(in super::super) fn commands() -> Vec<Flags> {
    experiments()
        .get_subcommands()
        .map(|command| Flags {
            command: command.get_name().to_owned(),
            flags: command.get_arguments().filter_map(flag).collect(),
        })
        .collect()
}

fn flag(argument: &Arg) -> Option<Flag> {
    let key = argument.get_long()?.replace('-', "_");
    if NOT_SETTINGS.contains(&key.as_str()) {
        return None;
    }
    Some(Flag {
        key,
        kind: match argument.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Append => Kind::Repeated,
            _ => Kind::Value,
        },
    })
}

/// Whether a line of a manifest asks for it; a plan cannot.
fn reads_standard_input(task: &Task) -> bool {
    let mut words = task.arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let rest = ["--text-file", "--text_file"];
        let rest = rest.iter().find_map(|flag| word.strip_prefix(flag));
        let path = match rest {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        if path.is_some_and(|path| ["-", "/dev/stdin"].contains(&path)) {
            return true;
        }
    }
    false
}

/// The command that a task is.
pub(in super::super) fn experiment(task: &Task) -> Result<Experiment> {
    if task.command.is_empty() {
        let why = task.settings.get("error").and_then(|why| why.as_str());
        return Err(
            Error::usage(&task.model, format!("not a task: {}", why.unwrap_or("")))
                .remedy("make the manifest again with `massact sweep plan`"),
        );
    }
    if reads_standard_input(task) {
        return Err(
            Error::usage(&task.command, "a task of a sweep has no standard input")
                .remedy("name a file with --text-file"),
        );
    }
    let line = ["massact", &task.command];
    let line = line
        .into_iter()
        .chain(task.arguments.iter().map(String::as_str));
    match parsed(hyphenated(line.map(Into::into))) {
        Ok(Cli {
            command: Command::Experiment(experiment),
            ..
        }) => Ok(experiment),
        Ok(_) => {
            let experiments = experiments();
            let names = experiments.get_subcommands().map(clap::Command::get_name);
            let names: Vec<&str> = names.collect();
            Err(
                Error::usage(&task.command, "it is no experiment that a sweep runs")
                    .remedy(format!("use one of {}", names.join(", "))),
            )
        }
        Err(error) => {
            let text = error.render().to_string();
            // Behind the reason come usage and hints for one who types.
            let reason = text.lines().take_while(|line| !line.trim().is_empty());
            let reason: Vec<&str> = reason.collect();
            let reason = reason.join(" ");
            let reason = reason.strip_prefix("error: ").unwrap_or(&reason);
            Err(Error::usage(&task.command, reason)
                .remedy(format!("`massact {} --help` lists its flags", task.command)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_has_no_standard_input() {
        let refused = |arguments: &[&str]| {
            let task = json!({
                "id": "a", "command": "capture", "arguments": arguments, "model": "demo", "settings": {},
            });
            let task: Task = serde_json::from_value(task).expect("a task");
            let said = experiment(&task).err().map(|error| error.to_string());
            said.is_some_and(|said| said.contains("no standard input"))
        };
        assert!(refused(&["--text-file", "-"]));
        assert!(refused(&["--text_file=/dev/stdin"]));
        assert!(!refused(&["--text-file", "a.txt", "--label=-"]));
    }
}
