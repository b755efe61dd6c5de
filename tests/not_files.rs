//! What has a file's name and is none: pipes that nobody writes to, devices without an end, folders and links that
//! lead nowhere. Wherever the program reads it says so at once; where a pipe has its use, it can be stopped.
#![cfg(unix)]

mod support;

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{
    damage::copy,
    program::{Done, Running, massact, only_run, read_json, run, signal},
};

/// What is no file.
const KINDS: [(&str, &str); 4] = [
    ("pipe", "it is a pipe, not a file"),
    ("device", "it is a device, not a file"),
    ("folder", "it is a folder, not a file"),
    ("loop", "symbolic links"),
];

fn make(kind: &str, path: &Path) {
    match kind {
        "pipe" => {
            let made = Command::new("mkfifo").arg(path).status();
            assert!(made.expect("mkfifo runs").success());
        }
        "device" => symlink("/dev/zero", path).expect("linked"),
        "folder" => std::fs::create_dir(path).expect("a folder"),
        "loop" => symlink(path.file_name().expect("a name"), path).expect("linked"),
        _ => unreachable!("{kind}"),
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path).expect("removed"),
        Ok(_) => std::fs::remove_file(path).expect("removed"),
        Err(_) => {}
    }
}

fn start(command: &mut Command) -> Running {
    Running::start(command.stdin(Stdio::null()))
}

/// How it ended, which it must soon.
fn end(mut running: Running, what: &str) -> Done {
    let began = Instant::now();
    let child = running.0.as_mut().expect("not yet waited for");
    while child.try_wait().expect("a child").is_none() {
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(30), "{what}: no end");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.done()
}

#[track_caller]
fn assert_refused(what: &str, command: &mut Command, says: &str) {
    let done = end(start(command), what);
    assert!(
        matches!(done.code, Some(1 | 2)),
        "{what}: {:?} {}",
        done.code,
        done.stderr
    );
    let last = done.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(says), "{what}: {last}");
    assert!(last.contains("; "), "{what}: no remedy in {last}");
}

fn model(temp: &Path) -> PathBuf {
    let model = temp.join("model");
    copy("planted-llama", &model);
    model
}

#[test]
fn files_of_a_checkpoint() {
    let temp = tempfile::tempdir().expect("a folder");
    let model = model(temp.path());
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "adapter_config.json",
    ] {
        let path = model.join(name);
        let kept = std::fs::read(&path).ok();
        for (kind, says) in KINDS {
            remove(&path);
            make(kind, &path);
            let mut command = massact(["capture", "--text", "Summer is warm.", "--quiet"]);
            command.arg(&model).arg("--save-dir").arg(temp.path());
            // A folder or a pipe where the weights should be are no weights.
            let says = match (name, kind) {
                ("model.safetensors", _) => "model.safetensors",
                _ => says,
            };
            assert_refused(&format!("{name} as {kind}"), &mut command, says);
        }
        remove(&path);
        if let Some(kept) = kept {
            std::fs::write(&path, kept).expect("written");
        }
    }
}

