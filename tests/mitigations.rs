//! Variants are recognised by their tensors; what does not fit is refused by name.

mod support;

use std::path::Path;

use massact::model::Model;
use massact::model::spec::NormKind;
use serde_json::{Value, json};
use support::damage::{Parts, copy, edit_json};
use support::program::{massact, run};

const FILE: &str = "model.safetensors";

/// Changes a tensor's shape in the header, or its name, or adds one.
fn edit(folder: &Path, change: impl FnOnce(&mut Parts)) {
    let path = folder.join(FILE);
    let mut parts = Parts::read(&path);
    change(&mut parts);
    std::fs::write(path, parts.bytes()).expect("written");
}

fn add(parts: &mut Parts, name: &str, shape: &[usize], values: &[f32]) {
    let start = parts.data.len();
    parts
        .data
        .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    let offsets = [start, parts.data.len()];
    let tensor = json!({ "dtype": "F32", "shape": shape, "data_offsets": offsets });
    parts.header.insert(name.into(), tensor);
}

/// The error of opening a changed copy; one line with a remedy.
fn refusal(checkpoint: &str, change: impl FnOnce(&Path)) -> String {
    let temp = tempfile::tempdir().expect("a folder");
    copy(checkpoint, temp.path());
    Model::open(temp.path()).expect("sound before the change");
    change(temp.path());
    let error = Model::open(temp.path()).expect_err("damaged").to_string();
    assert!(
        error.contains("; ") && error.lines().count() == 1,
        "{error}"
    );
    error
}

/// Everything that capture prints about some tokens.
fn numbers(folder: &Path) -> Value {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact([
        "capture",
        "--quiet",
        "--json",
        "--nll",
        "--last-logits",
        "8",
    ]);
    command
        .args(["--sites", "embedding,layer_output,final_norm"])
        .args(["--token-ids", "3,1,4,1,5,9,2,6", "--pretrained"])
        .arg(folder)
        .arg("--save-dir")
        .arg(temp.path());
    run(&mut command).succeeded().json()["sequences"].clone()
}

#[test]
fn dyt_is_taken_norm_by_norm() {
    let temp = tempfile::tempdir().expect("a folder");
    copy("dyt-llama-some", temp.path());
    let spec = Model::open(temp.path()).expect("opens").spec;
    for layer in &spec.layers {
        let kind = |norms: &massact::model::spec::Norms| norms.input.as_ref().map(|n| n.kind);
        assert_eq!(kind(&layer.mixer_norms), Some(NormKind::Tanh));
        assert_eq!(kind(&layer.mlp_norms), Some(NormKind::Rms));
    }
    assert_eq!(spec.final_norm.map(|norm| norm.kind), Some(NormKind::Rms));
}

/// DyT has no epsilon, and its initial values are not its values.
#[test]
fn settings_of_norms_and_initial_values_have_no_effect_on_dyt() {
    let temp = tempfile::tempdir().expect("a folder");
    copy("dyt-llama", temp.path());
    let before = numbers(temp.path());
    edit_json(&temp.path().join("config.json"), |config| {
        config.insert("rms_norm_eps".into(), json!(0.5));
        config.insert("dyt_alpha".into(), json!(7.0));
        config.insert("alpha_init_value".into(), json!(0.1));
    });
    assert_eq!(numbers(temp.path()), before);
}

#[test]
fn vectors_of_other_shapes_are_refused() {
    let name = "model.layers.1.self_attn.k_bias.weight";
    // Two key/value heads of four values.
    for shape in [&[8][..], &[4, 2], &[2, 2, 2], &[1, 8], &[2, 4, 1]] {
        let error = refusal("kv-bias-llama", |folder| {
            edit(folder, |parts| parts.header[name]["shape"] = json!(shape));
        });
        assert!(
            error.contains(name) && error.contains("[heads, 1, 4]"),
            "{error}"
        );
    }
    // The same vectors with other axes of one.
    let temp = tempfile::tempdir().expect("a folder");
    copy("kv-bias-llama", temp.path());
    let before = numbers(temp.path());
    for shape in [&[2, 4][..], &[1, 2, 1, 4], &[1, 2, 4]] {
        edit(temp.path(), |parts| {
            for bias in ["k_bias", "v_bias"] {
                let name = name.replace("k_bias", bias);
                parts.header[&name]["shape"] = json!(shape);
            }
        });
        assert_eq!(numbers(temp.path()), before, "{shape:?}");
    }
}

#[test]
fn half_a_variant_is_refused() {
    let value = "transformer.h.0.attn.v_bias";
    let error = refusal("kv-bias-gpt2", |folder| {
        edit(folder, |parts| {
            let tensor = parts.header.remove(value).expect("there");
            parts.header.insert("another".into(), tensor);
        });
    });
    assert!(
        error.contains(value) && error.contains("missing"),
        "{error}"
    );
    let alpha = "model.norm.alpha";
    let error = refusal("llama-gqa3-f32", |folder| {
        edit(folder, |parts| add(parts, alpha, &[2], &[1.0, 1.0]));
    });
    assert!(
        error.contains(alpha) && error.contains("one element"),
        "{error}"
    );
    let error = refusal("llama-gqa3-f32", |folder| {
        edit(folder, |parts| {
            add(parts, "model.shared_scale", &[1], &[f32::INFINITY]);
        });
    });
    assert!(error.contains("model.shared_scale"), "{error}");
    let error = refusal("kv-bias-llama", |folder| {
        edit(folder, |parts| {
            let name = "model.layers.0.self_attn.k_bias.weight";
            let start = parts.range(name).0;
            parts.data[start..start + 4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        });
    });
    assert!(
        error.contains("k_bias") && error.contains("infinite"),
        "{error}"
    );
}

#[test]
fn gates_are_as_the_config_says_or_refused() {
    let set = |folder: &Path, key: &str, value: Value| {
        edit_json(&folder.join("config.json"), |config| {
            config.insert(key.into(), value);
        });
    };
    // A gate that is not stored, and one that is stored but ruled out.
    for (checkpoint, value) in [("llama-gqa3-f32", true), ("gated-llama-bias", false)] {
        let error = refusal(checkpoint, |folder| {
            set(folder, "attn_output_gate", json!(value));
        });
        assert!(error.contains("q_proj.weight"), "{error}");
    }
    let error = refusal("phi3-window", |folder| {
        set(folder, "attn_output_gate", json!(true));
    });
    assert!(error.contains("attn_output_gate"), "{error}");
    let error = refusal("gated-qwen3", |folder| {
        set(folder, "headwise_attn_output_gate", json!(true));
    });
    assert!(error.contains("headwise_attn_output_gate"), "{error}");
}

/// ALiBi that counts from the last key would tell the extra key how long the sequence is.
#[test]
fn an_extra_key_with_biases_from_the_last_token_is_refused() {
    let error = refusal("mpt", |folder| {
        let config = support::program::read_json(&folder.join("config.json"));
        let size = |key: &str| config[key].as_u64().expect("a size") as usize;
        let heads = size("n_heads");
        let width = size("d_model") / heads;
        edit(folder, |parts| {
            let zeros = vec![0.0; heads * width];
            for name in ["k_bias", "v_bias"] {
                let name = format!("transformer.blocks.0.attn.{name}");
                add(parts, &name, &[1, heads, 1, width], &zeros);
            }
        });
    });
    assert!(error.contains("ALiBi"), "{error}");
}
