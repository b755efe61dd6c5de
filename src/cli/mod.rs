//! Arguments in, exit code out: one file a command, which parses, runs, and writes what
//! [`present`](crate::present) makes of the result.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod bytes;
mod capture;
mod compare;
mod completions;
mod devices;
mod existence_validation;
mod experiment;
mod figures;
mod input;
mod intervention_analysis;
mod life;
mod models;
mod profile;
mod reproduce;
mod run;
mod self_attention;
mod selftest;
mod sentence;
mod settings;
mod shared;
mod show;
mod sinks;
mod sweep;
mod tokens_analysis;
mod top_activation_magnitude;
mod tvr;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{ErrorKind, Write},
    path::Path,
    process::ExitCode,
    sync::{LazyLock, Mutex, PoisonError},
};

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, error::ContextValue};
use serde_json::Value;

use self::{experiment::Experiment, shared::Shared};
use crate::{
    backend::cuda::driver::built,
    error::{Error, Result},
    interrupt, mapped,
    model::tokenizer::chat,
    panics, progress,
    visible::{shortened, visible, visible_json},
};

/// Find, measure and intervene on massive activations in decoder LLMs.
#[derive(Debug, Parser)]
#[command(version, long_version = LONG_VERSION.as_str(), about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Colours on a terminal; `auto` also heeds NO_COLOR and CLICOLOR_FORCE.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Experiment(Experiment),
    Tvr(tvr::TvrArgs),
    Compare(compare::CompareArgs),
    Sweep(sweep::SweepArgs),
    Reproduce(reproduce::ReproduceArgs),
    Selftest(selftest::SelftestArgs),
    Bench(bench::BenchArgs),
    Models(models::ModelsArgs),
    Devices(devices::DevicesArgs),
    Show(show::ShowArgs),
    Completions(completions::CompletionsArgs),
}

/// The whole program: parses, runs, reports. Exit codes: 0 done, 1 failed, 2 usage, 3 interrupted.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|first| first == chat::ARGUMENT)
        && arguments.next().is_none()
    {
        panics::install();
        return chat::serve();
    }
    chat::use_own_program();
    interrupt::install();
    panics::install();
    let line = hyphenated(std::env::args_os());
    let cli = match parsed(&line) {
        Ok(cli) => cli,
        Err(error) => return refused(error, &line),
    };
    colours(cli.color).write_global();
    let result = start_threads().and_then(|()| cli.command.run());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = mapped::explained(error);
            progress::say(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Bytes of a word of the command line that an error shows.
const LONGEST_WORD: usize = 500;

/// The definition of the command line, made once: a sweep parses a line for each of its tasks.
static COMMAND: LazyLock<Mutex<clap::Command>> = LazyLock::new(|| Mutex::new(Cli::command()));

/// What a command line, with the program's name, says.
fn parsed(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Cli, clap::Error> {
    let mut command = COMMAND.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = command.try_get_matches_from_mut(line)?;
    Cli::from_arg_matches_mut(&mut found).map_err(|error| error.format(&mut command))
}

/// Help and versions on stdout, what is wrong with the arguments on stderr, where they cannot steer a terminal.
fn refused(error: clap::Error, line: &[OsString]) -> ExitCode {
    // clap shows words as they are, so it is given those that can be shown.
    let words = line.iter().map(|word| word.to_string_lossy());
    let shown = words.map(|word| readable(&word));
    let error = parsed(shown).err().unwrap_or_else(|| {
        // What is wrong is what cannot be shown.
        let mut error = error;
        let quoted = error.context().filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, readable(text))),
            _ => None,
        });
        for (kind, text) in quoted.collect::<Vec<_>>() {
            error.insert(kind, ContextValue::String(text));
        }
        error
    });
    // As in `say`: lost where nobody can read it.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A word of the command line as an error shows it.
fn readable(word: &str) -> String {
    shortened(&visible(word), LONGEST_WORD).into_owned()
}

/// More than any machine has cores.
const MOST_THREADS: usize = 4096;

/// Those that compute. The library would start them when they are needed first, and panic where it cannot.
fn start_threads() -> Result<()> {
    let wished = std::env::var("RAYON_NUM_THREADS").ok();
    let wished: Option<usize> = wished.and_then(|count| count.trim().parse().ok());
    if let Some(count) = wished.filter(|count| *count > MOST_THREADS) {
        return Err(Error::usage(
            format!("RAYON_NUM_THREADS={count}"),
            format!("more than {MOST_THREADS} threads"),
        )
        .remedy("set it to the number of cores, or unset it"));
    }
    rayon::ThreadPoolBuilder::new()
        .build_global()
        .map_err(|error| {
            Error::new("threads", format!("the system gives none: {error}")).remedy(
                "raise the limit on memory or processes that the shell or the job sets (ulimit -v, ulimit -u), or \
                 set RAYON_NUM_THREADS to fewer",
            )
        })
}

