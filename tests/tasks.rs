//! Downstream accuracy through the real program, against the lm-eval package (`tools/make_tasks`).

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use support::program::{Done, massact, only_run, read_json, run};
use support::schema::assert_valid;

/// In nats, for an answer of any length.
const TOLERANCE: f64 = 1e-4;

/// The sets that a harness has.
const NAMED: [&str; 8] = [
    "hellaswag",
    "piqa",
    "social_iqa",
    "winogrande",
    "truthfulqa_mc1",
    "truthfulqa_mc2",
    "arc_easy",
    "arc_challenge",
];

fn items(name: &str) -> PathBuf {
    let file = name.split("_mc").next().expect("a name");
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tasks")
        .join(format!("{file}.jsonl"))
}

fn reference() -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tasks");
    read_json(&folder.join("reference.json"))
}

/// The demo on windows of the built-in text; `tasks` are arguments.
fn command<S: AsRef<std::ffi::OsStr>>(save_dir: &Path, tasks: &[S]) -> Command {
    let mut command = massact([
        "intervention-analysis",
        "--json",
        "--dataset",
        "builtin",
        "--context-length",
        "128",
        "--nsamples",
        "4",
        "--calibration-nsamples",
        "4",
        "--eval",
    ]);
    let windows = Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE-MIT");
    command
        .arg(format!("text={}", windows.display()))
        .arg("--save-dir")
        .arg(save_dir)
        .args(tasks);
    command
}

fn local(names: &[&str]) -> Vec<String> {
    let argument = |name: &&str| format!("--task={name}={}", items(name).display());
    names.iter().map(argument).collect()
}

/// The lines of a run's items.
fn lines(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("task_items.jsonl")).expect("items");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn first_largest(values: &[f64]) -> usize {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values
        .iter()
        .position(|value| *value == best)
        .expect("some")
}

#[track_caller]
fn assert_close(ours: &Value, theirs: &Value, what: &str) {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(ours), Some(theirs)) => {
            assert!(
                (ours - theirs).abs() <= TOLERANCE,
                "{what}: {ours}, {theirs}"
            );
        }
        _ => assert_eq!(ours, theirs, "{what}"),
    }
}

#[track_caller]
fn assert_likelihoods(ours: &Value, theirs: &Value, what: &str) {
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(
            (ours - theirs).abs() <= TOLERANCE,
            "{what}: {ours}, {theirs}"
        );
    }
}

/// Every choice's likelihood, every answer, accuracies and standard errors.
fn agrees(document: &Value, lines: &[Value], convention: &str, names: &[&str]) {
    assert_valid("intervention_analysis", document);
    let known = &reference()[convention];
    let tasks = document["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), names.len());
    for (task, name) in tasks.iter().zip(names) {
        assert_eq!(
            (&task["name"], &task["convention"]),
            (&json!(name), &json!(convention))
        );
        let (ours, theirs) = (&task["accuracy"]["original"], &known[name]);
        for key in ["acc", "acc_stderr", "acc_norm", "acc_norm_stderr"] {
            assert_close(
                &ours[key],
                &theirs[key],
                &format!("{convention} {name} {key}"),
            );
        }
        let theirs = theirs["items"].as_array().expect("items");
        let own = lines.iter().filter(|line| line["task"] == *name);
        let own: Vec<&Value> = own.collect();
        assert_eq!(own.len(), theirs.len());
        assert_eq!(task["items"], theirs.len());
        for (line, theirs) in own.iter().zip(theirs) {
            let what = format!("{convention} {name} {}", line["row"]);
            let ours = &line["results"]["original"];
            assert_likelihoods(&ours["log_likelihoods"], &theirs["log_likelihoods"], &what);
            let chosen = first_largest(&numbers(&theirs["log_likelihoods"]));
            assert_eq!(ours["chosen"], chosen, "{what}");
            assert_close(&ours["acc"], &theirs["acc"], &what);
            assert_close(&ours["acc_norm"], &theirs["acc_norm"], &what);
        }
    }
}

#[test]
fn as_lm_eval_has_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let names = [&NAMED[..], &["own"]].concat();
    let done = run(&mut command(temp.path(), &local(&names))).succeeded();
    let folder = only_run(temp.path());
    let document = done.json();
    agrees(&document, &lines(&folder), "lm-eval", &names);
    // The demo's tokenizer adds no BOS, and there its massive activations are.
    assert!(
        done.stderr.contains("--task-add-bos-token true"),
        "{}",
        done.stderr
    );

    let record = read_json(&folder.join("run.json"));
    assert_valid("run", &record);
    let inputs = record["inputs"].as_array().expect("inputs");
    for name in names {
        let file = items(name);
        let hash = blake3::hash(&fs::read(&file).expect("there"))
            .to_hex()
            .to_string();
        let known = inputs.iter().any(|input| {
            input["path"] == file.to_str().expect("UTF-8") && input.to_string().contains(&hash)
        });
        assert!(known, "{name} is no input: {inputs:?}");
    }
    assert_eq!(
        document["tasks_mean"]["original"]["acc"]
            .as_f64()
            .map(f64::is_finite),
        Some(true)
    );
    let page = fs::read_to_string(folder.join("report.html")).expect("a page");
    assert!(page.contains("Downstream accuracy") && page.contains("truthfulqa_mc2"));
    let parquet = fs::read(folder.join("task_items.parquet")).expect("a table");
    assert!(parquet.starts_with(b"PAR1"));
}

