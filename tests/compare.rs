//! `massact compare`: the experiments' own numbers side by side, and checkpoints that fail.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use massact::backend::cpu::Cpu;
use massact::experiments::{Subject, Thresholds, attention_share};
use massact::model::Model;
use massact::progress::Progress;
use serde_json::Value;
use support::damage::copy;
use support::program::{checkpoint, files, massact, only_run, read_json, run};
use support::{reference, schema::assert_valid, tensors};

const ALL: Thresholds = Thresholds { abs: 0.0, rel: 0.0 };

/// Windows, a learned key in front, and neither; against transformers' attention.
#[test]
fn attention_shares_agree_with_transformers() {
    for name in [
        "planted-llama",
        "gpt2-f32",
        "mistral-window",
        "gemma2",
        "kv-bias-llama",
        "kv-bias-mistral",
    ] {
        let known = reference::load(name);
        let model = Model::open(&known.folder).expect(name);
        let sequence = &known.reference.sequences[known.reference.attention_sequence];
        let ids = sequence.token_ids.clone();
        let sequences = [ids];
        let subject = Subject {
            backend: &Cpu::new(),
            model: &model,
            sequences: &sequences,
            progress: Progress::silent(),
        };
        let found = attention_share::run(&subject, ALL).expect(name).result;
        let maps = tensors::read(&known.folder.join("reference.safetensors"));
        let length = sequences[0].len();
        let tolerance = 4.0 * known.reference.noise.attention_probs + 2e-6;
        for layer in &found.layers {
            // What each key receives in truth, from the mean map: its columns' sums.
            let map = &maps[&format!("layer.{}.probs_mean", layer.layer)];
            let keys = map.shape[1];
            let share = |key: usize| -> f64 {
                let column = map.values.iter().skip(key).step_by(keys);
                let seen = column.filter(|value| !value.is_nan());
                seen.map(|value| f64::from(*value)).sum::<f64>() / length as f64
            };
            let extra = keys - length;
            let near = |ours: f64, theirs: f64, what: &str| {
                let at = format!("{name} layer {} {what}", layer.layer);
                assert!(
                    (ours - theirs).abs() <= tolerance,
                    "{at}: {ours} instead of {theirs}"
                );
            };
            near(layer.first_token, share(extra), "first token");
            // With these thresholds every token counts as massive.
            near(
                layer.massive_tokens,
                (extra..keys).map(share).sum(),
                "all tokens",
            );
            assert_eq!(layer.kv_bias.is_some(), extra == 1, "{name}");
            if let Some(ours) = layer.kv_bias {
                near(ours, share(0), "learned key");
                near(ours + layer.massive_tokens, 1.0, "everything");
            }
        }
        let mean = found
            .layers
            .iter()
            .map(|layer| layer.first_token)
            .sum::<f64>();
        assert_eq!(
            found.first_token,
            mean / found.layers.len() as f64,
            "{name}"
        );
    }
}

/// Two planted checkpoints on one text.
fn compare(temp: &Path, checkpoints: &[String], more: &[&str]) -> Command {
    let text = checkpoint("planted-llama").join("text.txt");
    let mut command = massact([
        "compare",
        "--context-length",
        "32",
        "--nsamples",
        "3",
        "--text-file",
    ]);
    command
        .arg(text)
        .args(checkpoints)
        .args(more)
        .arg("--save-dir")
        .arg(temp);
    command
}

fn labelled(label: &str, name: &str) -> String {
    format!("{label}={}", checkpoint(name).display())
}

