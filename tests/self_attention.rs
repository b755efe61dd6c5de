//! self-attention and figures through the real program: every family, transformers' decomposition,
//! the definitions worked out again from transformers' maps, and long sequences.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use massact::engine::Site;
use massact::model::Model;
use serde_json::{Value, json};
use support::damage;
use support::program::{files, massact, only_run, read_json, run};
use support::reference::{self, Checkpoint};
use support::schema::assert_valid;
use support::tensors::{self, Tensor, rms};

const ATTENTION_FILES: [&str; 17] = [
    "attention.safetensors",
    "attention_output_by_head.pdf",
    "attention_output_by_head.png",
    "attention_output_by_head.svg",
    "attention_output_decomposition.pdf",
    "attention_output_decomposition.png",
    "attention_output_decomposition.svg",
    "attention_trajec.pdf",
    "attention_trajec.png",
    "attention_trajec.svg",
    "report.html",
    "run.json",
    "self_attention.json",
    "self_attention.pdf",
    "self_attention.png",
    "self_attention.svg",
    "summary.txt",
];

const FIGURES_FILES: [&str; 17] = [
    "figures.json",
    "layernorm.pdf",
    "layernorm.png",
    "layernorm.svg",
    "mlp.pdf",
    "mlp.png",
    "mlp.svg",
    "output_feature_tokenwise.pdf",
    "output_feature_tokenwise.png",
    "output_feature_tokenwise.svg",
    "output_feature_tokenwise.txt",
    "qkv.pdf",
    "qkv.png",
    "qkv.svg",
    "report.html",
    "run.json",
    "summary.txt",
];

/// A finished run: what it printed and where its files are.
struct Ran {
    document: Value,
    folder: PathBuf,
    _temp: tempfile::TempDir,
}

impl Ran {
    fn tensors(&self, name: &str) -> BTreeMap<String, Tensor> {
        tensors::read(&self.folder.join(name))
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).expect(name)
    }
}

fn ran(command: &str, checkpoint: &Path, more: &[&str]) -> Ran {
    let temp = tempfile::tempdir().expect("a folder");
    let mut program = massact([command, "--quiet", "--json", "--pretrained"]);
    program.arg(checkpoint).arg("--save-dir").arg(temp.path());
    let document = run(program.args(more)).succeeded().json();
    Ran {
        document,
        folder: only_run(temp.path()),
        _temp: temp,
    }
}

/// The sequence whose attention the reference holds.
fn ids(checkpoint: &Checkpoint) -> String {
    let reference = &checkpoint.reference;
    reference.sequences[reference.attention_sequence].argument()
}

