//! The program in a shell: completions, manual pages, colours, what the environment sets, and finished
//! runs that are shown again.

mod support;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use support::program::{files, massact, only_run, read_json, run};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_finished_run_is_shown_again() {
    let temp = folder();
    let mut command = massact(["tokens-analysis", "--nsamples", "2", "--save-dir"]);
    let first = run(command.arg(temp.path())).succeeded();
    let place = only_run(temp.path());
    let again = run(massact(["show"]).arg(&place)).succeeded();
    assert_eq!(again.stdout, first.stdout);
    let json = run(massact(["show", "--json"]).arg(&place)).succeeded();
    let written = read_json(&place.join("tokens_analysis.json"));
    assert_eq!(json.json(), written);

    let wrong = run(massact(["show"]).arg(temp.path()));
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("give the folder of a finished run"));
}

/// What a run's folder holds may have been changed by anybody, before it is shown on a terminal.
#[test]
fn a_damaged_run_is_not_shown() {
    let temp = folder();
    let place = temp.path().join("run");
    std::fs::create_dir(&place).expect("a folder");
    std::fs::write(temp.path().join("secret.json"), "{\"secret\": 1}").expect("writes");
    let write = |name: &str, bytes: &[u8]| std::fs::write(place.join(name), bytes).expect("writes");
    let show = |flags: &[&str]| run(massact(["show"]).args(flags).arg(&place));
    let deep = "[".repeat(100_000);
    write("capture.json", b"{\"a\": 1}");
    for record in [
        "{",
        "[]",
        "{}",
        r#"{"command": 5}"#,
        r#"{"command": "../secret"}"#,
        r#"{"command": ""}"#,
        &deep,
    ] {
        write("run.json", record.as_bytes());
        for flags in [&[][..], &["--json"]] {
            let damaged = show(flags);
            assert_eq!(damaged.code, Some(1), "{record:.40}");
            let said = &damaged.stderr;
            assert!(said.contains("run it again"), "{record:.40}: {said}");
            assert_eq!(damaged.stdout, "");
        }
    }
    write(
        "run.json",
        br#"{"command": "capture", "notices": ["a\u001b[31mb"]}"#,
    );
    for document in [
        &b""[..],
        b"{\"a\": ",
        b"\"\xff\"",
        b"\"\x1b\"",
        deep.as_bytes(),
    ] {
        write("capture.json", document);
        let damaged = show(&["--json"]);
        assert_eq!((damaged.code, damaged.stdout.as_str()), (Some(1), ""));
    }
    write("capture.json", "{\"a\": \"\u{202e}é\"}\n".as_bytes());
    assert_eq!(show(&["--json"]).stdout, "{\"a\": \"\\u202eé\"}\n");
    write("summary.txt", "one\u{1b}[31m\n\ntwo".as_bytes());
    let shown = show(&[]);
    assert_eq!(shown.stdout, "one\\x1b[31m\n\ntwo");
    assert!(shown.stderr.contains("a\\x1b[31mb"), "{}", shown.stderr);
}

#[test]
fn the_environment_names_folder_and_device_and_flags_have_the_last_word() {
    let temp = folder();
    let (here, there) = (temp.path().join("here"), temp.path().join("there"));
    let analysis = ["tokens-analysis", "--nsamples", "2", "--print-folder"];
    let mut command = massact(analysis);
    let told = run(command.env("MASSACT_SAVE_DIR", &here)).succeeded();
    assert_eq!(Path::new(told.stdout.trim_end()), only_run(&here));
    let mut command = massact(analysis);
    command.env("MASSACT_SAVE_DIR", &here).arg("--save-dir");
    let told = run(command.arg(&there)).succeeded();
    assert_eq!(Path::new(told.stdout.trim_end()), only_run(&there));

    let mut command = massact(analysis);
    command.env("MASSACT_SAVE_DIR", &here);
    let refused = run(command.env("MASSACT_DEVICE", "cuda"));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--device cpu"),
        "{}",
        refused.stderr
    );
}

