//! `massact sweep`: many runs from one plan.

mod estimate;
mod flags;
mod merge;
mod plan;
mod report;
mod retry;
mod run;
mod status;
mod submit;
mod supervisor;
mod worker;

use clap::{Args, Subcommand};

pub(super) use self::{
    estimate::downloads,
    flags::{commands, experiment},
    report::write as write_report,
    run::{RunArgs, gigabytes},
    supervisor::run as run_all,
};

use crate::error::Result;

/// Many models and settings from one plan, on one machine or a cluster.
///
/// A plan in TOML names models, experiments and settings; lists multiply. `sweep plan` makes a folder with a
/// line a task, `sweep run` runs what is not done yet, and any number of processes may do so at once.
#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    #[command(subcommand)]
    command: SweepCommand,
}

#[derive(Debug, Subcommand)]
enum SweepCommand {
    Plan(plan::PlanArgs),
    Run(run::RunArgs),
    Submit(submit::SubmitArgs),
    Status(status::StatusArgs),
    Retry(retry::RetryArgs),
    Merge(merge::MergeArgs),
    Report(report::ReportArgs),
}

/// `1 task`, `2 tasks`
pub(super) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

pub(super) fn run(args: &SweepArgs) -> Result<()> {
    match &args.command {
        SweepCommand::Plan(args) => plan::run(args),
        SweepCommand::Run(args) => run::run(args),
        SweepCommand::Submit(args) => submit::run(args),
        SweepCommand::Status(args) => status::run(args),
        SweepCommand::Retry(args) => retry::run(args),
        SweepCommand::Merge(args) => merge::run(args),
        SweepCommand::Report(args) => report::run(args),
    }
}