/// With what it was built from and for.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let kernels = match built() {
        Ok(compiler) => format!("built in, by {compiler}"),
        Err(reason) => format!("none: {reason}"),
    };
    let build = run::build();
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    format!(
        "{}\ncommit   {}\ncompiler {}\ntarget   {}\nkernels  {kernels}",
        build.version,
        known(build.git_commit),
        known(build.rustc),
        known(build.target),
    )
});

/// What clap calls the choice, as what prints tables calls it.
fn colours(choice: ColorChoice) -> anstream::ColorChoice {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
}

impl Command {
    /// Runs it, and prints what it found.
    fn run(&self) -> Result<()> {
        let words = std::env::args_os().skip(1);
        let words = words.map(|word| word.to_string_lossy().into_owned());
        let shared = Shared::of(words.collect());
        match self {
            Self::Experiment(experiment) => experiment.run(&shared)?.show(experiment.output()),
            Self::Tvr(args) => tvr::run(args, &shared)?.show(&args.output),
            Self::Compare(args) => compare::run(args, &shared),
            Self::Sweep(args) => sweep::run(args),
            Self::Reproduce(args) => reproduce::run(args),
            Self::Selftest(args) => selftest::run(args),
            Self::Bench(args) => bench::run(args),
            Self::Models(args) => models::run(args),
            Self::Devices(args) => devices::run(args),
            Self::Show(args) => show::run(args),
            Self::Completions(args) => completions::run(args, Cli::command()),
        }
    }
}

/// Flags in the reference program's spelling, `--add_bos_token`, as ours: `--add-bos-token`.
fn hyphenated(line: impl Iterator<Item = OsString>) -> Vec<OsString> {
    static FLAGS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let command = COMMAND.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = command.get_subcommands();
        let flags = commands.flat_map(|command| command.get_arguments());
        let flags = flags.filter_map(|argument| argument.get_long());
        flags.map(str::to_owned).collect()
    });
    let spelled = |word: OsString| {
        let text = word.to_str().and_then(|word| word.strip_prefix("--"));
        let Some(text) = text else {
            return word;
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let name = name.replace('_', "-");
        if !FLAGS.contains(name.as_str()) {
            return word;
        }
        let value = value.map_or_else(String::new, |value| format!("={value}"));
        format!("--{name}{value}").into()
    };
    line.map(spelled).collect()
}

/// One line on stdout.
fn print_line(text: &str) -> Result<()> {
    to_stdout(format!("{text}\n"))
}

/// A path on stdout, byte for byte.
fn print_path(path: &Path) -> Result<()> {
    to_stdout([path.as_os_str().as_encoded_bytes(), b"\n"].concat())
}

/// A JSON document on stdout.
fn print_json(document: &Value) -> Result<()> {
    to_stdout(visible_json(&format!("{document:#}\n")).as_ref())
}

/// A reader that has gone away (`massact ... | head`) is no error.
fn to_stdout(text: impl AsRef<[u8]>) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_ref()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::new("standard output", error)
                .remedy("what it would have had is in the run's folder, where there is one"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Cli, clap::Error> {
        super::parsed(hyphenated(line.iter().map(OsString::from)))
    }

    #[test]
    fn the_reference_programs_spelling() {
        Cli::command().debug_assert();
        let line = [
            "massact",
            "existence_validation",
            "--pretrained",
            "gpt2",
            "--add_bos_token",
            "false",
            "--context_length",
            "128",
            "--save_dir=out",
        ];
        assert!(parsed(&line).is_ok());
        assert!(parsed(&["massact", "existence-validation", "--add_bos", "x"]).is_err());
    }

    #[test]
    fn a_model_by_any_name() {
        let name = |line: &[&str]| {
            let Ok(Cli {
                command: Command::Experiment(Experiment::Capture(args)),
                ..
            }) = parsed(&[&["massact", "capture"], line].concat())
            else {
                return None;
            };
            args.model_name().map(str::to_owned)
        };
        for line in [
            &["gpt2"][..],
            &["--pretrained", "gpt2"],
            &["--model", "gpt2"],
        ] {
            assert_eq!(name(line).as_deref(), Some("gpt2"), "{line:?}");
        }
        assert!(parsed(&["massact", "capture", "gpt2", "--model", "gpt2"]).is_err());
        assert!(parsed(&["massact", "capture", "gpt2", "--revision", "main"]).is_ok());
        assert!(parsed(&["massact", "capture", "--revision", "main"]).is_err());
    }
}