#[test]
fn numbers_are_those_of_the_experiments() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out");
    let checkpoints = [
        labelled("base, line", "planted-llama"),
        labelled("other", "planted-gpt2"),
    ];
    let document = run(&mut compare(&out, &checkpoints, &["--json"]))
        .succeeded()
        .json();
    assert_valid("compare", &document);
    let folder = only_run(&out);
    assert_eq!(read_json(&folder.join("compare.json")), document);
    let rows = document["checkpoints"].as_array().expect("rows");
    let labels: Vec<_> = rows
        .iter()
        .map(|row| row["label"].as_str().expect("a label"))
        .collect();
    assert_eq!(labels, ["base, line", "other"]);

    for (row, name) in rows.iter().zip(["planted-llama", "planted-gpt2"]) {
        assert_eq!(row["error"], Value::Null);
        let mut alone = massact([
            "existence-validation",
            "--json",
            "--context-length",
            "32",
            "--nsamples",
            "3",
        ]);
        alone.arg("--pretrained").arg(checkpoint(name));
        alone
            .arg("--text-file")
            .arg(checkpoint("planted-llama").join("text.txt"));
        let alone = run(alone.arg("--save-dir").arg(temp.path().join("alone")))
            .succeeded()
            .json();
        let layers = alone["layers"].as_array().expect("layers");
        let existence = &row["existence"];
        for (ours, theirs) in existence["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .zip(layers)
        {
            for field in ["layer", "top1_mean", "median_mean"] {
                assert_eq!(ours[field], theirs[field], "{name}");
            }
        }
        let top1 = |layer: &Value| layer["top1_mean"].as_f64().expect("a number");
        let largest = layers
            .iter()
            .max_by(|a, b| top1(a).total_cmp(&top1(b)))
            .expect("a layer");
        assert_eq!(existence["top1"], largest["top1_mean"], "{name}");
        assert_eq!(existence["layer"], largest["layer"], "{name}");
        assert_eq!(existence["median"], largest["median_mean"], "{name}");
        let massive: Vec<&Value> = layers
            .iter()
            .filter(|layer| layer["massive"] == true)
            .map(|layer| &layer["layer"])
            .collect();
        assert_eq!(
            existence["massive_layers"]
                .as_array()
                .expect("layers")
                .iter()
                .collect::<Vec<_>>(),
            massive
        );

        let mut alone = massact([
            "tokens-analysis",
            "--json",
            "--context-length",
            "32",
            "--nsamples",
            "3",
        ]);
        alone.arg("--pretrained").arg(checkpoint(name));
        alone
            .arg("--text-file")
            .arg(checkpoint("planted-llama").join("text.txt"));
        let alone = run(alone.arg("--save-dir").arg(temp.path().join("alone")))
            .succeeded()
            .json();
        for field in ["first_layer", "dimensions", "nsamples_massive"] {
            assert_eq!(row["tokens"][field], alone[field], "{name} {field}");
        }

        let mut alone = massact([
            "capture",
            "--json",
            "--nll",
            "--context-length",
            "32",
            "--nsamples",
            "3",
        ]);
        alone.arg("--pretrained").arg(checkpoint(name));
        alone
            .arg("--text-file")
            .arg(checkpoint("planted-llama").join("text.txt"));
        let alone = run(alone.arg("--save-dir").arg(temp.path().join("alone")))
            .succeeded()
            .json();
        let windows = alone["sequences"].as_array().expect("sequences");
        assert_eq!(windows.len(), 3);
        let sum: f64 = windows
            .iter()
            .map(|window| window["nll"].as_f64().expect("a number"))
            .sum();
        assert_eq!(row["perplexity"], (sum / 3.0).exp(), "{name}");

        let tvr = run(massact(["tvr", "--dry-run", "--json", "--pretrained"])
            .arg(checkpoint(name))
            .arg("--save-dir")
            .arg(temp.path().join("alone")))
        .succeeded()
        .json();
        let first: Vec<f64> = tvr["weights"]
            .as_array()
            .expect("weights")
            .iter()
            .filter(|weight| weight["layer"] == 0)
            .map(|weight| weight["std"].as_f64().expect("a number"))
            .collect();
        assert_eq!(
            row["weights"]["layers"][0],
            first.iter().sum::<f64>() / first.len() as f64,
            "{name}"
        );
    }

    let mut expected: BTreeSet<String> = ["compare.csv", "compare.json", "report.html"]
        .map(String::from)
        .into();
    for figure in [
        "attention_to_first_token",
        "attention_to_massive_tokens",
        "median_by_layer",
        "top1_by_layer",
        "weight_std_by_layer",
    ] {
        expected.extend([format!("{figure}.png"), format!("{figure}.svg")]);
        let svg = std::fs::read_to_string(folder.join(format!("{figure}.svg"))).expect("written");
        assert!(labels.iter().all(|label| svg.contains(label)), "{figure}");
    }
    for place in ["1-base, line", "2-other"] {
        let place = place.replace(' ', "_");
        expected.extend(
            [
                "existence_validation.json",
                "run.json",
                "tokens_analysis.json",
            ]
            .map(|file| format!("{place}/{file}")),
        );
        assert_valid(
            "existence_validation",
            &read_json(&folder.join(&place).join("existence_validation.json")),
        );
        assert_valid("run", &read_json(&folder.join(&place).join("run.json")));
    }
    assert_eq!(
        files(&folder).into_iter().collect::<BTreeSet<_>>(),
        expected
    );

    let csv = std::fs::read_to_string(folder.join("compare.csv")).expect("written");
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 4, "{csv}");
    assert!(
        lines[0].starts_with("label,name,revision,commit,error,top1,"),
        "{csv}"
    );
    assert!(lines[1].starts_with("\"base, line\","), "{csv}");
    let columns = lines[0].split(',').count();
    assert_eq!(lines[2].split(',').count(), columns, "{csv}");
    let top1 = lines[2]
        .split(',')
        .nth(5)
        .expect("a cell")
        .parse::<f64>()
        .expect("a number");
    assert_eq!(rows[1]["existence"]["top1"], top1);
}

