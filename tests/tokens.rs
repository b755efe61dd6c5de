//! tokens-analysis through the real program, against transformers and on every family.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use massact::report::text::{
    Datum, DatumLayer, DimensionMagnitude, MassiveToken, PositionMagnitudes, TOKENS_FILE,
    TokensSummary, tokens_text,
};
use serde_json::{Value, json};
use support::picture::assert_pictures;
use support::program::{checkpoint, files, massact, only_run, read_json, run};
use support::reference::{self, Checkpoint, Entry, Magnitude, Tokens, assert_near, tolerance};
use support::schema::assert_valid;
use support::words::{with_word_tokenizer, words};

/// What tokens-analysis leaves.
const TOKENS_FILES: [&str; 9] = [
    "massive_activations_by_layer.pdf",
    "massive_activations_by_layer.png",
    "massive_activations_by_layer.svg",
    "massive_dimensions.json",
    "report.html",
    "run.json",
    "summary.txt",
    "tokens_analysis.json",
    TOKENS_FILE,
];

/// Runs the command on a planted checkpoint's own text; its files are below `save_dir`.
fn analyse(known: &Checkpoint, bos: bool, compat: &str, save_dir: &Path) -> Value {
    let experiments = known.reference.experiments.as_ref().expect("experiments");
    let mut command = massact(["tokens-analysis", "--json", "--quiet", "--pretrained"]);
    command
        .arg(&known.folder)
        .arg("--text-file")
        .arg(known.folder.join(&experiments.text_file))
        .args(["--context-length", &experiments.context_length.to_string()])
        .args(["--nsamples", &experiments.tokens_nsamples.to_string()])
        .args(["--add-bos-token", &bos.to_string(), "--compat", compat])
        .arg("--save-dir")
        .arg(save_dir);
    let done = run(&mut command).succeeded();
    assert_eq!(done.stderr, "", "--quiet");
    done.json()
}

#[test]
fn planted_checkpoints() {
    let mut differed = BTreeSet::new();
    for known in reference::planted() {
        let experiments = known.reference.experiments.as_ref().expect("experiments");
        for expected in &experiments.runs {
            let what = format!("{}, BOS {}", known.name, expected.add_bos_token);
            let temp = tempfile::tempdir().expect("a folder");
            let document = analyse(&known, expected.add_bos_token, "none", temp.path());
            let noise = known.reference.noise.top;
            agrees(&document, &expected.tokens_analysis, noise, &what);
            assert_eq!(document["context_length"], experiments.context_length);
            assert_eq!(document["add_bos_token"], expected.add_bos_token);
            assert_eq!(document["nsamples"], experiments.tokens_nsamples);
            let differs = document["reference_differs"].as_array().expect("a list");
            differed.extend(differs.iter().map(Value::to_string));

            let folder = only_run(temp.path());
            assert_eq!(files(&folder), TOKENS_FILES);
            assert_eq!(read_json(&folder.join("tokens_analysis.json")), document);
            assert_pictures(&folder, "massive_activations_by_layer");
            assert_valid("run", &read_json(&folder.join("run.json")));
            dimensions_agree(
                &read_json(&folder.join("massive_dimensions.json")),
                &expected.tokens_analysis,
                noise,
                &what,
            );
            text_agrees(&folder, &expected.tokens_analysis, &document, false, noise);

            let temp = tempfile::tempdir().expect("a folder");
            let mut other = analyse(&known, expected.add_bos_token, "reference", temp.path());
            assert_eq!(other["compat"], "reference");
            other["compat"] = json!("none");
            assert_eq!(other, document, "{what}: the JSON holds both");
            let folder = only_run(temp.path());
            text_agrees(&folder, &expected.tokens_analysis, &document, true, noise);
        }
    }
    let both: BTreeSet<String> = ["\"dimensions\"", "\"magnitudes\""]
        .map(str::to_owned)
        .into();
    assert_eq!(differed, both, "the checkpoints show what order does");
}

