//! The main job through the real program: verdicts, numbers, and every file that is left.

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::picture::assert_pictures;
use support::program::{Done, checkpoint, files, massact, only_run, read_json, run};
use support::reference::{self, ExperimentRun, assert_near};
use support::schema::assert_valid;

/// What existence-validation leaves.
const EXISTENCE_FILES: [&str; 8] = [
    "check_has_massive_activations.txt",
    "existence_validation.json",
    "report.html",
    "run.json",
    "summary.txt",
    "top_activation_magnitude.pdf",
    "top_activation_magnitude.png",
    "top_activation_magnitude.svg",
];

#[test]
fn planted_checkpoints() {
    for known in reference::planted() {
        planted(&known);
    }
}

fn planted(known: &reference::Checkpoint) {
    let name = known.name.as_str();
    let experiments = known.reference.experiments.as_ref().expect("experiments");
    assert_eq!(experiments.runs.len(), 2, "without and with BOS");
    for expected in &experiments.runs {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["existence-validation", "--json", "--quiet", "--pretrained"]);
        command
            .arg(&known.folder)
            .arg("--text-file")
            .arg(known.folder.join(&experiments.text_file))
            .args(["--context-length", &experiments.context_length.to_string()])
            .args(["--nsamples", &experiments.existence_nsamples.to_string()])
            .args(["--add-bos-token", &expected.add_bos_token.to_string()])
            .arg("--save-dir")
            .arg(temp.path());
        let done = run(&mut command).succeeded();
        assert_eq!(done.stderr, "", "--quiet");
        let document = done.json();
        let noise = known.reference.noise.max.max(known.reference.noise.median);
        agrees(&document, expected, noise);
        assert_eq!(document["context_length"], experiments.context_length);
        assert_eq!(document["nsamples"], experiments.existence_nsamples);
        assert_eq!(document["add_bos_token"], expected.add_bos_token);
        first_window_is(known, expected);

        let folder = only_run(temp.path());
        assert_eq!(files(&folder), EXISTENCE_FILES);
        let of_model = folder.parent().and_then(Path::file_name);
        let of_model = of_model.and_then(|name| name.to_str()).expect("UTF-8");
        assert!(of_model.starts_with(&format!("{name}-")), "{of_model}");
        assert_eq!(
            read_json(&folder.join("existence_validation.json")),
            document
        );
        text_file_agrees(&folder, name, &document);
        assert_pictures(&folder, "top_activation_magnitude");

        let record = read_json(&folder.join("run.json"));
        assert_valid("run", &record);
        assert_eq!(record["command"], "existence-validation");
        let arguments = record["arguments"].as_array().expect("a list");
        assert_eq!(arguments[0], "existence-validation");
        assert!(arguments.contains(&json!("--json")), "{arguments:?}");
        assert_eq!(
            record["model"]["name"],
            known.folder.to_str().expect("UTF-8")
        );
        let tokens = experiments.context_length * experiments.existence_nsamples;
        assert_eq!(record["tokens"], tokens);
        let inputs = record["inputs"].as_array().expect("inputs");
        for input in [
            "config.json",
            "tokenizer.json",
            "model.safetensors",
            "text.txt",
        ] {
            let path = known.folder.join(input);
            let found = inputs
                .iter()
                .find(|record| record["path"] == path.to_str().expect("UTF-8"));
            let hash = blake3::hash(&std::fs::read(&path).expect("readable")).to_hex();
            assert_eq!(found.expect(input)["blake3"], hash.as_str(), "{input}");
        }
    }
}