#[test]
fn figures_are_left_out_on_request() {
    let temp = folder();
    let flags = ["tokens-analysis", "--nsamples", "2", "--no-figures"];
    let mut command = massact(flags);
    run(command.arg("--save-dir").arg(temp.path())).succeeded();
    let names = files(&only_run(temp.path()));
    let is_figure = |name: &&String| {
        [".svg", ".png", ".pdf"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    assert_eq!(names.iter().find(is_figure), None);
    assert!(names.contains(&"report.html".to_owned()), "{names:?}");
}

#[test]
fn colours_are_where_they_are_wanted() {
    let coloured = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = massact(["models"]);
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CLICOLOR"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).args(flags);
        run(&mut command).succeeded().stdout.contains('\u{1b}')
    };
    assert!(!coloured(&[], &[]), "a pipe");
    assert!(coloured(&[], &["--color", "always"]));
    assert!(coloured(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1")], &["--color", "never"]));
    assert!(!coloured(
        &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
        &[]
    ));
    assert!(coloured(&[("NO_COLOR", "1")], &["--color=always"]));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&mut massact(["completions", shell])).succeeded().stdout;
        for word in ["tokens-analysis", "context-length"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let temp = folder();
    run(massact(["completions", "--man"]).arg(temp.path())).succeeded();
    let pages = files(temp.path());
    for page in ["massact.1", "massact-existence-validation.1"] {
        assert!(pages.contains(&page.to_owned()), "{pages:?}");
    }
    let page = std::fs::read_to_string(temp.path().join("massact-capture.1")).expect("a page");
    assert!(page.contains("\\-\\-token\\-ids"), "{page}");
}

/// Several texts, one from standard input, and every site.
#[test]
fn captures_of_several_texts() {
    let temp = folder();
    let texts = ["--text", "Summer is warm.", "--text=- a, b"];
    let mut command = massact([
        "capture",
        "--json",
        "--sites",
        "all",
        "--raw",
        "--top-tokens",
        "3",
    ]);
    command.args(texts).arg("--save-dir").arg(temp.path());
    let document = run(&mut command).succeeded().json();
    let sequences = document["sequences"].as_array().expect("sequences");
    assert_eq!(sequences.len(), 2);
    assert_eq!(sequences[1]["tokens"][0], "<s>");
    let top = sequences[0]["top_tokens"].as_array().expect("tokens");
    let probabilities: Vec<f64> = top
        .iter()
        .map(|token| token["probability"].as_f64().expect("a number"))
        .collect();
    assert_eq!(probabilities.len(), 3);
    assert!(probabilities.is_sorted_by(|a, b| a >= b));
    // The demo has neither a gate on attention nor experts.
    let sites = document["sites"].as_array().expect("sites");
    assert_eq!(sites.len(), 15, "{sites:?}");

    // The tensors' file is enough by itself.
    let bytes = std::fs::read(only_run(temp.path()).join("capture.safetensors")).expect("tensors");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let said = header.metadata().as_ref().expect("metadata");
    let ids: serde_json::Value = serde_json::from_str(&said["token_ids"]).expect("JSON");
    assert_eq!(ids[0], sequences[0]["token_ids"]);
    assert_eq!(ids[1], sequences[1]["token_ids"]);

    let all = run(&mut massact([
        "capture",
        "--json",
        "--token-ids",
        "1,2",
        "--last-logits",
        "1000000",
        "--top-tokens",
        "1",
        "--save-dir",
        temp.path().join("ids").to_str().expect("a path"),
    ]));
    let document = all.succeeded().json();
    let sequence = &document["sequences"][0];
    let logits: Vec<f64> = sequence["last_logits"]
        .as_array()
        .expect("logits")
        .iter()
        .map(|logit| logit.as_f64().expect("a number"))
        .collect();
    let best = &sequence["top_tokens"][0];
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(best["logit"].as_f64(), Some(largest));
    let id = best["token_id"].as_u64().expect("an id") as usize;
    assert_eq!(logits[id], largest);
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    let expected = largest.exp() / sum;
    let found = best["probability"].as_f64().expect("a number");
    assert!((found / expected - 1.0).abs() < 1e-6, "{found}, {expected}");
}

#[cfg(unix)]
#[test]
fn a_text_from_standard_input() {
    let temp = folder();
    let mut command = massact([
        "capture",
        "--text-file",
        "-",
        "--context-length",
        "3",
        "--json",
    ]);
    command.arg("--save-dir").arg(temp.path());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(b"Summer is warm.").expect("writes");
    drop(input);
    let done = support::program::Done::of(child.wait_with_output().expect("ends"));
    let document = done.succeeded().json();
    assert_eq!(document["sequences"][0]["tokens"][1], "S");
}