#[test]
fn as_lighteval_has_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut arguments = local(&NAMED);
    arguments.push("--task-convention=lighteval".to_owned());
    let done = run(&mut command(temp.path(), &arguments)).succeeded();
    agrees(
        &done.json(),
        &lines(&only_run(temp.path())),
        "lighteval",
        &NAMED,
    );
}

#[test]
fn zeros_change_what_the_answers_are_worth() {
    let temp = tempfile::tempdir().expect("a folder");
    let names = ["hellaswag", "winogrande", "piqa"];
    let mut arguments = local(&names);
    arguments.push("--task-add-bos-token=true".to_owned());
    let done = run(&mut command(temp.path(), &arguments)).succeeded();
    let (document, known) = (done.json(), &reference()["with_bos"]);
    assert_eq!(document["first_layer"], known["first_layer"]);
    assert_eq!(document["dimensions"], known["dimensions"]);
    let mut changed: f64 = 0.0;
    for line in lines(&only_run(temp.path())) {
        let item = line["item"].as_u64().expect("a number") as usize;
        let name = line["task"].as_str().expect("a name");
        let of = |intervention: &str| &line["results"][intervention]["log_likelihoods"];
        for intervention in ["original", "set_to_zero"] {
            let theirs = &known[intervention][name][item];
            assert_likelihoods(
                of(intervention),
                theirs,
                &format!("{name} {item} {intervention}"),
            );
        }
        for (before, after) in numbers(of("original"))
            .iter()
            .zip(numbers(of("set_to_zero")))
        {
            changed = changed.max((before - after).abs());
        }
    }
    assert!(changed > 1.0, "{changed}");
    for task in document["tasks"].as_array().expect("tasks") {
        assert_eq!(
            task["accuracy"]["set_to_zero"]["choices_treated"],
            task["choices"]
        );
        assert_eq!(task["accuracy"]["original"]["choices_treated"], 0);
    }
    assert!(
        !done.stderr.contains("--task-add-bos-token"),
        "{}",
        done.stderr
    );
}

/// The numbers of the windows are those without tasks, and so is the folder's name.
#[test]
fn the_windows_numbers_stay() {
    let temp = tempfile::tempdir().expect("a folder");
    let (with, without) = (temp.path().join("with"), temp.path().join("without"));
    let some = [local(&["piqa"]), vec!["--limit=3".to_owned()]].concat();
    let with = run(&mut command(&with, &some)).succeeded().json();
    let without = run(&mut command::<&str>(&without, &[])).succeeded().json();
    assert_eq!(with["tasks"][0]["items"], 3);
    assert_eq!(without.get("tasks"), None);
    assert_eq!(without.get("task_sets"), None);
    let pairs = |document: &Value| -> Vec<(String, f64)> {
        let sets = document["nll"].as_object().expect("an object");
        let of = |value: &Value| value["text"].as_f64().expect("a number");
        sets.iter()
            .map(|(name, value)| (name.clone(), of(value)))
            .collect()
    };
    for ((name, ours), (other, theirs)) in pairs(&with).into_iter().zip(pairs(&without)) {
        assert_eq!(name, other);
        assert!((ours - theirs).abs() < 1e-5, "{name}: {ours}, {theirs}");
    }
}

/// Parquet holds the same items, and a set by name comes from the hub's cache.
#[test]
fn parquet_and_the_hub() {
    let temp = tempfile::tempdir().expect("a folder");
    let of = |name: &str, arguments: &[String], home: Option<&Path>| {
        let place = temp.path().join(name);
        let mut command = command(&place, arguments);
        if let Some(home) = home {
            command.env("HF_HOME", home);
        }
        run(&mut command).succeeded();
        let folder = only_run(&place);
        (lines(&folder), read_json(&folder.join("run.json")))
    };
    let names = ["hellaswag", "truthfulqa_mc2", "arc_easy"];
    let (expected, _) = of("jsonl", &local(&names), None);
    let parquet: Vec<String> = local(&names)
        .iter()
        .map(|argument| argument.replace(".jsonl", ".parquet"))
        .collect();
    assert_eq!(of("parquet", &parquet, None).0, expected);

    let commit = "0123456789abcdef0123456789abcdef01234567";
    let home = temp.path().join("home");
    let repo = home.join("hub/datasets--allenai--ai2_arc");
    for (subset, source) in [("ARC-Easy", "arc_easy"), ("ARC-Challenge", "arc_challenge")] {
        let folder = repo.join("snapshots").join(commit).join(subset);
        fs::create_dir_all(&folder).expect("a folder");
        let to = folder.join("test-00000-of-00001.jsonl");
        fs::copy(items(source), to).expect("a copy");
    }
    fs::create_dir_all(repo.join("refs")).expect("a folder");
    fs::write(repo.join("refs/main"), commit).expect("written");
    let (found, record) = of("hub", &["--tasks=arc_easy".to_owned()], Some(&home));
    assert_eq!(found, of("file", &local(&["arc_easy"]), None).0);
    let source = &record["settings"]["evaluation_texts"][1];
    assert_eq!(source["name"], "arc_easy");
    assert_eq!(
        source["files"][0]["path"],
        "ARC-Easy/test-00000-of-00001.jsonl"
    );
    assert!(source["note"].as_str().expect("a note").contains(commit));
}

