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

/// The command that a task is.
pub(in super::super) fn experiment(task: &Task) -> Result<Experiment> {
    if task.command.is_empty() {
        let why = task.settings.get("error").and_then(|why| why.as_str());
        return Err(
            Error::usage(&task.model, format!("not a task: {}", why.unwrap_or("")))
                .remedy("make the manifest again with `massact sweep plan`"),
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
