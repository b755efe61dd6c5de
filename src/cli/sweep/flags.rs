//! From the command line's own definition to what a plan may set, and from a task to a command.

use clap::{Arg, ArgAction, CommandFactory, Parser};

use super::super::{Cli, Command, experiment::Experiment, hyphenated};
use crate::{
    error::{Error, Result},
    sweep::{Flag, Flags, Kind, Task},
};

/// The commands that a task can be.
const EXPERIMENTS: [&str; 7] = [
    "existence-validation",
    "tokens-analysis",
    "intervention-analysis",
    "top-activation-magnitude",
    "self-attention",
    "figures",
    "capture",
];

/// Flags that are the sweep's to set, or the model's in the plan.
const NOT_SETTINGS: [&str; 7] = [
    "pretrained",
    "revision",
    "label",
    "save-dir",
    "quiet",
    "json",
    "help",
];

/// What a plan may set, command by command.
pub(in super::super) fn commands() -> Vec<Flags> {
    let cli = Cli::command();
    EXPERIMENTS
        .iter()
        .filter_map(|name| cli.find_subcommand(name))
        .map(|command| Flags {
            command: command.get_name().to_owned(),
            flags: command.get_arguments().filter_map(flag).collect(),
        })
        .collect()
}

fn flag(argument: &Arg) -> Option<Flag> {
    let name = argument.get_long()?;
    if NOT_SETTINGS.contains(&name) {
        return None;
    }
    Some(Flag {
        key: name.replace('-', "_"),
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
    match Cli::try_parse_from(hyphenated(line.map(Into::into))) {
        Ok(Cli {
            command: Command::Experiment(experiment),
        }) => Ok(experiment),
        Ok(_) => Err(
            Error::usage(&task.command, "it is no experiment that a sweep runs")
                .remedy(format!("use one of {}", EXPERIMENTS.join(", "))),
        ),
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
