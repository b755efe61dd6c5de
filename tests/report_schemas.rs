//! The schemas accept what massact writes and refuse what it must not write.

mod support;

use massact::model::{ConfigRecord, WeightsRecord};
use massact::report::Identity;
use massact::report::run::{
    Build, Host, InputRecord, ModelRecord, RUN_SCHEMA, RunRecord, Timings, memory_parts,
    now_rfc3339, peak_memory,
};
use serde_json::{Value, json};
use support::schema::{assert_valid, load, violations};

fn record() -> RunRecord {
    RunRecord {
        schema: RUN_SCHEMA.into(),
        massact: Build::new(Some("abc"), None, Some("")),
        command: "existence-validation".into(),
        arguments: vec![
            "existence-validation".into(),
            "--nsamples".into(),
            "10".into(),
        ],
        settings: json!({"nsamples": 10}),
        seed: 42,
        model: ModelRecord {
            label: None,
            name: "org/model".into(),
            source: "built-in".into(),
            model_type: "llama".into(),
            layers: 2,
            hidden_size: 48,
            dtype: "float32".into(),
            ..ModelRecord::default()
        },
        identity: Identity::new("built-in:x".into(), "0".into(), &[], &json!({})),
        device: "cpu".into(),
        card: None,
        compute_dtype: "float32".into(),
        config: ConfigRecord::default(),
        weights: WeightsRecord::default(),
        notices: vec!["one tensor is not used".into()],
        inputs: vec![InputRecord::of_bytes("text", b"abc")],
        timings: Timings::default(),
        tokens: 100,
        tokens_per_second: None,
        peak_memory_bytes: peak_memory(),
        memory_at_end: memory_parts(),
        started_at: now_rfc3339(),
        host: Host::current(),
    }
}

fn existence() -> Value {
    json!({
        "schema": "massact/existence-validation/1",
        "has_massive_activations": true,
        "abs_threshold": 100.0, "rel_threshold": 1000.0,
        "nsamples": 10, "context_length": 4096, "add_bos_token": true,
        "layers": [{
            "layer": 0, "top1_mean": 2400.0, "median_mean": 0.0, "ratio": null, "massive": true,
            "top": [{"sequence": 0, "position": 0, "token": "<s>", "token_id": 1, "dimension": 2533, "value": -2400.0, "sequences": 3}]
        }],
        "more": "is allowed"
    })
}

fn capture() -> Value {
    let value = json!({"position": 0, "dimension": 3, "value": -1.5});
    json!({
        "schema": "massact/capture/1",
        "sequences": [{
            "token_ids": [1, 2], "tokens": ["a", "b"], "nll": 1.0, "perplexity": 2.7, "last_logits": [0.5],
            "layers": [{
                "layer": 0, "max": 1.5, "median": 0.1, "mean": 0.01, "std": 0.2,
                "top": [value], "massive": []
            }]
        }]
    })
}

fn magnitude() -> Value {
    json!({
        "schema": "massact/top-activation-magnitude/1",
        "layers": [{"layer": 0, "top1_mean": 5.0, "median_mean": 0.1, "top_means": [5.0, 4.0]}]
    })
}

fn profile() -> Value {
    json!({
        "schema": "massact/profile/1",
        "sites": [{
            "site": "q", "layer": 0, "max": 5.0,
            "top": [{"sequence": 0, "position": 1, "dimension": 2, "value": -5.0}],
            "rms": 1.0, "mean": 0.0, "std": 1.0, "kurtosis": null, "median": 0.5,
            "quantiles": {
                "0.25": 0.1, "0.5": 0.5, "0.75": 0.8, "0.9": 1.0, "0.99": 2.0, "0.999": 4.0
            },
            "per_token_ratio": 10.0, "float16_headroom": 13100.8, "int8_sqnr_db": 30.0
        }]
    })
}

fn sinks() -> Value {
    json!({
        "schema": "massact/sinks/1",
        "sink_rate": 0.5,
        "layers": [{
            "layer": 0, "sink_rate": 0.5, "kv_bias_sink_rate": null,
            "heads": [{"head": 0, "sink_rate": 0.5, "mass": 0.4, "output_norm": 1.0,
                "projected_norm": 2.0, "norm_ratio": 1.0, "positions": []}],
            "value_drain": [0.1], "gates": [], "matrix_entropy": 1.0,
            "matrix_entropy_normalised": 0.5, "anisotropy": 0.7, "first_norm_ratio": 3.0
        }]
    })
}

fn tokens() -> Value {
    let magnitude = json!({"position": 0, "dimension": 3, "mean": 520.0, "std": 0.0, "count": 1});
    json!({
        "schema": "massact/tokens-analysis/1",
        "abs_threshold": 100.0, "rel_threshold": 1000.0,
        "nsamples": 1, "context_length": 4096, "add_bos_token": true, "compat": "none",
        "nsamples_massive": 1, "first_layer": 1, "dimensions": [3], "dimensions_reference": [3],
        "magnitudes": [magnitude], "magnitudes_reference": [magnitude], "reference_differs": [],
        "unique_tokens": {"0": ["<s>"]},
        "sequences": [{
            "sequence": 0, "first_layer": 1, "tokens": {"0": "<s>"},
            "layers": [{"layer": 1, "massive": [{"position": 0, "dimension": 3, "value": -520.0}]}]
        }]
    })
}

