//! `massact compare`: what became of the first checkpoint's massive activations, against the raw hidden
//! states of both.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use support::damage::{Parts, changed};
use support::program::{checkpoint, massact, only_run, read_json, run};
use support::{schema::assert_valid, tensors};

/// Layer, sequence, position, dimension.
type Place = (usize, usize, usize, usize);

/// planted-llama with other rows in one layer's down projection: one massive dimension is gone, one is
/// larger, and a dimension has become massive.
fn variant() -> tempfile::TempDir {
    changed("planted-llama", |folder| {
        let path = folder.join("model.safetensors");
        let mut parts = Parts::read(&path);
        let name = "model.layers.1.mlp.down_proj.weight";
        let (start, end) = parts.range(name);
        assert_eq!(parts.header[name]["dtype"], "F32");
        let rows = parts.header[name]["shape"][0].as_u64().expect("rows") as usize;
        let row = (end - start) / rows;
        let at = |dimension: usize| start + dimension * row;
        let new = parts.data[at(21)..at(21) + row].to_vec();
        for (dimension, factor) in [(12, 0.01), (7, 1.25)] {
            for value in parts.data[at(dimension)..at(dimension) + row].chunks_exact_mut(4) {
                let old = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
                value.copy_from_slice(&(old * factor).to_le_bytes());
            }
        }
        parts.data[at(30)..at(30) + row].copy_from_slice(&new);
        std::fs::write(path, parts.bytes()).expect("written");
    })
}

fn with_text(command: &str, temp: &Path) -> std::process::Command {
    let mut command = massact([
        command,
        "--context-length",
        "32",
        "--nsamples",
        "3",
        "--json",
    ]);
    let text = checkpoint("planted-llama").join("text.txt");
    command.arg("--text-file").arg(text);
    command.arg("--save-dir").arg(temp);
    command
}

/// Every value of every layer's output, and those that are massive by the definition.
fn hidden(folder: &Path, temp: &Path) -> (BTreeMap<Place, f32>, BTreeSet<Place>) {
    let mut command = with_text("capture", temp);
    run(command.arg("--raw").arg("--pretrained").arg(folder)).succeeded();
    let found = tensors::read(&only_run(temp).join("capture.safetensors"));
    let (mut values, mut massive) = (BTreeMap::new(), BTreeSet::new());
    for (name, tensor) in found {
        let parts: Vec<&str> = name.split('.').collect();
        let ["layer_output", layer, sequence] = parts[..] else {
            panic!("{name}");
        };
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let (layer, sequence) = (number(layer), number(sequence));
        let mut sorted: Vec<f32> = tensor.values.iter().map(|value| value.abs()).collect();
        sorted.sort_by(f32::total_cmp);
        let median = sorted[(sorted.len() - 1) / 2];
        for (index, value) in tensor.values.iter().enumerate() {
            let columns = tensor.shape[1];
            let place = (layer, sequence, index / columns, index % columns);
            values.insert(place, *value);
            if value.abs() > 100.0 && value.abs() > 1000.0 * median {
                massive.insert(place);
            }
        }
    }
    (values, massive)
}

