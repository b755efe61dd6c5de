//! What a refusal says beside its reason: the name that was meant, where one is near, and nothing that steers
//! the terminal it is read on, whatever foreign files and arguments hold.

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;
mod support;

use std::path::Path;

use loopback::{Content, Server};
use support::damage::{Parts, changed, copy, edit_json};
use support::program::{Done, massact, run};

/// Runs it in a folder with a checkpoint in `models/llama`, a text, a plan and items.
fn beside(arguments: &[&str]) -> Done {
    let temp = tempfile::tempdir().expect("a folder");
    copy("planted-llama", &temp.path().join("models/llama"));
    for (name, text) in [
        ("corpus.txt", "words"),
        ("corpus.jsonl", "{\"text\": \"words\"}"),
        ("plan.toml", ""),
    ] {
        std::fs::write(temp.path().join(name), text).expect("written");
    }
    run(massact(arguments).current_dir(temp.path()))
}

fn last_line(done: &Done) -> &str {
    done.stderr.lines().last().unwrap_or_default()
}

#[test]
fn the_nearest_name_is_suggested() {
    for (arguments, code, meant) in [
        (
            &["capture", "--sites", "layer_ouput"][..],
            2,
            "layer_output",
        ),
        (
            &["existence-validation", "--dataset", "buitlin"],
            2,
            "builtin",
        ),
        (
            &["existence-validation", "--dataset", "wikitex"],
            2,
            "wikitext",
        ),
        (
            &["intervention-analysis", "--tasks", "helaswag"],
            2,
            "hellaswag",
        ),
        (
            &["intervention-analysis", "--tasks", "arc-easy"],
            2,
            "arc_easy",
        ),
        (&["capture", "dmeo"], 1, "demo"),
        (&["capture", "demo-unamplifed"], 1, "demo-unamplified"),
        (&["reproduce", "--dry-run", "--models", "gpt-2"], 2, "gpt2"),
        (
            &[
                "reproduce",
                "--dry-run",
                "--models",
                "meta-llama/Llama-2-7B",
            ],
            2,
            "meta-llama/Llama-2-7b-hf",
        ),
        (&["capture", "./models/lama"], 1, "./models/llama"),
        (&["capture", "modles/llama"], 1, "models/llama"),
        (&["capture", "--adapter", "models/lama"], 1, "models/llama"),
        (&["capture", "--text-file", "copus.txt"], 1, "corpus.txt"),
        (&["capture", "--dataset", "corpsu.jsonl"], 1, "corpus.jsonl"),
        (
            &["intervention-analysis", "--task", "a=corpus.json"],
            1,
            "corpus.jsonl",
        ),
        (
            &["sweep", "plan", "--dir", "out", "plann.toml"],
            2,
            "plan.toml",
        ),
    ] {
        let done = beside(arguments);
        let asked = format!("did you mean `{}", meant.trim_end_matches('/'));
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.stderr);
        let said = last_line(&done);
        // What helps where another name was meant still stands.
        assert!(said.contains(&asked), "{arguments:?}: {said}");
        assert!(said.contains("`? else "), "{arguments:?}: {said}");
    }
}

#[test]
fn a_name_that_is_not_near_is_not() {
    for arguments in [
        &["capture", "--sites", "router"][..],
        &["existence-validation", "--dataset", "imdb"],
        &["intervention-analysis", "--tasks", "mmlu"],
        &["capture", "owner/other"],
        &["capture", "./models/gemma"],
        &["capture", "--text-file", "other.txt"],
        // It is there, and wrong otherwise.
        &["capture", "models"],
    ] {
        let done = beside(arguments);
        assert_ne!(done.code, Some(0), "{arguments:?}");
        assert!(!done.stderr.contains("did you mean"), "{}", done.stderr);
    }
}

/// Only where the hub says that it has no such name: offline it is as likely the right one.
#[test]
fn ids_of_the_hub() {
    let server = Server::start(Content::default());
    let said = |id: &str, online: bool| {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["capture", id]);
        command.current_dir(temp.path()).env("HF_HOME", temp.path());
        if online {
            command
                .env_remove("HF_HUB_OFFLINE")
                .env("HF_ENDPOINT", server.endpoint());
        }
        let done = run(&mut command);
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        last_line(&done).to_owned()
    };
    let asked = "did you mean `openai-community/gpt2`? else check the name";
    let slip = "openai-comunity/gpt2";
    assert!(said(slip, true).contains(asked), "{}", said(slip, true));
    assert!(!said(slip, false).contains("did you mean"));
    assert!(said("dmeo", false).contains("did you mean `demo`?"));
    let known = said("openai-community/gpt2", true);
    assert!(!known.contains("did you mean"), "{known}");
}