/// One checkpoint of every family, whatever its attention.
#[test]
fn every_family() {
    let mut seen = BTreeSet::new();
    for checkpoint in reference::all() {
        if !seen.insert(checkpoint.model_type.clone()) {
            continue;
        }
        let name = &checkpoint.name;
        let ids = ids(&checkpoint);
        let theirs = tensors::read(&checkpoint.folder.join("reference.safetensors"));
        if theirs.is_empty() {
            // tests/hybrid.rs says more of models without attention.
            let which = ["--token-ids", &ids];
            let figures = ran("figures", &checkpoint.folder, &which);
            assert_valid("figures", &figures.document);
            continue;
        }
        let attention = ran("self-attention", &checkpoint.folder, &["--token-ids", &ids]);
        assert_valid("self_attention", &attention.document);
        assert_valid("run", &read_json(&attention.folder.join("run.json")));
        assert_eq!(files(&attention.folder), ATTENTION_FILES, "{name}");
        let maps = attention.tensors("attention.safetensors");
        assert!(maps.keys().eq(theirs.keys()), "{name}");
        let layers = attention.document["layers"].as_array().expect("layers");
        let mut without = Vec::new();
        for (layer, found) in layers.iter().enumerate() {
            assert_eq!(found["layer"], layer, "{name}");
            if !theirs.contains_key(&format!("layer.{layer}.probs_mean")) {
                without.push(layer);
                for field in [
                    "attention_to_followed",
                    "share_of_followed",
                    "decomposition",
                ] {
                    assert_eq!(found[field], Value::Null, "{name}, layer {layer}: {field}");
                }
                assert_eq!(found["sinks"], json!([]), "{name}, layer {layer}");
                continue;
            }
            let decomposition = &found["decomposition"];
            let number = |field: &str| decomposition[field].as_f64().expect(field);
            // |m| and |r| are the sides of a triangle with |m + r|.
            let (whole, part, rest) = (
                number("norm_attention"),
                number("norm_followed"),
                number("norm_rest"),
            );
            assert!(whole <= (part + rest) * 1.000_01, "{name}, layer {layer}");
            assert!(part <= (whole + rest) * 1.000_01, "{name}, layer {layer}");
            // So are those of every head, and the heads' outputs add up to the whole.
            let heads = decomposition["heads"].as_array().expect("heads");
            assert_eq!(heads.len(), found["sinks"].as_array().expect("sinks").len());
            let of_head = |head: &Value, field: &str| head[field].as_f64().expect(field);
            for head in heads {
                let [whole, part, rest] = ["norm_attention", "norm_followed", "norm_rest"]
                    .map(|field| of_head(head, field));
                assert!(whole <= (part + rest) * 1.000_01, "{name}, layer {layer}");
            }
            let sum: f64 = heads
                .iter()
                .map(|head| of_head(head, "norm_attention"))
                .sum();
            assert!(whole <= sum * 1.000_01, "{name}, layer {layer}");
        }

        assert_eq!(
            attention.document["layers_without_attention"],
            json!(without),
            "{name}"
        );

        // The 3-D figure is of the hidden state, which all families have alike.
        let which = ["--token-ids", &ids, "--which", "qkv,mlp,layernorm"];
        let figures = ran("figures", &checkpoint.folder, &which);
        assert_valid("figures", &figures.document);
        let spec = Model::open(&checkpoint.folder).expect("it opens").spec;
        let absent = figures.document["absent_sites"].as_array().expect("a list");
        let sites = figures.document["sites"].as_object().expect("sites");
        assert_eq!(sites.len() + absent.len(), 10);
        for (site, values) in sites {
            let values = values.as_array().expect("a list").iter();
            let found: Vec<_> = values.map(|value| value["layer"].as_u64()).collect();
            let site = Site::parse(site).expect(site);
            let having = (0..layers.len()).filter(|layer| site.is_in(&spec.layers[*layer]));
            let having: Vec<_> = having.map(|layer| Some(layer as u64)).collect();
            assert_eq!(found, having, "{name}: {}", site.name());
            assert!(!found.is_empty() && !absent.contains(&json!(site.name())));
        }
    }
}

/// tools/make_decompositions.py has these from transformers in float64.
#[test]
fn the_parts_are_those_of_transformers() {
    let mut compared = 0;
    for checkpoint in reference::all() {
        let path = checkpoint.folder.join("decomposition.safetensors");
        if !path.exists() {
            continue;
        }
        compared += 1;
        let theirs = tensors::read(&path);
        let positions: Vec<String> = theirs["positions"]
            .values
            .iter()
            .map(f32::to_string)
            .collect();
        let ids = ids(&checkpoint);
        let arguments = [
            "--token-ids",
            &ids,
            "--raw",
            "--positions",
            &positions.join(","),
        ];
        let found = ran("self-attention", &checkpoint.folder, &arguments);
        assert_eq!(found.document["followed_because"], "given");
        let ours = found.tensors("attention_output.safetensors");
        assert_eq!(ours.len() + 1, theirs.len(), "{}", checkpoint.name);
        let tolerance = (4.0 * checkpoint.reference.noise.hidden + 2e-6).min(1e-4);
        for (name, ours) in &ours {
            let (theirs, whole) = (&theirs[name], &theirs[&name.replace("followed", "output")]);
            assert_eq!(ours.shape, theirs.shape, "{}: {name}", checkpoint.name);
            let scale = rms(&whole.values);
            for (ours, theirs) in ours.values.iter().zip(&theirs.values) {
                let error = f64::from((ours - theirs).abs());
                assert!(
                    error <= tolerance * scale,
                    "{}: {name}: {ours} instead of {theirs}",
                    checkpoint.name
                );
            }
        }
    }
    assert!(compared >= 10, "{compared}");
}