#[test]
fn each_massive_activation_is_followed() {
    let temp = tempfile::tempdir().expect("a folder");
    let (first, other) = (checkpoint("planted-llama"), variant());
    let out = temp.path().join("out");
    let mut command = with_text("compare", &out);
    command.arg(format!("first={}", first.display()));
    command.arg(format!("second={}", other.path().display()));
    let document = run(&mut command).succeeded().json();
    assert_valid("compare", &document);
    let rows = document["checkpoints"].as_array().expect("rows");
    assert_eq!(rows[0]["changes"], Value::Null);
    assert_eq!(rows[1]["changes"]["from"], "first");
    assert_eq!(rows[1]["changes"]["unmatched"], Value::Null);
    let found = &rows[1]["changes"]["found"];

    let (before, massive_before) = hidden(&first, &temp.path().join("first"));
    let (after, massive_after) = hidden(other.path(), &temp.path().join("second"));
    let expected: Vec<(Place, &str)> = massive_before
        .union(&massive_after)
        .map(|place| {
            let both = (
                massive_before.contains(place),
                massive_after.contains(place),
            );
            let fate = match both {
                (true, true) => "kept",
                (true, false) => "lost",
                _ => "new",
            };
            (*place, fate)
        })
        .collect();
    let count = |fate: &str| expected.iter().filter(|(_, known)| *known == fate).count();
    assert!(count("kept") > 0 && count("lost") > 0 && count("new") > 0);
    let ours: Vec<(Place, &str)> = found["massive"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| {
            let number = |name: &str| it[name].as_u64().expect("a number") as usize;
            let place = (
                number("layer"),
                number("sequence"),
                number("position"),
                number("dimension"),
            );
            let value = |name: &str| it[name].as_f64().expect("a number") as f32;
            assert_eq!(value("before"), before[&place], "{place:?}");
            assert_eq!(value("after"), after[&place], "{place:?}");
            (place, it["fate"].as_str().expect("a fate"))
        })
        .collect();
    assert_eq!(ours, expected);
    for fate in ["kept", "lost", "new"] {
        assert_eq!(found["counts"][fate], count(fate), "{fate}");
    }
    let sum = |values: &BTreeMap<Place, f32>| -> f64 {
        let magnitudes = massive_before.iter().map(|place| values[place].abs());
        magnitudes.map(f64::from).sum()
    };
    let ratio = found["counts"]["magnitude_ratio"].as_f64();
    let expected = sum(&after) / sum(&before);
    assert!((ratio.expect("a ratio") / expected - 1.0).abs() < 1e-12);

    for (layer, changes) in found["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .enumerate()
    {
        let median = |row: usize| rows[row]["existence"]["layers"][layer]["median_mean"].clone();
        assert_eq!(changes["median"]["before"], median(0));
        assert_eq!(changes["median"]["after"], median(1));
    }
    assert_eq!(found["perplexity"]["before"], rows[0]["perplexity"]);
    assert_eq!(found["perplexity"]["after"], rows[1]["perplexity"]);

    // Where the text ends before windows to calibrate on, the interventions read values in the same walk.
    let text = std::fs::read_to_string(checkpoint("planted-llama").join("text.txt"));
    let short = temp.path().join("short.txt");
    std::fs::write(&short, &text.expect("a text")[..500]).expect("written");
    let mut command = massact([
        "compare",
        "--context-length",
        "32",
        "--nsamples",
        "3",
        "--json",
    ]);
    command
        .arg("--text-file")
        .arg(&short)
        .arg("--save-dir")
        .arg(temp.path().join("short"));
    command.arg(format!("first={}", first.display()));
    command.arg(format!("second={}", other.path().display()));
    let done = run(&mut command).succeeded();
    assert!(
        done.stderr.contains("the means come from these"),
        "{}",
        done.stderr
    );
    let shorter = &done.json()["checkpoints"][1];
    assert_eq!(shorter["changes"]["found"]["massive"], found["massive"]);
    assert!(shorter["interventions"]["set_to_mean"]["ratio"].is_number());

    let folder = only_run(&out);
    assert_eq!(read_json(&folder.join("compare.json")), document);
    let text = std::fs::read_to_string(folder.join("massive_changes.csv")).expect("written");
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), ours.len() + 1);
    assert!(lines[0].starts_with("label,layer,sequence,position,token,dimension,fate,"));
    for figure in ["massive_change_by_layer", "median_change_by_layer"] {
        let svg = std::fs::read_to_string(folder.join(format!("{figure}.svg"))).expect("written");
        assert!(
            svg.contains(">second<") && !svg.contains(">first<"),
            "{figure}"
        );
    }
}

/// Equal checkpoints have lost and won nothing, and one with other tokens is not matched.
#[test]
fn what_is_the_same_and_what_cannot_be_matched() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = with_text("compare", temp.path());
    let first = checkpoint("planted-llama");
    command.arg(format!("one={}", first.display()));
    command.arg(format!("two={}", first.display()));
    command.args(["demo", "--experiments", "tokens"]);
    let done = run(&mut command).succeeded();
    let document = done.json();
    assert_valid("compare", &document);
    let changes = |row: usize| &document["checkpoints"][row]["changes"];
    let counts = &changes(1)["found"]["counts"];
    assert_eq!((&counts["lost"], &counts["new"]), (&0.into(), &0.into()));
    assert_eq!(counts["magnitude_ratio"], 1.0);
    assert_eq!(changes(1)["found"]["perplexity"], Value::Null);
    assert_eq!(changes(2)["found"], Value::Null);
    assert_eq!(changes(2)["unmatched"], "its tokens are others");
    let told = "demo: nothing to match with one: its tokens are others";
    assert!(done.stderr.contains(told), "{}", done.stderr);
}