/// A checkpoint that cannot be run has its reason in its row; the others are complete.
#[test]
fn a_failing_checkpoint_does_not_stop_the_others() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out");
    let damaged: PathBuf = temp.path().join("damaged");
    copy("planted-llama", &damaged);
    std::fs::write(damaged.join("model.safetensors"), b"short").expect("written");
    let checkpoints = [
        format!("broken={}", damaged.display()),
        labelled("sound", "planted-llama"),
        format!("absent={}", temp.path().join("none").display()),
        "demo".to_owned(),
    ];
    let done = run(&mut compare(
        &out,
        &checkpoints,
        &["--experiments", "existence"],
    ));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr
            .contains("2 of 4 checkpoints: failed: broken, absent; "),
        "{}",
        done.stderr
    );
    assert!(
        done.stdout.contains("sound") && done.stdout.contains("no such folder"),
        "{}",
        done.stdout
    );
    let folder = only_run(&out);
    let document = read_json(&folder.join("compare.json"));
    assert_valid("compare", &document);
    assert_eq!(document["same_tokens"], false);
    let rows = document["checkpoints"].as_array().expect("rows");
    let failed: Vec<bool> = rows.iter().map(|row| row["error"].is_string()).collect();
    assert_eq!(failed, [true, false, true, false]);
    assert!(rows[1]["existence"].is_object() && rows[1]["attention"].is_null());
    assert!(!folder.join("weight_std_by_layer.svg").exists());
}

/// Where there is nothing to compare, nothing is written.
#[test]
fn when_all_fail_the_reason_is_the_error() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out");
    let absent = |name: &str| temp.path().join(name).display().to_string();
    let done = run(&mut compare(&out, &[absent("one"), absent("two")], &[]));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(
        done.stderr.contains("one: no such folder; "),
        "{}",
        done.stderr
    );
    assert_eq!(done.stdout, "");
    assert!(!out.exists());
}

/// One text and one length for all, whatever each could do by itself.
#[test]
fn defaults_suit_every_checkpoint() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact([
        "compare",
        "demo",
        "demo-unamplified",
        "--nsamples",
        "2",
        "--json",
        "--quiet",
    ]);
    let done = run(command.arg("--save-dir").arg(temp.path())).succeeded();
    assert_eq!(done.stderr, "");
    let document = done.json();
    assert_eq!(document["same_tokens"], true);
    assert_eq!(document["dataset"], "builtin");
    let rows = document["checkpoints"].as_array().expect("rows");
    let massive: Vec<&Value> = rows
        .iter()
        .map(|row| &row["existence"]["has_massive_activations"])
        .collect();
    assert_eq!(massive, [true, false]);
    assert_eq!(rows[0]["tokens_blake3"], rows[1]["tokens_blake3"]);
}

#[test]
fn wrong_names_are_usage_errors() {
    let temp = tempfile::tempdir().expect("a folder");
    for (arguments, says) in [
        (&["demo", "demo"][..], "two checkpoints have it"),
        (&["a=demo", "a=demo-unamplified"], "label `a`"),
        (&["=demo"], "empty"),
        (&["gpt2@"], "empty"),
        (&["demo", "--experiments", "magic"], "magic"),
        (&[], "CHECKPOINT"),
    ] {
        let done = run(massact(["compare"])
            .args(arguments)
            .arg("--save-dir")
            .arg(temp.path().join("out")));
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(says), "{}", done.stderr);
    }
    assert!(!temp.path().join("out").exists());
}
