//! Sweeps in folders of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::damage::copy;
use super::program::{Done, checkpoint, files, massact, read_json, run};

/// A folder with a plan, the checkpoint `planted` with `text.txt` beside it, and the plan's sweep.
pub(crate) struct Sweep {
    folder: TempDir,
    /// The sweep's own folder, whose name is not easy for a shell.
    pub(crate) root: PathBuf,
}

impl Sweep {
    /// Makes it of a plan; the text is planted-llama's so many times.
    pub(crate) fn planned(plan: &str, times: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let planted = checkpoint("planted-llama");
        copy("planted-llama", &folder.path().join("planted"));
        let text = fs::read_to_string(planted.join("text.txt")).expect("a text");
        fs::write(folder.path().join("text.txt"), text.repeat(times)).expect("written");
        fs::write(folder.path().join("plan.toml"), plan).expect("written");
        let root = folder.path().join("it's a %j $HOME \"sweep\"");
        let sweep = Self { folder, root };
        let mut command = massact(["sweep", "plan"]);
        command
            .arg(sweep.path("plan.toml"))
            .arg("--dir")
            .arg(&sweep.root);
        run(&mut command).succeeded();
        sweep
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `massact sweep <command> <its folder>`
    pub(crate) fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut program = massact(["sweep", command]);
        program.arg(&self.root).args(arguments);
        program
    }

    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Done {
        run(&mut self.command(command, arguments))
    }

    /// Ids of the tasks, in the manifest's order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("manifest.jsonl")).expect("a manifest");
        let ids = text.lines().map(|line| {
            let task: Value = serde_json::from_str(line).expect("JSON");
            task["id"].as_str().expect("a text").to_owned()
        });
        ids.collect()
    }

    /// Outcomes of the attempts at a task; `none` of one without an end.
    pub(crate) fn attempts(&self, id: &str) -> Vec<String> {
        let folder = self.root.join("tasks").join(id);
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for name in files(&folder) {
            let (number, kind) = name.split_once('.').expect("a number and a kind");
            match kind {
                "end" => {
                    let outcome = read_json(&folder.join(&name))["outcome"].clone();
                    let outcome = outcome.as_str().expect("a text").to_owned();
                    found.insert(number.to_owned(), outcome);
                }
                "claim" => {
                    found
                        .entry(number.to_owned())
                        .or_insert_with(|| "none".to_owned());
                }
                // One that is being written.
                _ => {}
            }
        }
        found.into_values().collect()
    }

    /// The lines of a JSON Lines file of the sweep.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.root.join(name)).expect(name);
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON")
    }
}

/// A program of a shell, on a PATH that has it before all others.
#[cfg(unix)]
pub(crate) fn program(folder: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
}
