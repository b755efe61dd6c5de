//! Sweeps whose models come from the hub.

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/program.rs"]
mod program;

use std::fs;
use std::process::Command;

use loopback::{Content, Server};
use program::{checkpoint, massact, run};
use tempfile::TempDir;

const NAMES: [&str; 3] = ["owner/a", "owner/b", "owner/c"];

const FILES: [&str; 4] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
];

fn content() -> Content {
    let folder = checkpoint("planted-llama");
    let mut content = Content::default();
    for name in NAMES {
        for file in FILES {
            let body = fs::read(folder.join(file)).expect("there");
            content = content.file(name, file, body);
        }
    }
    content
}

struct Place {
    server: Server,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = checkpoint("planted-llama").join("text.txt");
        fs::copy(text, folder.path().join("text.txt")).expect("copied");
        let mut plan = String::from("[defaults]\ncontext_length = 32\ntext_file = \"text.txt\"\n");
        for name in NAMES {
            plan.push_str(&format!("[[model]]\npretrained = \"{name}\"\n"));
        }
        plan.push_str("[[experiment]]\nname = \"existence-validation\"\n");
        plan.push_str("[[experiment]]\nname = \"tokens-analysis\"\n");
        fs::write(folder.path().join("plan.toml"), plan).expect("written");
        Self {
            server: Server::start(content()),
            folder,
        }
    }

    fn massact(&self, arguments: &[&str]) -> Command {
        let mut command = massact(arguments);
        command
            .current_dir(self.folder.path())
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("HF_HOME", self.folder.path().join("home"));
        command
    }

    fn weights(&self, name: &str) -> bool {
        let repo = format!("models--{}", name.replace('/', "--"));
        let snapshots = self
            .folder
            .path()
            .join("home/hub")
            .join(repo)
            .join("snapshots");
        fs::read_dir(snapshots)
            .into_iter()
            .flatten()
            .flatten()
            .any(|commit| commit.path().join("model.safetensors").is_file())
    }
}

#[test]
fn says_what_is_to_be_downloaded_and_removes_what_it_has_brought() {
    let place = Place::new();
    // One that somebody has had before.
    let mine = [
        "existence-validation",
        "owner/b",
        "--dataset",
        "builtin",
        "--context-length",
        "16",
    ];
    run(&mut place.massact(&mine)).succeeded();
    let planned =
        run(&mut place.massact(&["sweep", "plan", "plan.toml", "--dir", "out"])).succeeded();
    assert!(
        planned.stdout.contains("GB in 2 models"),
        "{}",
        planned.stdout
    );
    let line = ["sweep", "run", "out", "--max-cache-gb", "0"];
    let done = run(&mut place.massact(&line)).succeeded();
    assert!(done.stderr.contains("6 done"), "{}", done.stderr);
    assert_eq!(
        NAMES.map(|name| place.weights(name)),
        [false, true, false],
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("owner/a: removed from the cache"),
        "{}",
        done.stderr
    );
    // Each came once, though two tasks wanted it.
    for name in ["owner/a", "owner/c"] {
        let path = format!("/cdn/{name}/");
        let asked = place.server.requests();
        let asked = asked.iter().filter(|request| {
            request.path.starts_with(&path)
                && request.path.ends_with("model.safetensors")
                && request.method == "GET"
        });
        assert_eq!(asked.count(), 1, "{name}");
    }
}

#[test]
fn keeps_them_unless_told_and_within_the_limit() {
    let place = Place::new();
    run(&mut place.massact(&["sweep", "plan", "plan.toml", "--dir", "out"])).succeeded();
    run(&mut place.massact(&["sweep", "run", "out", "--max-cache-gb", "1"])).succeeded();
    assert_eq!(NAMES.map(|name| place.weights(name)), [true; 3]);
}

#[test]
fn processes_that_want_the_same_model_wait_for_each_other() {
    let place = Place::new();
    run(&mut place.massact(&["sweep", "plan", "plan.toml", "--dir", "out"])).succeeded();
    let done = run(&mut place.massact(&["sweep", "run", "out", "--jobs", "3"])).succeeded();
    assert!(
        done.stderr.contains("6 done, 0 running, 0 failed"),
        "{}",
        done.stderr
    );
}