fn dimensions() -> Value {
    json!({
        "schema": "massact/massive-dimensions/1",
        "abs_threshold": 100.0, "rel_threshold": 1000.0,
        "nsamples": 1, "context_length": 4096, "add_bos_token": true,
        "layers": 4, "hidden_size": 24, "first_layer": 1,
        "massive_dimensions": [{
            "layer": 1, "dimension": 3, "positions": [0], "tokens": ["<s>"], "mean": 520.0,
            "max": 520.0, "sign": "negative", "count": 1, "sequence_share": 1.0, "persists": 2
        }]
    })
}

fn self_attention() -> Value {
    json!({
        "schema": "massact/self-attention/1",
        "token_ids": [1, 2], "tokens": ["<s>", "a"], "massive_positions": [0],
        "followed": [0], "followed_because": "massive", "layers_without_attention": [1],
        "layers": [{
            "layer": 0,
            "massive": [{"position": 0, "dimension": 3, "value": 2400.0}],
            "attention_to_followed": 0.9, "share_of_followed": 0.95, "even_share": 0.5, "logit_of_others": null,
            "followed": [{"position": 0, "probability": 0.9, "logit": -1.5}],
            "sinks": [{"head": 0, "position": 0, "mass": 0.9}],
            "decomposition": {
                "queries": 1, "norm_attention": 1.0, "norm_followed": 0.9, "norm_rest": 0.2,
                "cosine": -0.5, "similarity_followed": null, "similarity_rest": null,
                "heads": [{"head": 0, "norm_attention": 1.0, "norm_followed": 0.9, "norm_rest": 0.2, "cosine": null}]
            }
        }, {
            "layer": 1, "massive": [],
            "attention_to_followed": null, "share_of_followed": null, "even_share": null,
            "logit_of_others": null, "followed": [], "sinks": [], "decomposition": null
        }]
    })
}

fn figures() -> Value {
    let value = json!({"position": 0, "dimension": 3, "value": -2400.0});
    json!({
        "schema": "massact/figures/1",
        "token_ids": [1, 2], "tokens": ["<s>", "a"],
        "massive_positions": [0], "massive_dimensions": [3],
        "layers": [{"layer": 0, "max": 2400.0, "median": 0.5, "massive": [value]}],
        "sites": {"q": [{"layer": 0, "max": 5.0, "median": 0.5, "top": [value]}]},
        "absent_sites": ["gate"]
    })
}

#[test]
fn run_record_round_trips_and_validates() {
    let record = record();
    let value = serde_json::to_value(&record).unwrap();
    assert_valid("run", &value);
    assert_eq!(value["massact"]["target"], Value::Null);
    assert_eq!(serde_json::from_value::<RunRecord>(value).unwrap(), record);
}

#[test]
fn input_checksums_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, b"abc").unwrap();
    let file = InputRecord::of_file(&path).unwrap();
    let bytes = InputRecord::of_bytes("x", b"abc");
    assert_eq!((file.bytes, file.checksum), (3, bytes.checksum));
    let error = InputRecord::of_file(&folder.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("none"));
}

#[test]
fn contract_fields_are_required_and_more_are_allowed() {
    for (name, good) in [
        ("run", serde_json::to_value(record()).unwrap()),
        ("existence_validation", existence()),
        ("capture", capture()),
        ("tokens_analysis", tokens()),
        ("massive_dimensions", dimensions()),
        ("top_activation_magnitude", magnitude()),
        ("profile", profile()),
        ("sinks", sinks()),
        ("self_attention", self_attention()),
        ("figures", figures()),
    ] {
        assert_valid(name, &good);
        for field in load(name)["required"].as_array().unwrap() {
            let mut bad = good.clone();
            bad.as_object_mut().unwrap().remove(field.as_str().unwrap());
            assert!(!violations(name, &bad).is_empty(), "{name} without {field}");
        }
        let mut bad = good.clone();
        bad["schema"] = json!("massact/other/1");
        assert!(
            !violations(name, &bad).is_empty(),
            "{name} with another format's name"
        );
    }
}

#[test]
fn nested_contract_fields_are_required() {
    let removals = [
        ("existence_validation", existence(), "/layers/0"),
        ("existence_validation", existence(), "/layers/0/top/0"),
        ("capture", capture(), "/sequences/0/layers/0"),
        ("capture", capture(), "/sequences/0/layers/0/top/0"),
        ("tokens_analysis", tokens(), "/magnitudes/0"),
        ("tokens_analysis", tokens(), "/sequences/0"),
        ("tokens_analysis", tokens(), "/sequences/0/layers/0"),
        (
            "tokens_analysis",
            tokens(),
            "/sequences/0/layers/0/massive/0",
        ),
        ("massive_dimensions", dimensions(), "/massive_dimensions/0"),
        ("top_activation_magnitude", magnitude(), "/layers/0"),
        ("profile", profile(), "/sites/0"),
        ("profile", profile(), "/sites/0/top/0"),
        ("sinks", sinks(), "/layers/0"),
        ("sinks", sinks(), "/layers/0/heads/0"),
        ("self_attention", self_attention(), "/layers/0"),
        ("self_attention", self_attention(), "/layers/0/followed/0"),
        ("self_attention", self_attention(), "/layers/0/sinks/0"),
        (
            "self_attention",
            self_attention(),
            "/layers/0/decomposition",
        ),
        (
            "self_attention",
            self_attention(),
            "/layers/0/decomposition/heads/0",
        ),
        ("figures", figures(), "/layers/0"),
        ("figures", figures(), "/sites/q/0"),
    ];
    for (name, good, pointer) in removals {
        let fields: Vec<String> = good
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        for field in fields {
            let mut bad = good.clone();
            bad.pointer_mut(pointer)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(&field);
            assert!(
                !violations(name, &bad).is_empty(),
                "{name}{pointer} without {field}"
            );
        }
    }
}
