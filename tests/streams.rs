//! Several residual streams, through the real program: what experiments say of them, and what is refused. Their
//! numbers beside transformers' are in `parity.rs`.

mod support;

use std::path::Path;

use massact::model::Model;
use serde_json::{Value, json};
use support::damage::{Parts, changed, edit_json, refusal};
use support::program::{checkpoint, massact, only_run, run};
use support::{reference, schema::assert_valid, tensors};

const NAME: &str = "deepseek-v4";
const STREAMS: usize = 3;
const WIDTH: usize = 24;

/// What the command prints, of the longest sequence of the reference.
fn said(save_dir: &Path, arguments: &[&str]) -> Value {
    let reference = reference::load(NAME).reference;
    let ids = reference.sequences.last().expect("some").argument();
    let mut command = massact(arguments);
    command.args(["--json", "--token-ids", &ids]);
    command.arg("--pretrained").arg(checkpoint(NAME));
    run(command.arg("--save-dir").arg(save_dir))
        .succeeded()
        .json()
}

#[test]
fn the_sum_is_of_the_streams_that_a_layer_hands_on() {
    let temp = tempfile::tempdir().expect("a folder");
    let sites = ["--sites", "layer_output,stream_sum,embedding,layer_input"];
    let document = said(temp.path(), &[&["capture", "--raw"][..], &sites].concat());
    assert_valid("capture", &document);
    let raw = tensors::read(&only_run(temp.path()).join("capture.safetensors"));
    for layer in 0..6 {
        let (streams, sum) = (
            &raw[&format!("layer_output.{layer}.0")],
            &raw[&format!("stream_sum.{layer}.0")],
        );
        let rows = streams.values.chunks_exact(STREAMS * WIDTH);
        for (streams, sum) in rows.zip(sum.values.chunks_exact(WIDTH)) {
            for (dimension, sum) in sum.iter().enumerate() {
                let added: f32 = (0..STREAMS).map(|n| streams[n * WIDTH + dimension]).sum();
                assert!((added - sum).abs() < 1e-4, "layer {layer}: {added} {sum}");
            }
        }
    }
    // All begin as the embedding.
    let embedding = raw["embedding.0.0"].values.chunks_exact(WIDTH);
    let input = raw["layer_input.0.0"].values.chunks_exact(STREAMS * WIDTH);
    for (embedding, streams) in embedding.zip(input) {
        for stream in streams.chunks_exact(WIDTH) {
            assert_eq!(stream, embedding);
        }
    }
}

#[test]
fn attention_maps_are_of_tokens_and_leave_the_rest_to_entries() {
    let temp = tempfile::tempdir().expect("a folder");
    let document = said(temp.path(), &["capture", "--attention", "mean"]);
    let length = document["sequences"][0]["token_ids"]
        .as_array()
        .map_or(0, Vec::len);
    let maps = tensors::read(&only_run(temp.path()).join("attention.safetensors"));
    for layer in 0..6 {
        let map = &maps[&format!("layer.{layer}.probs_mean")];
        assert_eq!(map.shape, [length, length]);
        let last = &map.values[(length - 1) * length..];
        let seen = last.iter().filter(|value| !value.is_nan()).count();
        assert_eq!(seen, 4, "the window, layer {layer}");
        let sum: f32 = last.iter().filter(|value| !value.is_nan()).sum();
        assert!(sum < 1.0, "layer {layer}: {sum}");
    }
}

/// Writes other integers over a table of experts.
fn with_table(folder: &Path, change: impl FnOnce(&mut [i64])) {
    let path = folder.join("model.safetensors");
    let mut parts = Parts::read(&path);
    let (start, end) = parts.range("model.layers.1.ffn.gate.tid2eid");
    let (bytes, _) = parts.data[start..end].as_chunks_mut::<8>();
    let mut ids: Vec<i64> = bytes.iter().map(|id| i64::from_le_bytes(*id)).collect();
    change(&mut ids);
    for (bytes, id) in bytes.iter_mut().zip(ids) {
        *bytes = id.to_le_bytes();
    }
    std::fs::write(path, parts.bytes()).expect("written");
}

#[test]
fn tables_of_what_are_no_experts_are_refused() {
    for wrong in [5, -1, i64::MAX] {
        let message = refusal(NAME, |folder| with_table(folder, |ids| ids[7] = wrong));
        assert!(
            message.contains("model.layers.1.ffn.gate.tid2eid"),
            "{message}"
        );
        assert!(message.contains("of 5 experts"), "{message}");
    }
    // One expert twice.
    let message = refusal(NAME, |folder| with_table(folder, |ids| ids[7] = ids[6]));
    assert!(message.contains("2 different ones"), "{message}");
}

#[test]
fn tables_decide_who_visits_whom() {
    let nll = |folder: &Path| {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["capture", "--json", "--nll", "--token-ids", "3,4,5,6,7,8"]);
        command.arg("--pretrained").arg(folder);
        let done = run(command.arg("--save-dir").arg(temp.path())).succeeded();
        done.json()["sequences"][0]["nll"].as_f64().expect("there")
    };
    let other = changed(NAME, |folder| {
        with_table(folder, |ids| {
            for id in ids {
                *id = (*id + 1) % 5;
            }
        });
    });
    assert!((nll(&checkpoint(NAME)) - nll(other.path())).abs() > 1e-3);
}

/// Published files call what shifts the choice of experts a bias of the router.
#[test]
fn rescaling_leaves_the_choice_of_experts_alone() {
    const NAMES: [&str; 2] = [
        "model.layers.4.ffn.gate.bias",
        "model.layers.1.ffn.gate.tid2eid",
    ];
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("rescaled");
    let mut command = massact(["tvr", "--target-std", "0.02", "--save-dir"]);
    command
        .arg(temp.path().join("results"))
        .arg("--pretrained")
        .arg(checkpoint(NAME));
    run(command.arg("--out").arg(&out)).succeeded();
    let [before, after] = [&checkpoint(NAME), &out].map(|folder| {
        let parts = Parts::read(&folder.join("model.safetensors"));
        NAMES.map(|name| {
            let (start, end) = parts.range(name);
            parts.data[start..end].to_vec()
        })
    });
    assert_eq!(before, after);
}

#[test]
fn settings_that_are_not_computed_are_refused() {
    for (change, reason) in [
        (json!({"hc_mult": 9}), "9 residual streams"),
        (json!({"scoring_func": "softmax"}), "`scoring_func`"),
        (json!({"index_head_dim": 3}), "do not fit together"),
        (
            json!({"layer_types": vec!["full_attention"; 6]}),
            "`full_attention`",
        ),
        (json!({"mlp_layer_types": vec!["dense"; 6]}), "`dense`"),
        (json!({"o_groups": 4}), "do not fit together"),
        (
            json!({"layer_types": null, "compress_ratios": [0, 4, 8, 0, 0, 0]}),
            "`compress_ratios`",
        ),
    ] {
        let message = refusal(NAME, |folder| {
            edit_json(&folder.join("config.json"), |config| {
                config.extend(change.as_object().cloned().expect("an object"));
            });
        });
        assert!(message.contains(reason), "{change}: {message}");
    }
}

#[test]
fn the_state_is_as_wide_as_all_streams() {
    let model = Model::open(&checkpoint(NAME)).expect("opens");
    assert_eq!(model.spec.streams(), STREAMS);
    assert_eq!(model.spec.state_width(), STREAMS * WIDTH);
}