#[track_caller]
fn refused(done: &Done, code: i32, says: &[&str]) {
    assert_eq!(done.code, Some(code), "{}", done.stderr);
    let line = done.stderr.lines().last().expect("a line");
    for part in says {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn what_is_wrong_with_items_is_said_in_a_line() {
    let temp = tempfile::tempdir().expect("a folder");
    let file = temp.path().join("bad.jsonl");
    let save = temp.path().join("out");
    let good = json!({ "goal": "a", "sol1": "b", "sol2": "c", "label": 0 });
    let arc = |label: Value, key: &str| json!({ "question": "a", "choices": { "text": ["b", "c"], "label": label }, "answerKey": key });
    let cases: [(&str, String, &str); 16] = [
        ("piqa", "{".into(), "row 2: not JSON"),
        ("piqa", "[1]".into(), "row 2: not an object"),
        ("piqa", json!({ "goal": "a" }).to_string(), "row 2: field `sol1`: is missing; the row has goal"),
        ("piqa", json!({ "goal": 7, "sol1": "b", "sol2": "c", "label": 0 }).to_string(), "field `goal`: is a number, not text"),
        ("piqa", json!({ "goal": "a", "sol1": "b", "sol2": "c", "label": 2 }).to_string(), "field `label`: is 2, not one of 0 to 1"),
        ("piqa", json!({ "goal": "a", "sol1": "", "sol2": "c", "label": "" }).to_string(), "field `label`: is \"\", not one of 0 to 1"),
        ("winogrande", json!({ "sentence": "a b", "option1": "b", "option2": "c", "answer": "1" }).to_string(), "field `sentence`: has no `_`"),
        ("social_iqa", json!({ "context": "a", "question": "b", "answerA": "c", "answerB": "d", "answerC": "e", "label": "0" }).to_string(), "field `label`: is \"0\", not one of 1 to 3"),
        ("hellaswag", json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": "d", "label": "0" }).to_string(), "field `endings`: is text, not a list"),
        ("hellaswag", json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": ["d", null], "label": "0" }).to_string(), "field `endings`: entry 1 is null, not text"),
        ("arc_easy", arc(json!(["A"]), "A").to_string(), "field `choices.label`: has 1 entries for 2 choices"),
        ("arc_easy", arc(json!(["A", "B"]), "C").to_string(), "field `answerKey`: `C` is none of `choices.label`"),
        ("truthfulqa_mc2", json!({ "question": "a", "mc2_targets": { "choices": ["b"], "labels": [0] } }).to_string(), "field `mc2_targets.labels`: says that no choice is right"),
        ("mine", json!({ "context": "a", "choices": [], "gold": 0 }).to_string(), "field `choices`: is an empty list"),
        ("mine", json!({ "context": "a", "choices": ["b"], "gold": -1 }).to_string(), "field `gold`: is -1, not one of 0 to 0"),
        ("mine", json!({ "context": " ", "choices": ["b"], "gold": 0 }).to_string(), "choice 0: its context has no token"),
    ];
    for (task, line, says) in cases {
        // A good line stands first where it is the same task's.
        let first = if task == "piqa" {
            good.to_string()
        } else {
            String::new()
        };
        fs::write(&file, format!("{first}\n{line}\n")).expect("written");
        let argument = format!("--task={task}={}", file.display());
        let done = run(&mut command(&save, &[argument]));
        refused(&done, 1, &[file.to_str().expect("UTF-8"), "row 2", says]);
        assert!(!save.exists() || fs::read_dir(&save).expect("a folder").next().is_none());
    }
    fs::write(&file, "\n").expect("written");
    let argument = format!("--task=mine={}", file.display());
    refused(
        &run(&mut command(&save, &[argument])),
        1,
        &["no items in it"],
    );
    for (arguments, code, says) in [
        (vec!["--tasks=piqa"], 1, "--task piqa=FILE"),
        (vec!["--tasks=piqua"], 2, "no task that massact knows"),
        (vec!["--task=piqa"], 2, "NAME=FILE"),
        (vec!["--tasks=piqa,piqa"], 2, "two tasks have this name"),
        (vec!["--limit=0"], 2, "positive integer"),
    ] {
        let done = run(&mut command(&save, &arguments));
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(done.stderr.contains(says), "{}", done.stderr);
    }
}