/// tools/make_decompositions.py has what each head gives from the weights and heads of transformers in float64.
#[test]
fn heads_are_those_of_transformers() {
    let mut compared = 0;
    for checkpoint in reference::all() {
        let path = checkpoint.folder.join("decomposition.json");
        if !path.exists() {
            continue;
        }
        let theirs = read_json(&path);
        let positions: Vec<String> = theirs["positions"]
            .as_array()
            .expect("positions")
            .iter()
            .map(Value::to_string)
            .collect();
        let (ids, positions) = (ids(&checkpoint), positions.join(","));
        let arguments = ["--token-ids", &ids, "--positions", &positions];
        let found = ran("self-attention", &checkpoint.folder, &arguments);
        let layers = found.document["layers"].as_array().expect("layers");
        let tolerance = (4.0 * checkpoint.reference.noise.hidden + 2e-6).min(1e-4);
        for wanted in theirs["layers"].as_array().expect("layers") {
            let layer = wanted["layer"].as_u64().expect("a number");
            let what = format!("{}: layer {layer}", checkpoint.name);
            let ours = &layers[layer as usize]["decomposition"];
            let (ours, wanted) = (ours["heads"].as_array(), wanted["heads"].as_array());
            let (ours, wanted) = (ours.expect("heads"), wanted.expect("heads"));
            assert_eq!(ours.len(), wanted.len(), "{what}");
            let norms = wanted
                .iter()
                .filter_map(|head| head["norm_attention"].as_f64());
            let scale = norms.fold(0.0, f64::max);
            for (ours, wanted) in ours.iter().zip(wanted) {
                for field in ["norm_attention", "norm_followed", "norm_rest", "cosine"] {
                    let what = format!("{what}: head {}: {field}", ours["head"]);
                    let (Some(a), Some(b)) = (ours[field].as_f64(), wanted[field].as_f64()) else {
                        assert_eq!(ours[field], wanted[field], "{what}");
                        continue;
                    };
                    let allowed = match field {
                        // A small difference of two parts turns with their rounding.
                        "cosine" => tolerance + 4.0 * wanted["noise"].as_f64().expect("noise"),
                        _ => tolerance * scale,
                    };
                    assert!((a - b).abs() <= allowed, "{what}: {a} instead of {b}");
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 200, "{compared}");
}

/// Two sets of keys that make all of them give the whole output, which is computed another way.
#[test]
fn all_keys_together_give_the_whole_output() {
    for name in ["planted-llama", "planted-gpt2", "gpt-oss", "kv-bias-llama"] {
        let checkpoint = reference::load(name);
        let ids = ids(&checkpoint);
        let tokens = ids.split(',').count();
        let parts = [0, 1].map(|first| {
            let positions: Vec<String> =
                (first..tokens).step_by(2).map(|p| p.to_string()).collect();
            let list = positions.join(",");
            let arguments = ["--token-ids", &ids, "--raw", "--positions", &list];
            let found = ran("self-attention", &checkpoint.folder, &arguments);
            found.tensors("attention_output.safetensors")
        });
        for layer in 0..parts[0].len() / 2 {
            let whole = &parts[0][&format!("layer.{layer}.output")].values;
            let followed = parts
                .each_ref()
                .map(|p| &p[&format!("layer.{layer}.followed")].values);
            let scale = rms(whole);
            let mut largest = 0.0f64;
            for (index, whole) in whole.iter().enumerate() {
                let sum = f64::from(followed[0][index]) + f64::from(followed[1][index]);
                largest = largest.max((sum - f64::from(*whole)).abs() / scale);
            }
            // The key that attention KV bias adds is no token: its part is missing.
            if name.starts_with("kv-bias") {
                assert!(largest > 1e-2, "{name}, layer {layer}: {largest}");
            } else {
                assert!(largest < 1e-5, "{name}, layer {layer}: {largest}");
            }
        }
    }
}

/// The definitions at the head of src/experiments/self_attention/mod.rs, from transformers' maps.
#[test]
fn planted_tokens_are_followed() {
    // The last of them has attention in two of its layers.
    for name in ["planted-llama", "planted-gpt2", "planted-lfm2"] {
        let checkpoint = reference::load(name);
        let sequence = &checkpoint.reference.sequences[checkpoint.reference.attention_sequence];
        let found = ran(
            "self-attention",
            &checkpoint.folder,
            &["--token-ids", &ids(&checkpoint)],
        );
        let document = &found.document;
        let entries = sequence.layers.iter().flat_map(|layer| &layer.massive);
        let massive: BTreeSet<usize> = entries.map(|entry| entry.position).collect();
        assert!(massive.len() > 1, "{massive:?}");
        assert_eq!(document["massive_positions"], json!(massive));
        assert_eq!(document["followed"], json!(massive));
        assert_eq!(document["followed_because"], "massive");
        let maps = tensors::read(&checkpoint.folder.join("reference.safetensors"));
        let tokens = sequence.token_ids.len();
        for (layer, ours) in document["layers"]
            .as_array()
            .expect("layers")
            .iter()
            .enumerate()
        {
            let known = sequence.layers[layer].massive.len();
            assert_eq!(ours["massive"].as_array().map(Vec::len), Some(known));
            if !maps.contains_key(&format!("layer.{layer}.probs_mean")) {
                let attention = ["attention_to_followed", "share_of_followed", "even_share"];
                for field in attention
                    .iter()
                    .chain(&["logit_of_others", "decomposition"])
                {
                    assert_eq!(ours[field], Value::Null, "{name}, layer {layer}: {field}");
                }
                continue;
            }
            let map = |kind: &str| &maps[&format!("layer.{layer}.{kind}_mean")].values;
            let (probs, logits) = (map("probs"), map("logits"));
            let (mut shares, mut evens, mut others) = (vec![], vec![], vec![]);
            for query in (0..tokens).filter(|query| !massive.contains(query)) {
                let keys = || (0..=query).filter(|key| massive.contains(key));
                if keys().count() == 0 {
                    continue;
                }
                let at = |key: usize| query * tokens + key;
                shares.push(keys().map(|key| f64::from(probs[at(key)])).sum::<f64>());
                evens.push(keys().count() as f64 / (query + 1) as f64);
                let rest = (0..=query).filter(|key| !massive.contains(key));
                others.extend(rest.map(|key| f64::from(logits[at(key)])));
            }
            let near = |field: &str, values: &[f64]| {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let ours = ours[field].as_f64().expect(field);
                assert!(
                    (ours - mean).abs() < 2e-5,
                    "{name}, {field}: {ours}, {mean}"
                );
            };
            near("attention_to_followed", &shares);
            near("even_share", &evens);
            let received = (0..tokens).flat_map(|query| {
                let keys = (0..=query).filter(|key| massive.contains(key));
                keys.map(move |key| query * tokens + key)
            });
            let received: f64 = received.map(|at| f64::from(probs[at])).sum();
            near("share_of_followed", &[received / tokens as f64]);
            near("logit_of_others", &others);
            let mass = &maps[&format!("layer.{layer}.sink_mass")];
            for (head, mass) in mass.values.chunks(tokens).enumerate() {
                let largest = mass.iter().copied().fold(0.0, f32::max);
                let ours = ours["sinks"][head]["mass"].as_f64().expect("a mass");
                assert!((ours - f64::from(largest)).abs() < 1e-5, "{ours} {largest}");
            }
        }
        // Bold and red on the key axis of every layer's map, and nowhere else.
        let svg = found.text("self_attention.svg");
        let red = svg.matches(r##"font-weight="700" fill="#c00000""##).count();
        let mapped = maps.keys().filter(|key| key.ends_with("probs_mean"));
        assert_eq!(red, massive.len() * mapped.count());
    }
}

#[test]
fn figures_show_what_was_planted() {
    let checkpoint = reference::load("planted-llama");
    let sequence = &checkpoint.reference.sequences[checkpoint.reference.attention_sequence];
    let found = ran(
        "figures",
        &checkpoint.folder,
        &["--token-ids", &sequence.argument()],
    );
    assert_valid("figures", &found.document);
    assert_eq!(files(&found.folder), FIGURES_FILES);
    let mut text = String::new();
    for (layer, theirs) in sequence.layers.iter().enumerate() {
        let ours = &found.document["layers"][layer];
        let places = |entry: &Value| (entry["position"].as_u64(), entry["dimension"].as_u64());
        let ours: Vec<_> = ours["massive"]
            .as_array()
            .expect("a list")
            .iter()
            .map(places)
            .collect();
        let known: Vec<_> = (theirs.massive.iter())
            .map(|entry| (Some(entry.position as u64), Some(entry.dimension as u64)))
            .collect();
        assert_eq!(ours, known, "layer {layer}");
        if !theirs.massive.is_empty() {
            let positions: BTreeSet<usize> = theirs.massive.iter().map(|e| e.position).collect();
            text.push_str(&format!(
                "Token Positions with Massive Activations: {:?}\n",
                positions.into_iter().collect::<Vec<_>>()
            ));
        }
    }
    let written = found.text("output_feature_tokenwise.txt");
    let lines: String = (written.lines())
        .filter(|line| line.starts_with("Token Positions"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(lines, text);
    assert_eq!(written.matches(" | Max Activation: ").count(), 4);
    // Norms turn the planted values into ordinary ones.
    let max = |site: &str| {
        found.document["sites"][site][2]["max"]
            .as_f64()
            .expect(site)
    };
    assert!(max("layer_input") > 1000.0 && max("attention_input") < 10.0);
    let only = ran("figures", &checkpoint.folder, &["--which", "qkv"]);
    assert_eq!(
        files(&only.folder),
        [
            "figures.json",
            "qkv.pdf",
            "qkv.png",
            "qkv.svg",
            "report.html",
            "run.json",
            "summary.txt"
        ]
    );
}

/// Head by head on request, and only where asked for.
#[test]
fn heads_of_chosen_layers() {
    let checkpoint = reference::load("planted-llama");
    let found = ran(
        "self-attention",
        &checkpoint.folder,
        &["--heads", "2,0", "--show-logits", "false"],
    );
    let names = files(&found.folder);
    for layer in [0, 2] {
        assert!(names.contains(&format!("self_attention_layer_{layer}_heads.png")));
    }
    let maps = found.tensors("attention.safetensors");
    let tokens = found.document["tokens"].as_array().expect("tokens").len();
    assert_eq!(maps["layer.2.probs"].shape, [6, tokens, tokens]);
    assert_eq!(
        maps.keys().filter(|name| name.ends_with(".probs")).count(),
        2
    );
    assert!(
        found
            .text("self_attention.svg")
            .contains("attention probabilities")
    );
    // The default sentence.
    assert_eq!(found.document["show_logits"], false);
    let text = found.document["tokens"].as_array().expect("tokens").iter();
    let text: String = text.filter_map(Value::as_str).collect();
    assert!(text.contains("Winter") || text.contains('W'), "{text}");
}

/// Maps of each head over 4096 tokens would take 805 MB a layer.
#[test]
fn memory_is_linear_in_the_length_for_each_head() {
    let temp = tempfile::tempdir().expect("a folder");
    let folder = temp.path().join("long");
    damage::copy("planted-llama", &folder);
    damage::edit_json(&folder.join("config.json"), |config| {
        config.insert("max_position_embeddings".into(), json!(4096));
        config.insert("num_hidden_layers".into(), json!(1));
    });
    let text = support::program::checkpoint("planted-llama").join("text.txt");
    let text = std::fs::read_to_string(text).expect("text").repeat(2);
    let long = temp.path().join("long.txt");
    std::fs::write(&long, text).expect("written");
    let long = long.to_str().expect("UTF-8");
    let more = ["--text-file", long, "--context-length", "4096"];
    let found = ran("self-attention", &folder, &more);
    assert_eq!(
        found.document["token_ids"].as_array().map(Vec::len),
        Some(4096)
    );
    let record = read_json(&found.folder.join("run.json"));
    let peak = record["peak_memory_bytes"].as_u64().expect("a peak");
    assert!(peak < 400_000_000, "{peak} bytes");
    // The picture is readable, and says what was done for that.
    let svg = found.text("self_attention.svg");
    assert!(svg.len() < 2_000_000, "{} bytes", svg.len());
    assert!(svg.contains("each cell shows the largest of 16 x 16 values"));
    assert!(svg.contains("some token labels are left out"));

    let figures = ran("figures", &folder, &more);
    let svg = figures.text("output_feature_tokenwise.svg");
    assert!(svg.contains("a line: the largest of 64 tokens"));

    let mut command = massact(["self-attention", "--heads", "all", "--save-dir"]);
    command.arg(temp.path()).arg("--pretrained").arg(&folder);
    let refused = run(command.args(more));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--heads"), "{}", refused.stderr);
}

#[test]
fn wrong_usage_is_said_in_one_line() {
    let temp = tempfile::tempdir().expect("a folder");
    for (arguments, word) in [
        (
            &["self-attention", "--positions", "99"][..],
            "--positions 99",
        ),
        (&["self-attention", "--heads", "6"], "6 layers"),
        (&["self-attention", "--context-length", "4"], "--text-file"),
        (&["figures", "--context-length", "4"], "--text-file"),
        (
            &["figures", "--token-ids", "1", "--sentence", "x"],
            "--sentence",
        ),
        (&["figures", "--which", "logits"], "layernorm"),
    ] {
        let mut command = massact(arguments);
        let done = run(command.arg("--save-dir").arg(temp.path()));
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{arguments:?}: {}", done.stderr);
    }
    assert!(files(temp.path()).is_empty());
}

#[test]
fn the_reference_programs_name_and_defaults() {
    let runs = ["self-attention", "self_attention"].map(|name| {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact([name, "--json", "--quiet", "--save-dir"]);
        run(command.arg(temp.path())).succeeded().stdout
    });
    assert_eq!(runs[0], runs[1]);
    let document: Value = serde_json::from_str(&runs[0]).expect("JSON");
    let text = document["tokens"].as_array().expect("tokens").iter();
    let text: String = text.filter_map(Value::as_str).collect();
    assert_eq!(text, "<s>Summer is warm. Winter is cold.");
    assert_eq!(document["show_logits"], true);
    assert_eq!(document["massive_positions"], json!([0]));
}