fn agrees(document: &Value, expected: &Tokens, noise: f64, what: &str) {
    assert_valid("tokens_analysis", document);
    assert_eq!(
        document["first_layer"],
        json!(expected.first_layer),
        "{what}"
    );
    assert_eq!(document["dimensions"], json!(expected.dimensions), "{what}");
    assert_eq!(
        document["dimensions_reference"],
        json!(expected.dimensions_reference),
        "{what}"
    );
    assert_eq!(
        document["unique_tokens"],
        json!(expected.unique_tokens),
        "{what}"
    );
    for (name, theirs) in [
        ("magnitudes", &expected.magnitudes),
        ("magnitudes_reference", &expected.magnitudes_reference),
    ] {
        let ours = document[name].as_array().expect(name);
        assert_eq!(ours.len(), theirs.len(), "{what}: {name}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            let at = format!("{what}: {name} {ours}");
            assert_eq!(ours["position"], theirs.position, "{at}");
            assert_eq!(ours["dimension"], theirs.dimension, "{at}");
            assert_eq!(ours["count"], theirs.count, "{at}");
            assert_near(&ours["mean"], theirs.mean, noise, &at);
            // A spread is a difference of values, so it is as exact as these are.
            let std = ours["std"].as_f64().expect("std");
            assert!(
                (std - theirs.std).abs() <= tolerance(noise) * theirs.mean,
                "{at}"
            );
        }
    }
    let same_dimensions = expected.dimensions == expected.dimensions_reference;
    let differs = document["reference_differs"].as_array().expect("a list");
    assert_eq!(
        differs.contains(&json!("dimensions")),
        !same_dimensions,
        "{what}"
    );
    let counts = |list: &[Magnitude]| -> BTreeMap<_, _> {
        list.iter()
            .map(|m| ((m.position, m.dimension), m.count))
            .collect()
    };
    let same_counts = counts(&expected.magnitudes) == counts(&expected.magnitudes_reference);
    assert_eq!(
        differs.contains(&json!("magnitudes")),
        !same_counts,
        "{what}"
    );

    let ours = document["sequences"].as_array().expect("sequences");
    assert_eq!(ours.len(), expected.sequences.len(), "{what}");
    let hits = expected.sequences.iter().filter(|s| !s.layers.is_empty());
    assert_eq!(document["nsamples_massive"], hits.count(), "{what}");
    for (ours, theirs) in ours.iter().zip(&expected.sequences) {
        let at = format!("{what}: sequence {}", theirs.sequence);
        assert_eq!(ours["sequence"], theirs.sequence);
        let first = theirs.layers.first().map(|layer| layer.layer);
        assert_eq!(ours["first_layer"], json!(first), "{at}");
        let layers = ours["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), theirs.layers.len(), "{at}");
        for (ours, theirs) in layers.iter().zip(&theirs.layers) {
            let at = format!("{at}, layer {}", theirs.layer);
            assert_eq!(ours["layer"], theirs.layer, "{at}");
            same_entries(&ours["massive"], &theirs.massive, noise, &at);
        }
        for (position, token) in ours["tokens"].as_object().expect("tokens") {
            let position: usize = position.parse().expect("a position");
            let token = token.as_str().expect("a text").to_owned();
            assert!(expected.unique_tokens[&position].contains(&token), "{at}");
        }
    }
}

fn same_entries(ours: &Value, theirs: &[Entry], noise: f64, at: &str) {
    let ours = ours.as_array().expect("entries");
    assert_eq!(ours.len(), theirs.len(), "{at}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours["position"], theirs.position, "{at}");
        assert_eq!(ours["dimension"], theirs.dimension, "{at}");
        assert_near(&ours["value"], theirs.value, noise, at);
    }
}

/// massive_dimensions.json, gathered again from transformers' values.
fn dimensions_agree(document: &Value, expected: &Tokens, noise: f64, what: &str) {
    assert_valid("massive_dimensions", document);
    assert_eq!(
        document["first_layer"],
        json!(expected.first_layer),
        "{what}"
    );
    let mut gathered: BTreeMap<(usize, usize), Vec<(usize, &Entry)>> = BTreeMap::new();
    for sequence in &expected.sequences {
        for layer in &sequence.layers {
            for entry in &layer.massive {
                let place = (layer.layer, entry.dimension);
                gathered
                    .entry(place)
                    .or_default()
                    .push((sequence.sequence, entry));
            }
        }
    }
    let ours = document["massive_dimensions"].as_array().expect("a list");
    assert_eq!(ours.len(), gathered.len(), "{what}");
    for (ours, (&(layer, dimension), found)) in ours.iter().zip(&gathered) {
        let at = format!("{what}: {ours}");
        assert_eq!(
            (&ours["layer"], &ours["dimension"]),
            (&json!(layer), &json!(dimension))
        );
        let positions: BTreeSet<usize> = found.iter().map(|(_, e)| e.position).collect();
        assert_eq!(ours["positions"], json!(positions), "{at}");
        assert_eq!(ours["count"], found.len(), "{at}");
        let sequences: BTreeSet<usize> = found.iter().map(|(sequence, _)| *sequence).collect();
        let share = sequences.len() as f64 / expected.sequences.len() as f64;
        assert_eq!(ours["sequence_share"], json!(share), "{at}");
        let sum: f64 = found.iter().map(|(_, entry)| entry.value.abs()).sum();
        assert_near(&ours["mean"], sum / found.len() as f64, noise, &at);
        let largest = found.iter().map(|(_, e)| e.value.abs()).fold(0.0, f64::max);
        assert_near(&ours["max"], largest, noise, &at);
        let sign = match found.iter().filter(|(_, entry)| entry.value > 0.0).count() {
            0 => "negative",
            count if count == found.len() => "positive",
            _ => "mixed",
        };
        assert_eq!(ours["sign"], sign, "{at}");
        let persists = (layer..).take_while(|layer| gathered.contains_key(&(*layer, dimension)));
        assert_eq!(ours["persists"], persists.count(), "{at}");
        let tokens = ours["tokens"].as_array().expect("tokens");
        for token in tokens {
            let token = token.as_str().expect("a text").to_owned();
            let known = |position| expected.unique_tokens[position].contains(&token);
            assert!(positions.iter().any(known), "{at}");
        }
    }
}

/// The text file, beside the one made of transformers' values and our tokens.
fn text_agrees(folder: &Path, expected: &Tokens, document: &Value, compat: bool, noise: f64) {
    let ours = std::fs::read_to_string(folder.join(TOKENS_FILE)).expect("the text file");
    let data: Vec<Datum> = expected
        .sequences
        .iter()
        .filter(|sequence| !sequence.layers.is_empty())
        .map(|sequence| {
            let tokens = &document["sequences"][sequence.sequence]["tokens"];
            let layers = sequence.layers.iter().map(|layer| {
                let same_position = |a: &Entry, b: &Entry| a.position == b.position;
                let places = layer
                    .massive
                    .chunk_by(same_position)
                    .map(|same| MassiveToken {
                        position: same[0].position,
                        token: tokens[same[0].position.to_string()]
                            .as_str()
                            .expect("a token")
                            .into(),
                        magnitudes: same.iter().map(|e| (e.dimension, e.value.abs())).collect(),
                    });
                DatumLayer {
                    layer: layer.layer,
                    tokens: places.collect(),
                }
            });
            Datum {
                layers: layers.collect(),
            }
        })
        .collect();
    let mut positions: Vec<usize> = expected.unique_tokens.keys().copied().collect();
    if compat {
        let layers = data.iter().flat_map(|datum| &datum.layers);
        let all: Vec<usize> = layers
            .flat_map(|l| l.tokens.iter().map(|t| t.position))
            .collect();
        positions.sort_by_key(|position| all.iter().position(|other| other == position));
    }
    let magnitudes = match compat {
        true => &expected.magnitudes_reference,
        false => &expected.magnitudes,
    };
    let summary = TokensSummary {
        first_layer: expected.first_layer,
        dimensions: match compat {
            true => expected.dimensions_reference.clone(),
            false => expected.dimensions.clone(),
        },
        magnitudes: magnitudes
            .chunk_by(|a, b| a.position == b.position)
            .map(|same| PositionMagnitudes {
                position: same[0].position,
                dimensions: same
                    .iter()
                    .map(|m| DimensionMagnitude {
                        dimension: m.dimension,
                        mean: m.mean,
                        std: m.std,
                    })
                    .collect(),
            })
            .collect(),
        unique_tokens: positions
            .into_iter()
            .map(|position| (position, expected.unique_tokens[&position].clone()))
            .collect(),
    };
    same_but_for_noise(&ours, &tokens_text(&data, &summary), noise);
}

/// Equal texts, but for the last digits of numbers with a decimal point.
fn same_but_for_noise(ours: &str, theirs: &str, noise: f64) {
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{ours}");
    let number = |word: &str| -> Option<f64> {
        let digits = word.trim_matches([',', '}']);
        digits.contains('.').then(|| digits.parse().ok()).flatten()
    };
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (words(ours), words(theirs));
        assert_eq!(ours.len(), theirs.len(), "{ours:?}\n{theirs:?}");
        for (a, b) in ours.iter().zip(&theirs) {
            match (number(a), number(b)) {
                // A standard deviation is as exact as the thousands that it is made of.
                (Some(x), Some(y)) => assert!(
                    (x - y).abs() <= tolerance(noise) * y.max(1000.0),
                    "{a} instead of {b} in {ours:?}"
                ),
                _ => assert_eq!(a, b, "{ours:?}\n{theirs:?}"),
            }
        }
    }
}

