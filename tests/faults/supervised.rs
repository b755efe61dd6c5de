//! Runs of the program in which one thing goes wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;
use tempfile::TempDir;

use super::support::damage::copy;
use super::support::program::{Done, checkpoint, offline, run};

/// Of a run of the program: what it says, and the call that met the fault.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) done: Done,
    /// None if the run came to its end before.
    pub(crate) met: Option<String>,
}

/// Which calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// That write, make or rename in a folder.
    Change,
    /// That open, read or map in a folder.
    Read,
}

/// The program that lets calls fail.
fn supervisor() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/supervise.cpp");
        // Several test programs may compile it at once.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join(format!("supervise-{}", std::process::id()));
        let compiled = Command::new("g++")
            .args(["-O1", "-Wall", "-Wextra", "-Werror", source, "-o"])
            .arg(&program)
            .status();
        assert!(compiled.expect("g++").success());
        program
    })
}

/// A checkpoint in `model`, its text beside it as lines and as JSON Lines, and `out` for results.
pub(crate) struct Place {
    temp: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            temp: tempfile::tempdir().expect("a folder"),
        };
        copy("planted-llama", &place.path("model"));
        let text = checkpoint("planted-llama").join("text.txt");
        fs::copy(&text, place.path("text.txt")).expect("copied");
        let text = fs::read_to_string(text).expect("a text");
        let lines = text
            .lines()
            .map(|line| json!({ "text": line }).to_string() + "\n");
        fs::write(place.path("texts.jsonl"), lines.collect::<String>()).expect("written");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        // Without links, as the system names files.
        let folder = self.temp.path().canonicalize().expect("there");
        folder.join(name)
    }

    fn arguments(&self, words: &[&str]) -> Vec<String> {
        let place = |name: &str| self.path(name).display().to_string();
        words
            .iter()
            .map(|word| {
                let word = word.replace("{model}", &place("model"));
                let word = word.replace("{text}", &place("text.txt"));
                let word = word.replace("{jsonl}", &place("texts.jsonl"));
                word.replace("{out}", &place("out"))
            })
            .collect()
    }

    /// The program with these arguments, in which `{model}`, `{text}` and `{out}` are places.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_massact"));
        offline(&mut command);
        command.args(self.arguments(words));
        command
    }

    /// As [`Place::command`], where call `number` in `folder` meets the fault.
    pub(crate) fn faulty(
        &self,
        words: &[&str],
        calls: Calls,
        folder: &str,
        number: usize,
        fault: &str,
    ) -> Faulty {
        let report = self.path("report");
        let mut command = Command::new(supervisor());
        offline(&mut command);
        let kind = match calls {
            Calls::Change => "change",
            Calls::Read => "read",
        };
        command
            .arg(&report)
            .arg(self.path(folder))
            .args([kind, &number.to_string(), fault])
            .arg(env!("CARGO_BIN_EXE_massact"))
            .args(self.arguments(words))
            .current_dir(self.temp.path());
        let done = run(&mut command);
        assert_ne!(done.code, Some(126), "supervise: {}", done.stderr);
        let report = fs::read_to_string(report).expect("a report");
        // Behind the count of calls.
        let met = report.trim_end().split_once(' ').map_or("", |both| both.1);
        Faulty {
            done,
            met: Some(met.to_owned()).filter(|met| !met.is_empty()),
        }
    }

    /// All that is in `folder`, hidden or not: the bytes of files, nothing of folders.
    pub(crate) fn content(&self, folder: &str) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, found);
                    found.insert(path, None);
                } else {
                    let bytes = fs::read(&path).expect("readable");
                    found.insert(path, Some(bytes));
                }
            }
        }
        let mut found = BTreeMap::new();
        let folder = self.path(folder);
        if folder.exists() {
            walk(&folder, &mut found);
            found.insert(folder, None);
        }
        found
    }
}

/// The runs that go through all that commands write.
pub(crate) const COMMANDS: [&[&str]; 7] = [
    &[
        "existence-validation",
        "--quiet",
        "--pretrained",
        "{model}",
        "--text-file",
        "{text}",
        "--context-length",
        "12",
        "--nsamples",
        "2",
        "--save-dir",
        "{out}",
    ],
    &[
        "tokens-analysis",
        "--quiet",
        "--no-figures",
        "--pretrained",
        "{model}",
        "--text-file",
        "{text}",
        "--context-length",
        "12",
        "--nsamples",
        "2",
        "--tables",
        "csv,latex",
        "--save-dir",
        "{out}",
    ],
    &[
        "intervention-analysis",
        "--quiet",
        "--no-figures",
        "--pretrained",
        "{model}",
        "--text-file",
        "{text}",
        "--context-length",
        "48",
        "--nsamples",
        "2",
        "--calibration-nsamples",
        "2",
        "--save-dir",
        "{out}",
    ],
    &[
        "capture",
        "--quiet",
        "--pretrained",
        "{model}",
        "--token-ids",
        "3,4,5,6",
        "--raw",
        "--attention",
        "heads",
        "--save-dir",
        "{out}",
    ],
    &[
        "profile",
        "--quiet",
        "--no-figures",
        "--pretrained",
        "{model}",
        "--token-ids",
        "3,4,5,6",
        "--save-dir",
        "{out}",
    ],
    &[
        "life",
        "--quiet",
        "--no-figures",
        "--pretrained",
        "{model}",
        "--token-ids",
        "3,4,5,6",
        "--save-dir",
        "{out}",
    ],
    &[
        "tvr",
        "--quiet",
        "--no-figures",
        "--pretrained",
        "{model}",
        "--out",
        "{out}/rescaled",
        "--save-dir",
        "{out}",
    ],
];

/// The error line of a run that ended with `code`: one line, which names what lies in `place` and, after a
/// semicolon, what to do.
#[track_caller]
pub(crate) fn assert_said(what: &str, faulty: &Faulty, code: i32, place: &Path) {
    let Done {
        code: found,
        stdout,
        stderr,
    } = &faulty.done;
    let what = format!("{what}, {:?}", faulty.met);
    assert_eq!(*found, Some(code), "{what}: {stderr}");
    assert_eq!(stdout, "", "{what}");
    let lines: Vec<&str> = stderr.lines().collect();
    let [line] = lines[..] else {
        panic!("{what}: {stderr}");
    };
    let place = place.to_str().expect("UTF-8");
    assert!(line.starts_with("massact: "), "{what}: {line}");
    assert!(line.contains(place), "{what}: {line}");
    assert!(line.contains("; "), "{what}: {line}");
}
