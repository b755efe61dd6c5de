//! Arguments in, exit code out: one file a command, which parses, runs, and writes what
//! [`present`](crate::present) makes of the result.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod bytes;
mod capture;
mod checkpoint;
mod compare;
mod devices;
mod existence_validation;
mod figures;
mod intervention_analysis;
mod models;
mod run;
mod self_attention;
mod selftest;
mod sentence;
mod settings;
mod tokens_analysis;
mod top_activation_magnitude;
mod tvr;

use std::{
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::{
    error::{Error, Result},
    interrupt, panics,
};

/// Find, measure and intervene on massive activations in decoder LLMs.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// The underscored names are the reference program's.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(alias = "existence_validation")]
    ExistenceValidation(existence_validation::ExistenceArgs),
    #[command(alias = "tokens_analysis")]
    TokensAnalysis(tokens_analysis::TokensArgs),
    #[command(alias = "top_activation_magnitude")]
    TopActivationMagnitude(top_activation_magnitude::MagnitudeArgs),
    #[command(alias = "self_attention")]
    SelfAttention(self_attention::SelfAttentionArgs),
    Figures(figures::FiguresArgs),
    #[command(alias = "intervention_analysis")]
    InterventionAnalysis(intervention_analysis::InterventionArgs),
    Capture(capture::CaptureArgs),
    Tvr(tvr::TvrArgs),
    Compare(compare::CompareArgs),
    Selftest(selftest::SelftestArgs),
    Bench(bench::BenchArgs),
    Models(models::ModelsArgs),
    Devices(devices::DevicesArgs),
}

/// The whole program: parses, runs, reports. Exit codes: 0 done, 1 failed, 2 usage, 3 interrupted.
pub fn main() -> ExitCode {
    interrupt::install();
    panics::install();
    let result = match Cli::parse().command {
        Command::ExistenceValidation(args) => existence_validation::run(&args),
        Command::TokensAnalysis(args) => tokens_analysis::run(&args),
        Command::TopActivationMagnitude(args) => top_activation_magnitude::run(&args),
        Command::SelfAttention(args) => self_attention::run(&args),
        Command::Figures(args) => figures::run(&args),
        Command::InterventionAnalysis(args) => intervention_analysis::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Tvr(args) => tvr::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Selftest(args) => selftest::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Devices(args) => devices::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("massact: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// One line on stdout.
fn print_line(text: &str) -> Result<()> {
    to_stdout(&format!("{text}\n"))
}

/// A JSON document on stdout.
fn print_json(document: &Value) -> Result<()> {
    to_stdout(&format!("{document:#}\n"))
}

/// A reader that has gone away (`massact ... | head`) is no error.
fn to_stdout(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::new("stdout", error)),
        _ => Ok(()),
    }
}