#[test]
fn the_demo_says_where_and_writes_everything() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(["tokens-analysis", "--save-dir"]);
    let done = run(command.arg(temp.path())).succeeded();
    let folder = only_run(temp.path());
    assert_eq!(files(&folder), TOKENS_FILES);
    let document = read_json(&folder.join("tokens_analysis.json"));
    assert_valid("tokens_analysis", &document);
    assert_eq!(document["nsamples"], 50, "the built-in text is long enough");
    assert!(!done.stderr.contains("windows"), "{}", done.stderr);
    assert!(
        done.stderr.contains(folder.to_str().expect("UTF-8")),
        "{}",
        done.stderr
    );
    let verdict = format!(
        "demo: massive activations from layer {}, dimensions ",
        document["first_layer"]
    );
    assert!(done.stdout.contains(&verdict), "{}", done.stdout);
    assert!(done.stdout.contains("<s>"), "{}", done.stdout);
    let export = read_json(&folder.join("massive_dimensions.json"));
    assert_valid("massive_dimensions", &export);
    let mut dimensions: Vec<u64> = export["massive_dimensions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|found| found["dimension"].as_u64())
        .collect();
    dimensions.sort_unstable();
    dimensions.dedup();
    assert_eq!(json!(dimensions), document["dimensions"]);
    assert_pictures(&folder, "massive_activations_by_layer");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("the page");
    assert!(page.contains(&verdict));
    for outside in ["src=\"http", "href=\"http", "@import", "<script src"] {
        assert!(!page.contains(outside), "the page refers to {outside}");
    }
}