/// Turns what follows red, sets the window's title, and reverses the text.
const STEERING: &str = "\u{1b}[31m\u{1b}]0;x\u{7}\u{202e}\u{2066}\u{9b}2J\u{200f}";

/// A refusal that shows the text, and that a terminal shows as it is.
#[track_caller]
fn assert_shown(what: &str, done: &Done) {
    assert_ne!(done.code, Some(0), "{what}");
    assert!(
        done.stderr.contains("\\x1b[31m"),
        "{what}: {:?}",
        done.stderr
    );
    assert!(
        done.stderr.contains("\\u{202e}"),
        "{what}: {:?}",
        done.stderr
    );
    let steers = |c: char| c.is_control() && c != '\n' || STEERING.contains(c) && !c.is_ascii();
    assert!(!done.stderr.contains(steers), "{what}: {:?}", done.stderr);
}

fn capture(folder: &Path) -> Done {
    run(massact(["capture", "--token-ids", "1,5"]).arg(folder))
}

#[test]
fn what_steers_a_terminal_is_escaped() {
    let hostile = format!("lla{STEERING}ma");
    let folder = changed("planted-llama", |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config.insert("model_type".into(), hostile.clone().into());
        });
    });
    assert_shown("model_type", &capture(folder.path()));

    let folder = changed("planted-llama", |folder| {
        let path = folder.join("model.safetensors");
        let mut parts = Parts::read(&path);
        let tensor = parts.header.remove("model.norm.weight").expect("there");
        let layer = format!("model.layers.0.{STEERING}.bias");
        parts.header.insert(layer, tensor);
        std::fs::write(&path, parts.bytes()).expect("written");
    });
    let done = capture(folder.path());
    println!("{}", done.stderr);
    assert!(
        !done.stderr.contains(['\u{1b}', '\u{202e}']),
        "{:?}",
        done.stderr
    );

    let place = tempfile::tempdir().expect("a folder");
    assert_shown("a path", &capture(&place.path().join(&hostile)));
    for arguments in [
        &["capture", "--sites"][..],
        &["existence-validation", "--dataset"],
        &["intervention-analysis", "--tasks"],
        // These are refused by what reads the arguments.
        &["capture", "--label"],
        &["existence-validation", "--nsamples"],
        &["capture", "--dtype"],
    ] {
        let done = run(massact(arguments).arg(&hostile));
        assert_shown(&arguments.join(" "), &done);
    }
    let command = run(&mut massact([&hostile]));
    assert_shown("a command", &command);
    // The lines of our own messages stay.
    assert!(command.stderr.lines().count() > 2, "{}", command.stderr);
}

/// A manifest may be anybody's.
#[test]
fn what_steers_a_terminal_is_escaped_in_a_sweeps_status() {
    let place = tempfile::tempdir().expect("a folder");
    let task = serde_json::json!({
        "id": "abc1", "command": "capture", "arguments": ["--site", "none"],
        "model": STEERING, "settings": {STEERING: STEERING},
    });
    std::fs::write(place.path().join("manifest.jsonl"), format!("{task}\n")).expect("written");
    let sweep = |command: &str| run(massact(["sweep", command]).arg(place.path()));
    assert_ne!(sweep("run").code, Some(0));
    let status = sweep("status");
    assert!(status.stdout.contains("\\x1b[31m"), "{:?}", status.stdout);
    let steers = |c: char| c.is_control() && c != '\n' || STEERING.contains(c) && !c.is_ascii();
    assert!(!status.stdout.contains(steers), "{:?}", status.stdout);
}

#[test]
fn what_has_no_end_is_cut() {
    let long = "x".repeat(3_000_000);
    let folder = changed("planted-llama", |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config.insert("model_type".into(), long.clone().into());
        });
    });
    let word = ",".repeat(100_000);
    for done in [
        capture(folder.path()),
        run(&mut massact(["capture", "--token-ids", &word])),
        run(&mut massact(["capture", "--dtype", &word])),
    ] {
        assert!(matches!(done.code, Some(1 | 2)), "{:?}", done.code);
        assert!(done.stderr.len() < 6000, "{} bytes", done.stderr.len());
        assert!(done.stderr.contains(" … "), "{}", done.stderr);
    }
}

#[test]
fn help_and_refusals_of_arguments_have_their_places() {
    let help = run(&mut massact(["--help"])).succeeded();
    assert!(help.stdout.contains("Usage") && help.stderr.is_empty());
    let refused = run(&mut massact(["capture", "--nsampels", "3"]));
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    assert!(refused.stderr.contains("--nsamples"), "{}", refused.stderr);
    let sound = beside(&["capture", "--token-ids", "1,5", "models/llama"]);
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
}
