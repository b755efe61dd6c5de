//! Sequences of 8,192 tokens with scaled rotary embeddings, beside what `tools/make_long_reference.py` found in
//! transformers.

use std::{fs, path::PathBuf};

use massact::{
    Result,
    backend::{AttentionCapture, AttentionMaps, StatisticsRequest, cpu::Cpu},
    engine::{Observer, Plan, Site, run},
    model::{Model, config::Config, weights},
    progress::Progress,
};
use serde_json::Value;

const TOKENS: usize = 8192;
/// Times the difference of the reference to itself in float64: other sums are as far from it.
const TOLERANCE: f64 = 8.0;

/// Keeps the sink mass of every layer.
#[derive(Default)]
struct Sinks(Vec<Vec<f32>>);

impl Observer for Sinks {
    fn attention(&mut self, _layer: usize, _sequence: usize, maps: AttentionMaps) -> Result<()> {
        // Nothing of T x T.
        assert!(maps.probs_mean.is_none() && maps.probs.is_none());
        self.0.push(maps.sink_mass.expect("asked for"));
        Ok(())
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

fn near(reference: &Value, what: &str, found: &[f64]) {
    let expected = numbers(&reference[what]);
    let noise = reference[format!("{what}_noise")]
        .as_f64()
        .expect("a number");
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let allowed = TOLERANCE * noise.max(1e-7 * expected.abs());
        assert!(
            (found - expected).abs() <= allowed,
            "{what}: {found} {expected} {noise}"
        );
    }
}

fn check(scaling: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/long");
    let text = fs::read(folder.join("reference.json")).expect("committed");
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    let reference = &all[scaling];
    let bytes = fs::read(folder.join("model.safetensors")).expect("committed");
    let store = weights::in_memory(vec![("model.safetensors", bytes.into())]).expect("reads");
    let config = Config::parse(reference["config"].to_string().as_bytes()).expect("reads");
    let model = Model::assemble(&config, store, None).expect("runs");
    let ids = (0..TOKENS).map(|index| ((7 * index + index * index / 3) % 61) as u32);
    let plan = Plan {
        nll: true,
        attention: AttentionCapture {
            sink: true,
            ..AttentionCapture::default()
        },
        ..Plan::magnitudes(
            Site::LayerOutput,
            StatisticsRequest {
                top_k: 5,
                abs_threshold: 100.0,
                rel_threshold: 1000.0,
                moments: false,
            },
        )
    };
    let mut sinks = Sinks::default();
    let silent = Progress::silent();
    let found = run(
        &Cpu::new(),
        &model,
        &[ids.collect()],
        &plan,
        &mut sinks,
        silent,
    );
    let found = found.expect("runs");
    let layers = &found.statistics[&Site::LayerOutput];
    let top = layers.iter().flat_map(|layer| &layer[0].top);
    let top: Vec<f64> = top.map(|entry| f64::from(entry.value.abs())).collect();
    near(reference, "top", &top);
    let medians = layers.iter().map(|layer| f64::from(layer[0].median));
    near(reference, "median", &medians.collect::<Vec<_>>());
    let first = sinks
        .0
        .iter()
        .flat_map(|layer| layer.chunks(TOKENS).flat_map(|head| &head[..4]));
    near(
        reference,
        "sink_mass",
        &first.map(|mass| f64::from(*mass)).collect::<Vec<_>>(),
    );
    let nll = &found.token_nll[0];
    assert_eq!(nll.len(), TOKENS - 1);
    let mean = nll.iter().map(|nll| f64::from(*nll)).sum::<f64>() / nll.len() as f64;
    near(reference, "nll", &[mean]);
}

#[test]
fn llama3_scaling_at_8192_tokens() {
    check("llama3");
}

#[test]
fn yarn_at_8192_tokens() {
    check("yarn");
}
