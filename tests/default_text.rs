//! What is read where nobody names a text, what is said of it, and what a download is announced with.

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;
mod support;

use std::path::Path;
use std::process::Command;

use loopback::{Content, Server};
use serde_json::json;
use support::program::{Done, checkpoint, massact, only_run, read_json, run};

/// A command on a checkpoint that is no demo, on windows of 32 tokens.
fn command(name: &str, more: &[&str], out: &Path) -> Command {
    let mut command = massact([name, "--pretrained"]);
    command
        .arg(checkpoint("planted-llama"))
        .args(["--context-length", "32"])
        .args(more)
        .arg("--save-dir")
        .arg(out);
    command
}

#[track_caller]
fn says(done: &Done, parts: &[&str]) {
    for part in parts {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn the_built_in_text_where_it_has_enough_windows() {
    let temp = tempfile::tempdir().expect("a folder");
    for name in [
        "existence-validation",
        "tokens-analysis",
        "top-activation-magnitude",
    ] {
        let out = temp.path().join(name);
        let done = run(&mut command(name, &["--nsamples", "3"], &out)).succeeded();
        says(
            &done,
            &[
                "no --dataset or --text-file",
                "the built-in text",
                "redpajama",
            ],
        );
        let record = read_json(&only_run(&out).join("run.json"));
        assert_eq!(record["settings"]["dataset"], "builtin");
        assert_eq!(
            record["settings"]["text"]["note"],
            "chosen by massact: the built-in text"
        );
    }
    let demo = run(massact(["existence-validation", "--save-dir"]).arg(temp.path().join("demo")));
    assert!(
        !demo.succeeded().stderr.contains("--dataset"),
        "its own text"
    );
}

#[test]
fn wikitext_where_the_built_in_text_is_too_short() {
    let temp = tempfile::tempdir().expect("a folder");
    let many = ["--nsamples", "100000"];
    let done = run(&mut command("tokens-analysis", &many, temp.path()));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    says(
        &done,
        &[
            "the test split of wikitext, because the built-in text has",
            "windows of 32 tokens, not 100000",
            "HF_HUB_OFFLINE",
            "without network give --text-file or --dataset builtin",
        ],
    );
    let mut compare = massact(["compare", "--nsamples", "60000", "--context-length", "32"]);
    compare
        .arg(checkpoint("planted-llama"))
        .arg("--save-dir")
        .arg(temp.path());
    let done = run(&mut compare);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    says(&done, &["wikitext", "not 120000", "--dataset builtin"]);
}

#[test]
fn compare_without_a_text_needs_no_network() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut compare = massact(["compare", "--nsamples", "2", "--context-length", "32"]);
    compare
        .args(["--experiments", "existence", "--json"])
        .arg(checkpoint("planted-llama"))
        .arg("--save-dir")
        .arg(temp.path());
    let done = run(&mut compare).succeeded();
    says(&done, &["the built-in text"]);
    assert_eq!(done.json()["dataset"], "builtin");
}

/// With a text of one's own no set is downloaded.
#[test]
fn interventions_are_evaluated_on_the_text_that_is_given() {
    let temp = tempfile::tempdir().expect("a folder");
    let text = checkpoint("planted-llama").join("text.txt");
    let text = text.to_str().expect("UTF-8");
    let small = ["--nsamples", "2", "--calibration-nsamples", "3", "--json"];
    let result = |more: &[&str], out: &str| {
        let more = [&small, more].concat();
        run(&mut command(
            "intervention-analysis",
            &more,
            &temp.path().join(out),
        ))
        .succeeded()
    };
    let eval = format!("text={text}");
    let said = result(&["--text-file", text, "--eval", &eval], "said");
    for (flag, out) in [("--text-file", "file"), ("--dataset", "dataset")] {
        let unsaid = result(&[flag, text], out);
        says(&unsaid, &["no --eval", text]);
        assert_eq!(unsaid.json()["perplexity"], said.json()["perplexity"]);
        assert_eq!(unsaid.json()["evaluation"], said.json()["evaluation"]);
    }
    let done = result(&["--dataset", "builtin"], "builtin");
    assert_eq!(done.json()["evaluation"][0]["name"], "builtin");
    // Without any text the published sets are wanted, which need the network.
    let done = run(&mut command(
        "intervention-analysis",
        &small,
        &temp.path().join("none"),
    ));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    says(
        &done,
        &["Salesforce/wikitext", "--eval NAME=FILE", "--eval builtin"],
    );
}

#[test]
fn the_papers_corpus_is_announced_once() {
    let temp = tempfile::tempdir().expect("a folder");
    let redpajama = massact::data::datasets::find("redpajama").expect("in the table");
    let content = redpajama
        .files
        .iter()
        .fold(Content::default(), |content, file| {
            let lines: String = (0..60)
                .map(|row| {
                    json!({"text": format!("Document {row} of {}.", file.prefix)}).to_string()
                        + "\n"
                })
                .collect();
            content.file(&format!("datasets/{}", redpajama.repo), file.prefix, lines)
        });
    let server = Server::start(content);
    let read = |out: &str| {
        let small = ["--dataset", "redpajama", "--nsamples", "2"];
        let mut command = command("existence-validation", &small, &temp.path().join(out));
        command
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", server.endpoint())
            .env("HF_HOME", temp.path().join("hub"));
        run(&mut command).succeeded()
    };
    says(&read("first"), &["redpajama: a download of 5 GB"]);
    let second = read("second");
    assert!(!second.stderr.contains("download"), "{}", second.stderr);
}
