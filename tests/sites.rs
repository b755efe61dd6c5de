//! Tensors inside layers, through the real program: transformers' own, in the layers that have them.

mod support;

use std::collections::BTreeMap;

use support::program::{Done, massact, only_run, run};
use support::reference::{self, Checkpoint, tolerance};
use support::tensors::{self, Tensor, rms};

/// Sites that `sites.safetensors` has (tools/make_checkpoints/inside.py).
const SITES: [&str; 5] = [
    "mixer_output",
    "attention_gate",
    "router_logits",
    "attention_output",
    "mlp_output",
];

fn capture(checkpoint: &Checkpoint, more: &[&str]) -> (Done, Option<BTreeMap<String, Tensor>>) {
    let temp = tempfile::tempdir().expect("a folder");
    let reference = &checkpoint.reference;
    let ids = reference.sequences[reference.attention_sequence].argument();
    let mut command = massact(["capture", "--json", "--token-ids", &ids, "--raw"]);
    command.args(more).arg("--pretrained");
    command.arg(&checkpoint.folder).arg("--save-dir");
    let done = run(command.arg(temp.path()));
    let raw = (done.code == Some(0))
        .then(|| tensors::read(&only_run(temp.path()).join("capture.safetensors")));
    (done, raw)
}

/// No layer more or less.
#[test]
fn are_those_of_transformers() {
    let mut seen = [0; SITES.len()];
    for checkpoint in reference::all() {
        let path = checkpoint.folder.join("sites.safetensors");
        if !path.exists() {
            continue;
        }
        let name = &checkpoint.name;
        let theirs = tensors::read(&path);
        let is_there = |site: &&&str| theirs.keys().any(|key| key.starts_with(**site));
        let sites: Vec<&str> = SITES.iter().filter(is_there).copied().collect();
        let (_, ours) = capture(&checkpoint, &["--sites", &sites.join(",")]);
        let ours = ours.unwrap_or_else(|| panic!("{name}: not captured"));
        let own: Vec<&str> = ours
            .keys()
            .filter_map(|key| key.strip_suffix(".0"))
            .collect();
        assert!(
            own.iter().eq(&theirs.keys().collect::<Vec<_>>()),
            "{name}: {own:?}"
        );
        for (key, theirs) in &theirs {
            let ours = &ours[&format!("{key}.0")];
            assert_eq!(ours.shape, theirs.shape, "{name}: {key}");
            let allowed = tolerance(checkpoint.reference.noise.hidden) * rms(&theirs.values);
            for (ours, theirs) in ours.values.iter().zip(&theirs.values) {
                let off = f64::from((ours - theirs).abs());
                assert!(off <= allowed, "{name}: {key}: {ours} instead of {theirs}");
            }
        }
        for (count, site) in seen.iter_mut().zip(&SITES) {
            *count += usize::from(sites.contains(site));
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

/// What each token's experts read and give (tools/make_expert_sites.py), in the layers that have experts.
#[test]
fn experts_have_what_transformers_has() {
    let mut compared = 0;
    for checkpoint in reference::all() {
        let path = checkpoint.folder.join("experts.safetensors");
        if !path.exists() {
            continue;
        }
        let name = &checkpoint.name;
        let theirs = tensors::read(&path);
        let (done, ours) = capture(&checkpoint, &["--sites", "expert_inner,expert_output"]);
        let ours = ours.unwrap_or_else(|| panic!("{name}: {}", done.stderr));
        assert_eq!(ours.len(), theirs.len(), "{name}");
        for (key, theirs) in &theirs {
            let ours = &ours[&format!("{key}.0")];
            assert_eq!(ours.shape, theirs.shape, "{name}: {key}");
            let allowed = tolerance(checkpoint.reference.noise.hidden) * rms(&theirs.values);
            for (ours, theirs) in ours.values.iter().zip(&theirs.values) {
                let off = f64::from((ours - theirs).abs());
                assert!(off <= allowed, "{name}: {key}: {ours} instead of {theirs}");
            }
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

/// Dense layers are captured, and those of experts are named.
#[test]
fn a_site_of_some_layers_is_captured_there() {
    let checkpoint = reference::load("afmoe");
    let more = ["--sites", "gate,mlp_inner,router_logits,layer_output"];
    let (done, raw) = capture(&checkpoint, &more);
    let raw = raw.unwrap_or_else(|| panic!("{}", done.stderr));
    let layers = |site: &str| -> Vec<usize> {
        let own = |key: &String| key.strip_prefix(site)?.split('.').nth(1)?.parse().ok();
        raw.keys().filter_map(own).collect()
    };
    assert_eq!(layers("gate"), [0, 1]);
    assert_eq!(layers("mlp_inner"), [0, 1]);
    assert_eq!(layers("router_logits"), [2, 3]);
    assert_eq!(layers("layer_output"), [0, 1, 2, 3]);
    let said = &done.json()["sequences"][0]["sites"];
    let numbers = |site: &str| -> Vec<u64> {
        let layers = said[site].as_array().expect(site).iter();
        layers.filter_map(|layer| layer["layer"].as_u64()).collect()
    };
    assert_eq!(numbers("gate"), [0, 1]);
    assert_eq!(numbers("router_logits"), [2, 3]);
    let experts = "gate, mlp_inner: layers 2-3 are left out, which have experts";
    assert!(done.stderr.contains(experts), "{}", done.stderr);
    let dense = "router_logits: layers 0-1 are left out, which have no experts";
    assert!(done.stderr.contains(dense), "{}", done.stderr);
    assert!(!done.stderr.contains("layer_output:"), "{}", done.stderr);
}

#[test]
fn a_site_of_no_layer_is_refused_with_what_to_look_at_instead() {
    for (name, site, reason) in [
        (
            "planted-llama",
            "router_logits",
            "site `router_logits`: the layers of this model have no experts; observe mlp_output instead",
        ),
        (
            "planted-llama",
            "attention_gate",
            "site `attention_gate`: the layers of this model have no gate on attention; observe attention_output instead",
        ),
        (
            "gpt-oss",
            "gate",
            "site `gate`: the layers of this model have experts, inside which tokens go different ways; observe expert_inner instead",
        ),
    ] {
        let (done, raw) = capture(&reference::load(name), &["--sites", site]);
        assert!(raw.is_none() && done.code == Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(reason), "{}", done.stderr);
        assert_eq!(done.stdout, "", "{name}");
    }
}
