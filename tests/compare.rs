//! `massact compare`: the experiments' own numbers side by side, and checkpoints that fail.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use massact::engine::Session;
use massact::experiments::intervention_analysis::{
    self, Anywhere, EvaluationSet, PositionsFrom, Setup, WrittenLayers,
};
use massact::experiments::{CorpusWalk, Thresholds, attention_share};
use massact::model::Model;
use massact::progress::Progress;
use serde_json::{Value, json};
use support::damage::copy;
use support::program::{checkpoint, files, massact, only_run, read_json, run};
use support::{reference, schema::assert_valid, tensors};

const ALL: Thresholds = Thresholds { abs: 0.0, rel: 0.0 };

/// Windows, a learned key in front, masks of other kinds, and neither; against transformers' attention.
#[test]
fn attention_shares_agree_with_transformers() {
    for name in [
        "planted-llama",
        "gpt2-f32",
        "mistral-window",
        "gemma2",
        "kv-bias-llama",
        "kv-bias-mistral",
        // Attention in some layers only, in chunks, and to keys that each query chooses.
        "planted-lfm2",
        "llama4-text",
        "deepseek-v32",
        "glm-moe-dsa",
    ] {
        let known = reference::load(name);
        let model = Model::open(&known.folder).expect(name);
        let sequence = &known.reference.sequences[known.reference.attention_sequence];
        let ids = sequence.token_ids.clone();
        let sequences = [ids];
        let session = Session::on_cpu(model, Progress::silent());
        let found = attention_share::run(&session, &sequences, ALL);
        let found = found.expect(name).result;
        let maps = tensors::read(&known.folder.join("reference.safetensors"));
        let length = sequences[0].len();
        let tolerance = 4.0 * known.reference.noise.attention_probs + 2e-6;
        for layer in &found.layers {
            // What each key receives in truth, from the mean map: its columns' sums.
            let Some(map) = maps.get(&format!("layer.{}.probs_mean", layer.layer)) else {
                assert_eq!((layer.first_token, layer.massive_tokens), (None, None));
                continue;
            };
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
            let massive = layer.massive_tokens.expect(name);
            near(layer.first_token.expect(name), share(extra), "first token");
            // With these thresholds every token counts as massive.
            near(massive, (extra..keys).map(share).sum(), "all tokens");
            assert_eq!(layer.kv_bias.is_some(), extra == 1, "{name}");
            if let Some(ours) = layer.kv_bias {
                near(ours, share(0), "learned key");
                near(ours + massive, 1.0, "everything");
            }
        }
        let mean = found
            .layers
            .iter()
            .filter_map(|layer| layer.first_token)
            .sum::<f64>();
        assert_eq!(
            found.first_token,
            mean / maps
                .keys()
                .filter(|key| key.ends_with("probs_mean"))
                .count() as f64,
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

/// What a command by itself says of the same windows.
fn alone(temp: &Path, name: &str, command: &str) -> Value {
    let mut command = massact([
        command,
        "--json",
        "--context-length",
        "32",
        "--nsamples",
        "3",
    ]);
    if command.get_args().next() == Some("capture".as_ref()) {
        command.arg("--nll");
    }
    command.arg("--pretrained").arg(checkpoint(name));
    command
        .arg("--text-file")
        .arg(checkpoint("planted-llama").join("text.txt"));
    run(command.arg("--save-dir").arg(temp.join("alone")))
        .succeeded()
        .json()
}

/// Interventions on the three measured windows, by what is massive in the three behind them.
#[track_caller]
fn assert_interventions(row: &Value, name: &str) {
    let model = Model::open(&checkpoint(name)).expect(name);
    let tokenizer = model.tokenizer.as_ref().expect("a tokenizer");
    let text = std::fs::read_to_string(checkpoint("planted-llama").join("text.txt"));
    let ids = tokenizer.encode(&text.expect("a text")).expect("ids");
    let bos = tokenizer.bos().expect("a BOS");
    let windows: Vec<Vec<u32>> = ids
        .chunks(32)
        .take(6)
        .map(|slice| [&[bos], &slice[..31]].concat())
        .collect();
    let session = Session::on_cpu(model, Progress::silent());
    let set = EvaluationSet {
        name: "these".to_owned(),
        windows: windows[..3].to_vec(),
    };
    let setup = Setup {
        anywhere: Anywhere::default(),
        thresholds: Thresholds {
            abs: 100.0,
            rel: 1000.0,
        },
        nsamples: 3,
        calibration_nsamples: 3,
        layers: WrittenLayers::First,
        positions_from: PositionsFrom::Own,
        constants: Vec::new(),
        noise: Vec::new(),
        reference: false,
        seed: 42,
    };
    let walk = CorpusWalk::run(&session, &windows[3..], setup.thresholds, true).expect(name);
    let found = intervention_analysis::run(&session, &walk, &[set], &[], &setup);
    let found = found.expect(name).result;
    let ours = &row["interventions"];
    let layer = found.first_layer.expect("massive activations");
    assert_eq!(ours["first_layer"], layer, "{name}");
    assert_eq!(ours["dimensions"], json!(found.dimensions), "{name}");
    assert_eq!(ours["calibration_windows"], 3, "{name}");
    assert_eq!(ours["windows_massive"], 3, "{name}");
    let known =
        |by: &BTreeMap<String, BTreeMap<String, Option<f64>>>, what: &str| json!(by[what]["these"]);
    assert_eq!(ours["original"], known(&found.perplexity, "original"));
    assert_eq!(ours["original"], row["perplexity"], "{name}");
    for (what, theirs) in [
        ("set_to_zero", "set_to_zero".to_owned()),
        ("set_to_mean", format!("set_to_mean_{layer}")),
    ] {
        let perplexity = known(&found.perplexity, &theirs);
        assert_eq!(ours[what]["perplexity"], perplexity, "{name} {what}");
        let ratio = found.ratios[&theirs]["these"];
        for (field, value) in [
            ("ratio", ratio.ratio),
            ("low", ratio.low),
            ("high", ratio.high),
        ] {
            assert_eq!(ours[what][field], json!(value), "{name} {what} {field}");
        }
    }
    // The planted models need what was planted.
    let ratio = |what: &str| ours[what]["ratio"].as_f64().expect("a number");
    assert!((ratio("set_to_mean") - 1.0).abs() < (ratio("set_to_zero") - 1.0).abs());
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
        let alone = |command: &str| alone(temp.path(), name, command);
        let existing = alone("existence-validation");
        let layers = existing["layers"].as_array().expect("layers");
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

        let tokens = alone("tokens-analysis");
        for field in ["first_layer", "dimensions", "nsamples_massive"] {
            assert_eq!(row["tokens"][field], tokens[field], "{name} {field}");
        }

        let captured = alone("capture");
        let windows = captured["sequences"].as_array().expect("sequences");
        assert_eq!(windows.len(), 3);
        let sum: f64 = windows
            .iter()
            .map(|window| window["nll"].as_f64().expect("a number"))
            .sum();
        assert_eq!(row["perplexity"], (sum / 3.0).exp(), "{name}");
        assert_interventions(row, name);

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

    let mut expected: BTreeSet<String> = [
        "compare.csv",
        "compare.json",
        "layers.csv",
        "report.html",
        "summary.txt",
    ]
    .map(String::from)
    .into();
    for figure in [
        "attention_to_first_token",
        "attention_to_massive_tokens",
        "median_by_layer",
        "perplexity_ratio",
        "ratio_by_layer",
        "top1_by_layer",
        "weight_std_by_layer",
    ] {
        expected.extend(["pdf", "png", "svg"].map(|kind| format!("{figure}.{kind}")));
        let svg = std::fs::read_to_string(folder.join(format!("{figure}.svg"))).expect("written");
        assert!(labels.iter().all(|label| svg.contains(label)), "{figure}");
    }
    for place in ["1-base, line", "2-other"] {
        let place = place.replace(' ', "_");
        expected.extend(
            [
                "existence_validation.json",
                "intervention_analysis.json",
                "run.json",
                "tokens_analysis.json",
                "top_activation_magnitude.pdf",
                "top_activation_magnitude.png",
                "top_activation_magnitude.svg",
            ]
            .map(|file| format!("{place}/{file}")),
        );
        assert_valid(
            "existence_validation",
            &read_json(&folder.join(&place).join("existence_validation.json")),
        );
        assert_valid(
            "intervention_analysis",
            &read_json(&folder.join(&place).join("intervention_analysis.json")),
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
    for column in ["ratio_set_to_zero_low", "class_set_to_mean"] {
        assert!(lines[0].split(',').any(|name| name == column), "{csv}");
    }
    // Every layer of every checkpoint, in full digits.
    let layers = std::fs::read_to_string(folder.join("layers.csv")).expect("written");
    let wanted: usize = ["base, line", "other"]
        .iter()
        .enumerate()
        .map(|(index, label)| {
            let row = &document["checkpoints"][index];
            assert_eq!(row["label"], *label);
            let top1 = &row["existence"]["layers"][1]["top1_mean"];
            assert!(layers.contains(&format!(",{top1},")), "{layers}");
            row["existence"]["layers"].as_array().map_or(0, Vec::len)
        })
        .sum();
    assert_eq!(layers.split_terminator("\r\n").count(), wanted + 1);
    assert!(
        lines[0].starts_with("label,name,revision,commit,format,error,top1,"),
        "{csv}"
    );
    assert!(lines[1].starts_with("\"base, line\","), "{csv}");
    let columns = lines[0].split(',').count();
    assert_eq!(lines[2].split(',').count(), columns, "{csv}");
    let top1 = lines[2]
        .split(',')
        .nth(6)
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
        done.stderr.contains("one: no such folder or file; "),
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
    let zeros = |row: usize| &rows[row]["interventions"]["set_to_zero"];
    assert!(zeros(0)["ratio"].as_f64() > Some(1.0), "{}", zeros(0));
    assert_eq!(*zeros(1), Value::Null, "nothing to overwrite");
    assert_eq!(
        rows[1]["interventions"]["original"], rows[1]["perplexity"],
        "{rows:?}"
    );
}

/// The means come from windows that are not measured, if the text has them.
#[test]
fn interventions_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(checkpoint("planted-llama").join("text.txt"));
    let short = temp.path().join("short.txt");
    std::fs::write(&short, &text.expect("a text")[..500]).expect("written");
    for (nsamples, apart) in [("2", true), ("4", false)] {
        let mut command = massact(["compare", "--experiments", "interventions"]);
        command
            .args([
                "--context-length",
                "32",
                "--nsamples",
                nsamples,
                "--text-file",
            ])
            .arg(&short)
            .arg(labelled("planted", "planted-llama"))
            .arg("--save-dir")
            .arg(temp.path().join(nsamples));
        let done = run(&mut command).succeeded();
        let said = done.stderr.contains("the means come from these");
        assert_eq!(said, !apart, "{}", done.stderr);
        let folder = only_run(&temp.path().join(nsamples));
        let document = read_json(&folder.join("compare.json"));
        assert_valid("compare", &document);
        let count = nsamples.parse::<usize>().expect("a number");
        let planted = &document["checkpoints"][0]["interventions"];
        assert_eq!(planted["calibration_windows"], count);
        assert_eq!(planted["windows"], count);
        assert!(planted["set_to_mean"]["perplexity"].is_number());
        let rows: Vec<&str> = done.stdout.lines().collect();
        assert!(rows[0].contains("with zeros"), "{}", done.stdout);
    }
}

/// The share of a learned key has a figure, with the checkpoints that have one.
#[test]
fn the_learned_key_has_a_figure() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out");
    let checkpoints = [
        labelled("without", "planted-llama"),
        labelled("with key", "planted-llama-kv-bias"),
    ];
    run(&mut compare(
        &out,
        &checkpoints,
        &["--experiments", "attention"],
    ))
    .succeeded();
    let figure = only_run(&out).join("attention_to_kv_bias.svg");
    let svg = std::fs::read_to_string(figure).expect("written");
    assert!(svg.contains(">with key<"));
    // The other keeps its place in the legend, so that colours mean the same in all figures.
    assert!(svg.contains(">without<") && svg.contains(">none<"));
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
        (&["demo", "--memory-budget", "much"], "--memory-budget"),
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