#[test]
fn texts_plans_and_records() {
    let temp = tempfile::tempdir().expect("a folder");
    let model = model(temp.path());
    let path = |name: &str| temp.path().join(name);
    let done = path("done");
    std::fs::create_dir(&done).expect("a folder");
    for (kind, says) in KINDS {
        for name in ["rows.jsonl", "rows.parquet", "text.txt"] {
            if (name, kind) == ("text.txt", "pipe") {
                continue;
            }
            remove(&path(name));
            make(kind, &path(name));
            let mut command = massact(["existence-validation", "--context-length", "8"]);
            command.arg(&model).arg("--dataset").arg(path(name));
            command.arg("--save-dir").arg(path("out"));
            // Asked for by name before it is opened.
            let says = if kind == "folder" { "directory" } else { says };
            let says = if kind == "loop" { "no such file" } else { says };
            assert_refused(&format!("{name} as {kind}"), &mut command, says);
        }
        remove(&path("plan.toml"));
        make(kind, &path("plan.toml"));
        let mut plan = massact(["sweep", "plan"]);
        plan.arg(path("plan.toml")).arg("--dir").arg(path("sweep"));
        assert_refused(&format!("plan as {kind}"), &mut plan, says);

        std::fs::create_dir_all(path("sweep")).expect("a folder");
        remove(&path("sweep/manifest.jsonl"));
        make(kind, &path("sweep/manifest.jsonl"));
        for command in ["status", "run", "report"] {
            let mut sweep = massact(["sweep", command]);
            assert_refused(
                &format!("manifest as {kind}"),
                sweep.arg(path("sweep")),
                says,
            );
        }

        remove(&done.join("run.json"));
        make(kind, &done.join("run.json"));
        assert_refused(
            &format!("run.json as {kind}"),
            massact(["show"]).arg(&done),
            says,
        );
        remove(&done.join("run.json"));
        std::fs::write(done.join("run.json"), r#"{"command": "capture"}"#).expect("written");
        for (name, flags) in [("summary.txt", &[][..]), ("capture.json", &["--json"])] {
            remove(&done.join(name));
            make(kind, &done.join(name));
            let mut show = massact(["show"]);
            show.arg(&done).args(flags);
            assert_refused(&format!("{name} as {kind}"), &mut show, says);
        }
    }
}

/// Claims and ends are written by processes that may die meanwhile, so that one that cannot be read is none.
#[test]
fn records_of_a_sweeps_tasks() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temp.path().join(name);
    let plan =
        "[[model]]\npretrained = \"demo\"\n[[experiment]]\nname = \"existence-validation\"\n";
    std::fs::write(path("plan.toml"), plan).expect("written");
    let mut command = massact(["sweep", "plan"]);
    command
        .arg(path("plan.toml"))
        .arg("--dir")
        .arg(path("sweep"));
    run(&mut command).succeeded();
    let manifest = std::fs::read_to_string(path("sweep/manifest.jsonl")).expect("a manifest");
    let task: serde_json::Value = serde_json::from_str(manifest.trim()).expect("a task");
    let folder = path("sweep/tasks").join(task["id"].as_str().expect("an id"));
    for name in ["0001.claim", "0001.end"] {
        remove(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        make("pipe", &folder.join(name));
        let mut status = massact(["sweep", "status"]);
        status.arg(path("sweep"));
        let done = end(start(&mut status), name);
        assert_eq!(done.code, Some(0), "{name}: {}", done.stderr);
    }
}

/// As of a shell's `<(command)`.
#[test]
fn a_pipe_is_a_text() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = |name: &str| temp.path().join(name);
    make("pipe", &path("pipe"));
    let text = "Summer is warm. Winter is cold.\n";
    std::fs::write(path("text.txt"), text).expect("written");
    let ids = |from: &Path| {
        let out = path("out");
        let mut command = massact(["capture", "--quiet", "--context-length", "8", "--text-file"]);
        command.arg(from).arg("--save-dir").arg(&out);
        let running = start(&mut command);
        if from == path("pipe") {
            std::fs::write(from, text).expect("written");
        }
        let done = end(running, "a text");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let found = read_json(&only_run(&out).join("capture.json"));
        std::fs::remove_dir_all(&out).expect("removed");
        found["sequences"][0]["token_ids"].clone()
    };
    assert_eq!(ids(&path("pipe")), ids(&path("text.txt")));
}

#[test]
fn a_pipe_that_says_nothing_can_be_left() {
    let temp = tempfile::tempdir().expect("a folder");
    let pipe = temp.path().join("pipe");
    make("pipe", &pipe);
    let mut command = massact(["capture", "--text-file"]);
    command.arg(&pipe).arg("--save-dir").arg(temp.path());
    let mut running = start(&mut command);
    std::thread::sleep(Duration::from_millis(500));
    let child = running.0.as_mut().expect("not yet waited for");
    assert!(child.try_wait().expect("a child").is_none(), "no wait");
    signal("INT", child.id());
    let done = end(running, "Ctrl-C");
    assert_eq!(done.code, Some(3), "{}", done.stderr);
}