fn agrees(document: &Value, expected: &ExperimentRun, noise: f64) {
    assert_valid("existence_validation", document);
    let expected = &expected.existence_validation;
    assert_eq!(
        document["has_massive_activations"],
        expected.has_massive_activations
    );
    let layers = document["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), expected.layers.len());
    for (ours, theirs) in layers.iter().zip(&expected.layers) {
        let at = format!("layer {}", theirs.layer);
        assert_eq!(ours["layer"], theirs.layer);
        assert_eq!(ours["massive"], theirs.massive, "{at}");
        assert_near(&ours["top1_mean"], theirs.top1_mean, noise, &at);
        assert_near(&ours["median_mean"], theirs.median_mean, noise, &at);
        let ratio = theirs.top1_mean / theirs.median_mean;
        assert_near(&ours["ratio"], ratio, 2.0 * noise, &at);
        // The parts make the whole.
        let parts = ours["sequences"].as_array().expect("sequences");
        let sum: f64 = parts.iter().filter_map(|part| part["top1"].as_f64()).sum();
        assert_near(&ours["top1_mean"], sum / parts.len() as f64, 0.0, &at);
        let largest = parts.iter().filter_map(|part| part["top1"].as_f64());
        let largest = largest.fold(0.0, f64::max);
        let first = ours["top"][0]["value"].as_f64().expect("a value").abs();
        assert_eq!(first, largest, "{at}");
    }
}

/// The windows are those of the reference, BOS included.
fn first_window_is(known: &reference::Checkpoint, expected: &ExperimentRun) {
    let temp = tempfile::tempdir().expect("a folder");
    let experiments = known.reference.experiments.as_ref().expect("experiments");
    let mut command = massact(["capture", "--json", "--quiet", "--pretrained"]);
    command
        .arg(&known.folder)
        .arg("--text-file")
        .arg(known.folder.join(&experiments.text_file))
        .args(["--context-length", &experiments.context_length.to_string()])
        .args(["--add-bos-token", &expected.add_bos_token.to_string()])
        .arg("--save-dir")
        .arg(temp.path());
    let document = run(&mut command).succeeded().json();
    assert_valid("capture", &document);
    let first = &document["sequences"][0];
    assert_eq!(first["token_ids"], serde_json::json!(expected.first_window));
    let model = massact::model::Model::open(&known.folder).expect("opens");
    let tokenizer = model.tokenizer.expect("a tokenizer");
    let text = std::fs::read_to_string(known.folder.join(&experiments.text_file)).expect("text");
    assert_eq!(
        tokenizer.encode(&text).expect("ids").len(),
        experiments.text_tokens
    );
    let shown: Vec<String> = expected
        .first_window
        .iter()
        .map(|id| tokenizer.token(*id))
        .collect();
    assert_eq!(first["tokens"], serde_json::json!(shown));
}

/// The reference program's file: three fixed lines, then one line a massive layer.
fn text_file_agrees(folder: &Path, name: &str, document: &Value) {
    let text = std::fs::read_to_string(folder.join("check_has_massive_activations.txt"));
    let text = text.expect("the text file");
    let head = format!(
        "Model: {name}\nLocation & Value of Massive Activations\n{}\n",
        "=".repeat(50)
    );
    let body = text.strip_prefix(&head).unwrap_or_else(|| panic!("{text}"));
    let massive = document["layers"].as_array().expect("layers");
    let massive: Vec<&Value> = massive
        .iter()
        .filter(|layer| layer["massive"] == true)
        .collect();
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines.len(), massive.len(), "{text}");
    for (line, layer) in lines.iter().zip(massive) {
        let (label, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        assert_eq!(label, format!("Layer-{}", layer["layer"]));
        let value: f64 = value.parse().expect("a number");
        let exact = layer["top1_mean"].as_f64().expect("a number");
        assert_eq!(value, f64::from(exact as f32), "{line}");
    }
}

#[test]
fn the_demo_says_yes_and_writes_everything() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(["existence-validation", "--save-dir"]);
    let done = run(command.arg(temp.path())).succeeded();
    assert!(
        done.stdout.contains("demo has massive activations: layer"),
        "{}",
        done.stdout
    );
    let folder = only_run(temp.path());
    assert_eq!(files(&folder), EXISTENCE_FILES);
    assert!(
        done.stderr.contains(folder.to_str().expect("UTF-8")),
        "{}",
        done.stderr
    );
    let document = read_json(&folder.join("existence_validation.json"));
    assert_valid("existence_validation", &document);
    assert_valid("run", &read_json(&folder.join("run.json")));
    assert_eq!(document["has_massive_activations"], true);
    text_file_agrees(&folder, "demo", &document);
    assert_pictures(&folder, "top_activation_magnitude");
    // One table row a layer, with the verdict's layers marked.
    let layers = document["layers"].as_array().expect("layers");
    let yes = layers
        .iter()
        .filter(|layer| layer["massive"] == true)
        .count();
    let marked = done
        .stdout
        .lines()
        .filter(|line| line.contains(" yes"))
        .count();
    assert_eq!(marked, yes, "{}", done.stdout);
    let page = std::fs::read_to_string(folder.join("report.html")).expect("the page");
    assert!(page.contains("demo has massive activations"));
    for outside in ["src=\"http", "href=\"http", "@import", "<script src"] {
        assert!(!page.contains(outside), "the page refers to {outside}");
    }
}

#[test]
fn thresholds_change_the_verdict() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(["existence-validation", "--json", "--abs-threshold", "1e9"]);
    let done = run(command.arg("--save-dir").arg(temp.path())).succeeded();
    let document = done.json();
    assert_eq!(document["has_massive_activations"], false);
    assert_eq!(document["abs_threshold"], 1e9);
    let mut command = massact([
        "existence-validation",
        "--abs-threshold",
        "1e9",
        "--save-dir",
    ]);
    let done = run(command.arg(temp.path())).succeeded();
    assert!(
        done.stdout.contains("demo has no massive activations"),
        "{}",
        done.stdout
    );
}

/// Runs `arguments` with a fresh save-dir and returns the folder of the run as well.
fn saved(arguments: &[&str]) -> (Done, tempfile::TempDir) {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(arguments);
    let done = run(command.arg("--save-dir").arg(temp.path())).succeeded();
    (done, temp)
}

