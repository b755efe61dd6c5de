//! `massact completions`

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    error::{Error, Result},
    report::write_atomic,
};

/// Completions for a shell, on stdout; or manual pages.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell: `source <(massact completions bash)`.
    #[arg(value_enum, required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write manual pages into this folder: massact.1, and one of every command.
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    man: Option<PathBuf>,
}

pub(super) fn run(args: &CompletionsArgs, mut program: Command) -> Result<()> {
    if let Some(folder) = &args.man {
        return manual(program, folder);
    }
    let Some(shell) = args.shell else {
        return Ok(());
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "massact", &mut script);
    super::to_stdout(script)
}

/// A page of the program, and one of each command.
fn manual(mut program: Command, folder: &Path) -> Result<()> {
    program.build();
    let of_folder = |error| {
        Error::usage(format!("--man {}", folder.display()), error)
            .remedy("name a folder that can be made and written to")
    };
    std::fs::create_dir_all(folder).map_err(of_folder)?;
    let commands = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let pages: Vec<Command> = commands
        .filter(|command| command.get_name() != "help")
        .cloned()
        .chain([program.clone()])
        .collect();
    for command in pages {
        let page = Man::new(command);
        let path = folder.join(page.get_filename());
        let mut text = Vec::new();
        page.render(&mut text).map_err(of_folder)?;
        write_atomic(&path, &text)?;
    }
    Ok(())
}
