//! The real program: runs it and looks at what it leaves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A finished run.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }

    /// Fails the test unless the exit code is 0.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// What stdout holds: exactly one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("stdout is no JSON ({error}): {}", self.stdout))
    }
}

/// A process that does not outlive a test that fails.
pub(crate) struct Running(pub(crate) Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().expect("the program starts")))
    }

    /// Waits for its end.
    pub(crate) fn done(mut self) -> Done {
        let child = self.0.take().expect("not yet waited for");
        Done::of(child.wait_with_output().expect("ends"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program, away from the user's caches, tokens, cards and the network.
pub(crate) fn massact<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_massact"));
    offline(&mut command);
    command.args(arguments);
    command
}

/// Takes the user's settings of the hub out of a command's environment.
pub(crate) fn offline(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HF_") {
            command.env_remove(name);
        }
    }
    command
        // A card would compute in another type.
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("HF_HUB_OFFLINE", "1")
        .env(
            "HF_HOME",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-hub"),
        )
        .stdin(Stdio::null());
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Done {
    Done::of(command.output().expect("the program starts"))
}

/// Sends a program a signal, such as `INT`, which is Ctrl-C.
#[cfg(unix)]
#[track_caller]
pub(crate) fn signal(name: &str, process: u32) {
    let sent = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status();
    assert!(sent.expect("kill runs").success(), "{name}");
}

/// The folder of a committed checkpoint.
pub(crate) fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/checkpoints")
        .join(name)
}

/// All files below `folder` (none if there is no such folder), relative to it, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let relative = path.strip_prefix(root).expect("below the root");
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

/// The only folder `<save-dir>/<model>/<run>`.
pub(crate) fn only_run(save_dir: &Path) -> PathBuf {
    let mut place = save_dir.to_owned();
    for _ in 0..2 {
        let inside: Vec<PathBuf> = std::fs::read_dir(&place)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert_eq!(inside.len(), 1, "{inside:?}");
        place.clone_from(&inside[0]);
    }
    place
}

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// capture of three ids.
pub(crate) fn capture(folder: &Path, save_dir: &Path) -> Done {
    let arguments = ["capture", "--token-ids", "1,5,7", "--nll", "--pretrained"];
    let mut command = massact(arguments);
    command.arg(folder).arg("--save-dir").arg(save_dir);
    run(&mut command)
}