#[test]
fn aliases_and_repetition_give_the_same() {
    let (first, _a) = saved(&["existence-validation", "--json", "--nsamples", "3"]);
    let (second, _b) = saved(&["existence_validation", "--json", "--nsamples", "3"]);
    assert_eq!(first.stdout, second.stdout);
    let names = ["top-activation-magnitude", "top_activation_magnitude"];
    let [first, second] = names.map(|name| saved(&[name, "--json", "--nsamples", "2"]).0);
    assert_eq!(first.stdout, second.stdout);
    let capture = ["capture", "--json", "--text", "The same again.", "--nll"];
    assert_eq!(saved(&capture).0.stdout, saved(&capture).0.stdout);
}

#[test]
fn the_same_settings_give_the_same_folder() {
    let temp = tempfile::tempdir().expect("a folder");
    for nsamples in ["1", "1", "2"] {
        let mut command = massact(["existence-validation", "--quiet", "--nsamples", nsamples]);
        run(command.arg("--save-dir").arg(temp.path())).succeeded();
    }
    assert_eq!(files(temp.path()).len(), 2 * EXISTENCE_FILES.len());
}

#[test]
fn magnitudes_of_a_sentence_and_of_a_dataset() {
    let folder = checkpoint("planted-llama");
    let folder = folder.to_str().expect("UTF-8");
    let text = format!("{folder}/text.txt");
    let common = [
        "top-activation-magnitude",
        "--json",
        "--quiet",
        "--pretrained",
        folder,
    ];
    let sentence = [&common[..], &["--sentence", "The river. The clock."]].concat();
    let dataset = [&common[..], &["--dataset", &text, "--context-length", "32"]].concat();
    for (arguments, nsamples) in [(sentence, 1), (dataset, 10)] {
        let (done, temp) = saved(&arguments);
        assert_eq!(done.stderr, "");
        let document = done.json();
        assert_valid("top_activation_magnitude", &document);
        assert_eq!(document["nsamples"], nsamples);
        assert_eq!(document["site"], "layer_output");
        let layers = document["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), 4);
        for layer in layers {
            let means: Vec<f64> = layer["top_means"]
                .as_array()
                .expect("top_means")
                .iter()
                .filter_map(Value::as_f64)
                .collect();
            assert_eq!(means.len(), 3);
            assert!(means.is_sorted_by(|a, b| a >= b), "{means:?}");
            assert_eq!(layer["top1_mean"], means[0]);
        }
        let folder = only_run(temp.path());
        assert_eq!(
            files(&folder),
            [
                "report.html",
                "run.json",
                "summary.txt",
                "top_activation_magnitude.json",
                "top_activation_magnitude.pdf",
                "top_activation_magnitude.png",
                "top_activation_magnitude.svg"
            ]
        );
        assert_valid("run", &read_json(&folder.join("run.json")));
        assert_pictures(&folder, "top_activation_magnitude");
    }
}

/// The two commands and the general tool measure the same thing.
#[test]
fn experiments_agree_with_capture() {
    let sentence = "Massive activations sit at the first token.";
    let (magnitudes, _a) = saved(&["top-activation-magnitude", "--json", "--sentence", sentence]);
    let (capture, _b) = saved(&["capture", "--json", "--text", sentence, "--top-k", "3"]);
    let capture = capture.json();
    let layers = capture["sequences"][0]["layers"].as_array().cloned();
    let magnitudes = magnitudes.json();
    for (layer, ours) in layers.expect("layers").iter().enumerate() {
        let theirs = &magnitudes["layers"][layer];
        assert_eq!(
            ours["max"].as_f64(),
            theirs["top1_mean"].as_f64().map(|v| v as f32 as f64)
        );
        for (entry, top) in ours["top"].as_array().expect("top").iter().zip(0..) {
            let other = &theirs["top"][top];
            for key in ["position", "dimension", "value"] {
                assert_eq!(entry[key], other[key], "layer {layer}, {key}");
            }
        }
    }
}

#[test]
fn models_and_devices() {
    let plain = run(&mut massact(["models"])).succeeded();
    let document = run(&mut massact(["models", "--json"])).succeeded().json();
    assert_eq!(document["schema"], "massact/models/1");
    for family in massact::model::families::FAMILIES {
        assert!(plain.stdout.contains(family.model_type), "{}", plain.stdout);
        assert!(plain.stdout.contains(family.example), "{}", plain.stdout);
    }
    let families = document["families"].as_array().expect("families");
    assert_eq!(families.len(), massact::model::families::FAMILIES.len());
    for name in massact::model::demo::NAMES {
        assert!(plain.stdout.contains(name), "{}", plain.stdout);
    }
    let plain = run(&mut massact(["devices"])).succeeded();
    assert!(plain.stdout.starts_with("cpu "), "{}", plain.stdout);
    assert_eq!(plain.stderr, "");
    let document = run(&mut massact(["devices", "--json"])).succeeded().json();
    assert_eq!(document["cpu"]["usable"], true);
    assert!(document["cpu"]["threads"].as_u64() > Some(0));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    use std::process::Stdio;
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(["existence-validation", "--json", "--quiet", "--save-dir"]);
    let mut child = command
        .arg(temp.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