#[test]
fn nothing_massive_is_an_answer_too() {
    let temp = tempfile::tempdir().expect("a folder");
    let common = [
        "tokens_analysis",
        "--nsamples",
        "2",
        "--abs-threshold",
        "1e9",
        "--save-dir",
    ];
    let done = run(massact(common).arg(temp.path())).succeeded();
    assert!(
        done.stdout.contains("demo has no massive activations"),
        "{}",
        done.stdout
    );
    assert_eq!(done.stdout.lines().count(), 1, "no empty table");
    let folder = only_run(temp.path());
    assert_eq!(files(&folder), TOKENS_FILES);
    let document = read_json(&folder.join("tokens_analysis.json"));
    assert_valid("tokens_analysis", &document);
    assert_eq!(document["first_layer"], Value::Null);
    assert_eq!(document["dimensions"], json!([]));
    assert_eq!(document["reference_differs"], json!([]));
    let export = read_json(&folder.join("massive_dimensions.json"));
    assert_valid("massive_dimensions", &export);
    assert_eq!(export["massive_dimensions"], json!([]));
    let text = std::fs::read_to_string(folder.join(TOKENS_FILE)).expect("the text file");
    assert_eq!(text, tokens_text(&[], &TokensSummary::default()));
}

/// Falcon's reference text is longer than what is asked of it here.
#[test]
fn both_summaries_are_named_where_they_differ() {
    let folder = checkpoint("planted-falcon");
    let text = folder.join("text.txt");
    let said = |compat: &str| {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["tokens-analysis", "--quiet", "--context-length", "32"]);
        command
            .arg("--pretrained")
            .arg(&folder)
            .arg("--text-file")
            .arg(&text);
        command
            .args(["--compat", compat, "--save-dir"])
            .arg(temp.path());
        run(&mut command).succeeded().stdout
    };
    let [clean, reference] = ["none", "reference"].map(said);
    let hint =
        "; by the reference program, the dimensions and magnitudes differ (--compat reference)";
    assert!(clean.contains(hint), "{clean}");
    assert!(
        clean.contains("dimensions 5, 7, 9, 12, 14, 21, in"),
        "{clean}"
    );
    let hint = "; by the definition, the dimensions and magnitudes differ (--compat none)";
    assert!(reference.contains(hint), "{reference}");
    assert!(
        reference.contains("dimensions 5, 7, 9, 12, 21, in"),
        "{reference}"
    );
}

