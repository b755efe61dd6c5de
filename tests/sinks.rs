//! sinks against numpy over transformers (tools/make_sinks.py), through the real program.

mod support;

use serde_json::Value;
use support::program::{checkpoint, massact, only_run, run};

const CHECKPOINTS: [&str; 5] = [
    "planted-llama",
    "planted-gpt2",
    "planted-gemma2",
    "planted-olmo2",
    "planted-lfm2",
];

#[track_caller]
fn near(ours: &Value, theirs: &Value, what: &str) {
    let (Some(a), Some(b)) = (ours.as_f64(), theirs.as_f64()) else {
        assert_eq!(ours, theirs, "{what}");
        return;
    };
    assert!(
        (a - b).abs() <= 1e-4 * b.abs().max(1e-3),
        "{what}: {a} instead of {b}"
    );
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// sinks.json of a run with the reference's sequences and thresholds.
fn found(name: &str, truth: &Value, threads: &str) -> Value {
    let out = tempfile::tempdir().expect("a folder");
    let mut command = massact(["sinks", "--pretrained"]);
    command
        .arg(checkpoint(name))
        .arg("--save-dir")
        .arg(out.path());
    for ids in array(&truth["token_ids"]) {
        let ids: Vec<String> = array(ids).iter().map(Value::to_string).collect();
        command.args(["--token-ids", &ids.join(",")]);
    }
    for (flag, key) in [
        ("--epsilon", "epsilon"),
        ("--cosine", "cosine"),
        ("--secondary-layers", "secondary_layers"),
    ] {
        command.args([flag, &truth[key].to_string()]);
    }
    run(command.env("RAYON_NUM_THREADS", threads)).succeeded();
    let text = std::fs::read(only_run(out.path()).join("sinks.json")).expect("sinks.json");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn equals_numpy_over_transformers() {
    let (mut secondary, mut sinks) = (0, 0);
    for name in CHECKPOINTS {
        let text = std::fs::read(checkpoint(name).join("sinks.json")).expect("tools/make_sinks.py");
        let truth: Value = serde_json::from_slice(&text).expect("JSON");
        let ours = found(name, &truth, "2");
        near(&ours["sink_rate"], &truth["sink_rate"], name);
        assert_eq!(array(&ours["layers"]).len(), array(&truth["layers"]).len());
        for (ours, theirs) in array(&ours["layers"]).iter().zip(array(&truth["layers"])) {
            let what = format!("{name}: layer {}", theirs["layer"]);
            for number in [
                "matrix_entropy",
                "matrix_entropy_normalised",
                "anisotropy",
                "first_norm_ratio",
                "sink_rate",
            ] {
                near(&ours[number], &theirs[number], &format!("{what}: {number}"));
            }
            assert_eq!(
                array(&ours["heads"]).len(),
                array(&theirs["head_rates"]).len()
            );
            let norms = theirs;
            for (index, head) in array(&ours["heads"]).iter().enumerate() {
                let what = format!("{what}: head {index}");
                near(&head["sink_rate"], &theirs["head_rates"][index], &what);
                near(&head["mass"], &theirs["head_masses"][index], &what);
                for (ours, theirs) in [
                    ("output_norm", "output_norms"),
                    ("projected_norm", "projected_norms"),
                    ("norm_ratio", "norm_ratios"),
                ] {
                    near(
                        &head[ours],
                        &norms[theirs][index],
                        &format!("{what}: {ours}"),
                    );
                }
                let positions = array(&head["positions"]);
                let wanted = array(&theirs["rates"][index]);
                assert_eq!(positions.len(), wanted.len(), "{what}");
                for (position, wanted) in positions.iter().zip(wanted) {
                    assert_eq!(position["position"], wanted[0], "{what}");
                    near(&position["rate"], &wanted[1], &what);
                    sinks += 1;
                }
            }
            if let Some(drains) = theirs["value_drain"].as_array() {
                assert_eq!(array(&ours["value_drain"]).len(), drains.len(), "{what}");
                for (ours, theirs) in array(&ours["value_drain"]).iter().zip(drains) {
                    near(ours, theirs, &format!("{what}: value drain"));
                }
            }
        }
        let wanted = array(&truth["secondary_sinks"]);
        assert_eq!(
            array(&ours["secondary_sinks"]).len(),
            wanted.len(),
            "{name}"
        );
        for (ours, theirs) in array(&ours["secondary_sinks"]).iter().zip(wanted) {
            for (key, value) in theirs.as_object().expect("fields") {
                near(&ours[key], value, &format!("{name}: secondary sink: {key}"));
            }
            secondary += 1;
        }
        assert_eq!(found(name, &truth, "1"), ours, "{name}: threads");
        let hybrid = name == "planted-lfm2";
        assert_eq!(ours["hybrid"].is_object(), hybrid, "{name}");
    }
    assert!(secondary > 3 && sinks > 20, "{secondary} {sinks}");
}

/// Gates by head, and a learned key beside the tokens'.
#[test]
fn gates_and_learned_keys() {
    let of = |name: &str| {
        let truth = serde_json::json!({
            "token_ids": [[3, 4, 5, 6, 7]], "epsilon": 0.1, "cosine": 0.9, "secondary_layers": 4,
        });
        found(name, &truth, "2")
    };
    let gated = of("gated-qwen3");
    let gates: Vec<&Value> = array(&gated["layers"])
        .iter()
        .flat_map(|layer| array(&layer["gates"]))
        .collect();
    assert!(!gates.is_empty());
    for gate in gates {
        let [mean, closed] = ["mean", "closed"].map(|key| gate[key].as_f64().expect("a number"));
        assert!(
            mean > 0.0 && mean < 1.0 && (0.0..=1.0).contains(&closed),
            "{gate}"
        );
    }
    let biased = of("planted-llama-kv-bias");
    assert!(biased["kv_bias_sink_rate"].is_number());
    assert_eq!(array(&biased["positions"]).len(), 5);
    assert!(gated["kv_bias_sink_rate"].is_null());
}