/// Every family, with thresholds low enough to find something in random weights.
#[test]
fn every_family_runs() {
    const MEDIANS: f64 = 2.0;
    for known in reference::all() {
        let sequence = known.reference.sequences.last().expect("a sequence");
        let temp = tempfile::tempdir().expect("a folder");
        let vocab_size = massact::model::Model::open(&known.folder)
            .expect("opens")
            .spec
            .vocab_size;
        let folder = with_word_tokenizer(&known.name, vocab_size, temp.path());
        let text = temp.path().join("words.txt");
        std::fs::write(&text, words(&sequence.token_ids)).expect("written");
        let mut command = massact([
            "tokens-analysis",
            "--json",
            "--quiet",
            "--add-bos-token=false",
        ]);
        command
            .arg("--pretrained")
            .arg(&folder)
            .arg("--text-file")
            .arg(&text);
        command.args(["--context-length", &sequence.token_ids.len().to_string()]);
        command.args([
            "--abs-threshold",
            "0",
            "--rel-threshold",
            &MEDIANS.to_string(),
        ]);
        let document = run(command.arg("--save-dir").arg(temp.path().join("out")))
            .succeeded()
            .json();
        assert_valid("tokens_analysis", &document);
        let layers = document["sequences"][0]["layers"]
            .as_array()
            .expect("layers");
        assert_eq!(
            layers.len(),
            sequence.layers.len(),
            "{}: every layer has a peak",
            known.name
        );
        let noise = known.reference.noise.top;
        for (ours, theirs) in layers.iter().zip(&sequence.layers) {
            let at = format!("{}, layer {}", known.name, theirs.layer);
            let massive = ours["massive"].as_array().expect("massive");
            for peak in theirs
                .top
                .iter()
                .filter(|e| e.value.abs() > 1.01 * MEDIANS * theirs.median)
            {
                let place = (&json!(peak.position), &json!(peak.dimension));
                let found = massive
                    .iter()
                    .find(|e| (&e["position"], &e["dimension"]) == place);
                let found = found.unwrap_or_else(|| panic!("{at}: no {peak:?}"));
                assert_near(&found["value"], peak.value, noise, &at);
            }
            for entry in massive {
                let value = entry["value"].as_f64().expect("a value").abs();
                assert!(value > 0.99 * MEDIANS * theirs.median, "{at}: {entry}");
            }
        }
        let position = sequence.layers[0].top[0].position;
        let token = &document["unique_tokens"][position.to_string()];
        assert_eq!(
            *token,
            json!([format!("w{}", sequence.token_ids[position])]),
            "{}",
            known.name
        );
    }
}
