//! The program's numbers against transformers', on every committed checkpoint.
//!
//! Tolerance: a float32 program is allowed four times the error that transformers in float32 makes
//! itself (its difference from float64, `noise` in reference.json), plus 2e-6 because that is
//! measured on few numbers. Both are in the same units (tools/README.md). A likelihood is a sum of
//! logits, so its noise counts as at least theirs. The contract with users is 1e-4 and is never
//! exceeded. Places and the order of lists are exact.

mod support;

use std::path::Path;

use massact::engine::Site;
use massact::model::Model;
use massact::model::families::FAMILIES;
use serde_json::Value;
use support::program::{massact, only_run, run};
use support::reference::{self, Checkpoint, Entry, tolerance};
use support::tensors::{self, Tensor, rms};

fn supported() -> (Vec<Checkpoint>, Vec<Checkpoint>) {
    reference::all()
        .into_iter()
        .partition(|c| FAMILIES.iter().any(|f| f.model_type == c.model_type))
}

/// Differences found in one checkpoint.
struct Findings {
    checkpoint: String,
    found: Vec<String>,
    /// Largest difference as a share of its tolerance.
    worst: f64,
}

impl Findings {
    fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            checkpoint: checkpoint.name.clone(),
            found: Vec::new(),
            worst: 0.0,
        }
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.found.push(format!("{}: {}", self.checkpoint, what()));
        }
    }

    /// `ours` within `noise`'s tolerance of `theirs`, in units of `scale`.
    fn near(&mut self, what: &str, ours: f64, theirs: f64, scale: f64, noise: f64) {
        let share = (ours - theirs).abs() / scale / tolerance(noise);
        let equal = ours == theirs;
        if !equal {
            self.worst = self.worst.max(share);
        }
        self.check(equal || share <= 1.0, || {
            format!("{what}: {ours} instead of {theirs}, {share:.2} tolerances")
        });
    }

    fn relative(&mut self, what: &str, ours: &Value, theirs: f64, noise: f64) {
        match ours.as_f64() {
            Some(ours) => self.near(what, ours, theirs, theirs.abs(), noise),
            None => self.check(false, || format!("{what}: {ours} instead of {theirs}")),
        }
    }

    fn entries(&mut self, what: &str, ours: &Value, theirs: &[Entry], noise: f64) {
        let place = |entry: &Value| (entry["position"].as_u64(), entry["dimension"].as_u64());
        let ours = ours.as_array().cloned().unwrap_or_default();
        let found: Vec<_> = ours.iter().map(place).collect();
        let wanted: Vec<_> = theirs
            .iter()
            .map(|entry| (Some(entry.position as u64), Some(entry.dimension as u64)))
            .collect();
        self.check(found == wanted, || {
            format!("{what}: places {found:?} instead of {wanted:?}")
        });
        for (ours, theirs) in ours.iter().zip(theirs) {
            self.relative(what, &ours["value"], theirs.value, noise);
        }
    }

    /// Same shape, the same entries hidden, the others near.
    fn map(&mut self, what: &str, ours: Option<&Tensor>, theirs: &Tensor, scale: f64, noise: f64) {
        let Some(ours) = ours else {
            self.check(false, || format!("{what}: not there"));
            return;
        };
        self.check(ours.shape == theirs.shape, || {
            format!("{what}: {:?} instead of {:?}", ours.shape, theirs.shape)
        });
        for (index, (ours, theirs)) in ours.values.iter().zip(&theirs.values).enumerate() {
            self.check(ours.is_nan() == theirs.is_nan(), || {
                format!("{what}: entry {index} is {ours} instead of {theirs}")
            });
            if !theirs.is_nan() {
                let (ours, theirs) = (f64::from(*ours), f64::from(*theirs));
                self.near(&format!("{what}[{index}]"), ours, theirs, scale, noise);
            }
        }
    }

    /// Fails the test with a readable number of differences.
    fn finish(all: &[Self]) {
        for one in all {
            println!("{}: {:.2} of the tolerance", one.checkpoint, one.worst);
        }
        let found: Vec<&str> = all
            .iter()
            .flat_map(|one| one.found.iter().take(5))
            .map(String::as_str)
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// Runs `capture` and returns what it printed; its files are in `save_dir`.
fn capture(checkpoint: &Checkpoint, save_dir: &Path, more: &[&str]) -> Value {
    let mut command = massact(["capture", "--quiet", "--json", "--pretrained"]);
    command
        .arg(&checkpoint.folder)
        .arg("--save-dir")
        .arg(save_dir)
        .args(more);
    run(&mut command).succeeded().json()
}

#[test]
fn statistics_likelihood_and_logits() {
    let checkpoints = supported().0;
    for family in FAMILIES {
        let has_one = checkpoints
            .iter()
            .any(|c| c.model_type == family.model_type);
        assert!(has_one, "no checkpoint of {}", family.model_type);
    }
    let all: Vec<Findings> = checkpoints.iter().map(statistics_of).collect();
    Findings::finish(&all);
}

/// The same of models in GGUF files, for which the reference has the decoded weights.
#[test]
fn gguf_files() {
    let checkpoints = reference::gguf();
    assert!(checkpoints.len() > 20, "{}", checkpoints.len());
    let statistics = checkpoints.iter().map(statistics_of);
    let attention = checkpoints.iter().map(attention_of);
    Findings::finish(&statistics.chain(attention).collect::<Vec<_>>());
    checkpoints.iter().for_each(raw_of);
}

fn statistics_of(checkpoint: &Checkpoint) -> Findings {
    let temp = tempfile::tempdir().expect("a folder");
    let mut arguments = vec!["--nll".to_owned(), "--last-logits".into(), "16".into()];
    for sequence in &checkpoint.reference.sequences {
        arguments.extend(["--token-ids".to_owned(), sequence.argument()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let document = capture(checkpoint, temp.path(), &arguments);
    support::schema::assert_valid("capture", &document);

    let mut findings = Findings::of(checkpoint);
    let noise = &checkpoint.reference.noise;
    let ours = document["sequences"].as_array().expect("sequences");
    assert_eq!(ours.len(), checkpoint.reference.sequences.len());
    for (ours, theirs) in ours.iter().zip(&checkpoint.reference.sequences) {
        let at = format!("{} tokens", theirs.token_ids.len());
        assert_eq!(ours["token_ids"], serde_json::json!(theirs.token_ids));
        match theirs.nll {
            Some(nll) => {
                let noise = noise.nll.max(noise.last_logits);
                findings.relative(&format!("{at}, nll"), &ours["nll"], nll, noise);
                let perplexity = ours["perplexity"].as_f64().unwrap_or(f64::NAN).ln();
                let own = ours["nll"].as_f64().unwrap_or(f64::NAN);
                assert!((perplexity - own).abs() < 1e-12 * own, "{perplexity} {own}");
            }
            None => findings.check(ours["nll"].is_null(), || format!("{at}: an nll")),
        }
        let logits = ours["last_logits"].as_array().expect("last_logits");
        assert_eq!(logits.len(), theirs.last_logits.len());
        let scale = rms(&theirs.last_logits);
        for (index, (ours, theirs)) in logits.iter().zip(&theirs.last_logits).enumerate() {
            let ours = ours.as_f64().unwrap_or(f64::NAN);
            let what = format!("{at}, logit {index}");
            findings.near(&what, ours, f64::from(*theirs), scale, noise.last_logits);
        }
        let layers = ours["layers"].as_array().expect("layers");
        assert_eq!(layers.len(), theirs.layers.len());
        for (ours, theirs) in layers.iter().zip(&theirs.layers) {
            let at = format!("{at}, layer {}", theirs.layer);
            assert_eq!(ours["layer"], theirs.layer);
            findings.relative(&format!("{at}, max"), &ours["max"], theirs.max, noise.max);
            let what = format!("{at}, median");
            findings.relative(&what, &ours["median"], theirs.median, noise.median);
            findings.entries(&format!("{at}, top"), &ours["top"], &theirs.top, noise.top);
            let what = format!("{at}, massive");
            findings.entries(&what, &ours["massive"], &theirs.massive, noise.top);
        }
    }
    findings
}

#[test]
fn attention_maps() {
    let all: Vec<Findings> = supported().0.iter().map(attention_of).collect();
    Findings::finish(&all);
}

fn attention_of(checkpoint: &Checkpoint) -> Findings {
    let reference = &checkpoint.reference;
    let sequence = &reference.sequences[reference.attention_sequence];
    let mut findings = Findings::of(checkpoint);
    let theirs = tensors::read(&checkpoint.folder.join("reference.safetensors"));
    let maps = |kind: &str| {
        let temp = tempfile::tempdir().expect("a folder");
        let ids = sequence.argument();
        capture(
            checkpoint,
            temp.path(),
            &["--token-ids", &ids, "--attention", kind],
        );
        tensors::read(&only_run(temp.path()).join("attention.safetensors"))
    };
    if theirs.is_empty() {
        // No layer has attention, and no map is made up.
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["capture", "--token-ids", "1,2", "--attention", "mean"]);
        command.arg("--save-dir").arg(temp.path());
        command.arg("--pretrained").arg(&checkpoint.folder);
        let done = run(&mut command);
        findings.check(
            done.stderr.contains("no layer of this model has any"),
            || format!("attention of layers without: {}", done.stderr),
        );
        return findings;
    }
    let mut ours = maps("mean");
    let means = |name: &String| name.ends_with("_mean");
    assert!(ours.keys().all(means));
    ours.extend(maps("sink"));
    let names = |all: &std::collections::BTreeMap<String, Tensor>| -> Vec<String> {
        all.keys().cloned().collect()
    };
    assert_eq!(names(&ours), names(&theirs), "{}", checkpoint.name);
    for (name, theirs) in &theirs {
        let logits = ["logits_mean", "max_logit"];
        let (scale, noise) = if logits.iter().any(|kind| name.ends_with(kind)) {
            (rms(&theirs.values), reference.noise.attention_logits)
        } else {
            (1.0, reference.noise.attention_probs)
        };
        findings.map(name, ours.get(name), theirs, scale, noise);
    }
    // The heads one by one have the mean that was captured as such.
    for (name, heads) in maps("heads") {
        let mean = &ours[&format!("{name}_mean")];
        let count = heads.shape[0];
        assert_eq!(heads.shape[1..], mean.shape);
        for (index, mean) in mean.values.iter().enumerate() {
            let own = heads
                .values
                .iter()
                .skip(index)
                .step_by(heads.values.len() / count);
            let own = own.map(|value| f64::from(*value)).sum::<f64>() / count as f64;
            findings.check(own.is_nan() == mean.is_nan(), || format!("{name}[{index}]"));
            if !own.is_nan() {
                let scale = own.abs().max(1.0);
                findings.near(
                    &format!("mean of {name}"),
                    own,
                    f64::from(*mean),
                    scale,
                    0.0,
                );
            }
        }
    }
    findings
}

#[test]
fn every_other_checkpoint_is_refused_by_name() {
    for checkpoint in supported().1 {
        println!(
            "unsupported: {} ({})",
            checkpoint.name, checkpoint.model_type
        );
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["capture", "--token-ids", "1,2", "--save-dir"]);
        command
            .arg(temp.path())
            .arg("--pretrained")
            .arg(&checkpoint.folder);
        let done = run(&mut command);
        assert_eq!(done.code, Some(1), "{}: {}", checkpoint.name, done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
        let named = format!("`{}`", checkpoint.model_type);
        assert!(done.stderr.contains(&named), "{}", done.stderr);
        assert!(done.stderr.contains("massact models"), "{}", done.stderr);
        assert!(support::program::files(temp.path()).is_empty());
    }
}

/// Sites with the width of the residual stream in every layer.
const STREAM: [&str; 8] = [
    "attention_input",
    "mixer_output",
    "residual_mid",
    "mlp_input",
    "layer_input",
    "attention_output",
    "mlp_output",
    "layer_output",
];

/// Of these, those that have all residual streams where layers hand on several.
const HANDED_ON: [&str; 3] = ["residual_mid", "layer_input", "layer_output"];

/// Families whose layers add token mixer and MLP to the residual stream and do nothing else to it.
const PRE_NORM: [&str; 25] = [
    "cohere",
    "cohere2",
    "falcon",
    "gemma",
    "glm",
    "gpt2",
    "gpt_neox",
    "gptj",
    "lfm2",
    "lfm2_moe",
    "llama",
    "ministral",
    "mistral",
    "mixtral",
    "mpt",
    "nemotron",
    "olmo",
    "olmoe",
    "phi",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_next",
    "smollm3",
    "starcoder2",
];

#[test]
fn raw_tensors() {
    for checkpoint in supported().0 {
        raw_of(&checkpoint);
    }
}

fn raw_of(checkpoint: &Checkpoint) {
    let mut sites = vec![
        "embedding",
        "layer_input",
        "attention_input",
        "q",
        "k",
        "v",
        "attention_gate",
        "attention_output",
        "mixer_output",
        "residual_mid",
        "mlp_input",
        "router_logits",
        "gate",
        "mlp_inner",
        "expert_inner",
        "expert_output",
        "mlp_output",
        "layer_output",
        "stream_sum",
        "final_norm",
    ];
    let temp = tempfile::tempdir().expect("a folder");
    let spec = Model::open(&checkpoint.folder).expect("it opens").spec;
    let has = |site: &str, layer: usize| {
        let site = Site::parse(site).expect(site);
        site.is_in(&spec.layers[layer])
    };
    // What no layer has is refused: tokens may go through different experts, say.
    let (known, absent): (Vec<&str>, Vec<&str>) = sites
        .into_iter()
        .partition(|site| (0..spec.layers.len()).any(|layer| has(site, layer)));
    if let Some(site) = absent.first() {
        let mut command = massact(["capture", "--token-ids", "1,2", "--sites", site]);
        command.arg("--pretrained").arg(&checkpoint.folder);
        let refused = run(command.arg("--save-dir").arg(temp.path()));
        assert_eq!(refused.code, Some(2), "{}", checkpoint.name);
        let said = ["observe ", &format!("site `{site}`")];
        let all = said.iter().all(|word| refused.stderr.contains(word));
        assert!(all, "{}", refused.stderr);
    }
    sites = known;
    let list = sites.join(",");
    let mut arguments = vec!["--raw".to_owned(), "--sites".into(), list];
    for sequence in &checkpoint.reference.sequences {
        arguments.extend(["--token-ids".to_owned(), sequence.argument()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let document = capture(checkpoint, temp.path(), &arguments);
    let raw = tensors::read(&only_run(temp.path()).join("capture.safetensors"));
    let name = &checkpoint.name;

    let layers = checkpoint.reference.sequences[0].layers.len();
    let mut expected = Vec::new();
    for (index, sequence) in checkpoint.reference.sequences.iter().enumerate() {
        for site in sites.iter().copied() {
            let count = if ["embedding", "final_norm"].contains(&site) {
                1
            } else {
                layers
            };
            for layer in (0..count).filter(|layer| has(site, *layer)) {
                let key = format!("{site}.{layer}.{index}");
                let tensor = raw.get(&key).unwrap_or_else(|| panic!("{name}: no {key}"));
                assert_eq!(tensor.shape.len(), 2, "{name}: {key}");
                assert_eq!(tensor.shape[0], sequence.token_ids.len(), "{name}: {key}");
                if STREAM.contains(&site) {
                    let streams = if HANDED_ON.contains(&site) {
                        spec.streams()
                    } else if site == "attention_input" && spec.layers[layer].side.is_some() {
                        // The stream and the embedding.
                        2
                    } else {
                        1
                    };
                    let width = streams * spec.hidden_size;
                    assert_eq!(tensor.shape[1], width, "{name}: {key}");
                }
                let said = &document["sequences"][index];
                let said = match site {
                    "layer_output" => &said["layers"],
                    _ => &said["sites"][site],
                };
                let mut said = said.as_array().into_iter().flatten();
                let said = said.find(|said| said["layer"] == layer);
                let said = said.unwrap_or_else(|| panic!("{name}: nothing said of {key}"));
                agrees_with_statistics(&format!("{name}: {key}"), tensor, said);
                expected.push(key);
            }
        }
        for layer in 0..layers {
            let mixer = |site: &str| raw.get(&format!("{site}.{layer}.{index}"));
            if spec.layers[layer].mixer.is_none() {
                assert_eq!(mixer("mixer_output"), mixer("attention_output"), "{name}");
            }
        }
        for layer in 1..layers {
            assert_eq!(
                raw[&format!("layer_input.{layer}.{index}")],
                raw[&format!("layer_output.{}.{index}", layer - 1)],
                "{name}: layer {layer}, sequence {index}"
            );
        }
        if PRE_NORM.contains(&checkpoint.model_type.as_str()) {
            for layer in 0..layers {
                let at = |site: &str| &raw[&format!("{site}.{layer}.{index}")];
                let [input, attention] = ["layer_input", "mixer_output"].map(at);
                let [mlp, output] = ["mlp_output", "layer_output"].map(at);
                adds_up(name, &[input, attention, mlp], output);
                let middle = at("residual_mid");
                // Where both parts run side by side, the MLP's starts from the layer's input.
                if middle != input {
                    adds_up(name, &[input, attention], middle);
                }
            }
        }
    }
    expected.sort();
    let names: Vec<&String> = raw.keys().collect();
    assert_eq!(names, expected.iter().collect::<Vec<_>>(), "{name}");
}

/// Maximum, median and top list, worked out again by sorting.
fn agrees_with_statistics(what: &str, tensor: &Tensor, said: &Value) {
    let mut order: Vec<usize> = (0..tensor.values.len()).collect();
    order.sort_by(|a, b| {
        let magnitude = |index: &usize| tensor.values[*index].abs();
        magnitude(b).total_cmp(&magnitude(a))
    });
    let value = |value: &Value| value.as_f64().map(|value| value as f32);
    let magnitude = |rank: usize| tensor.values[order[rank]].abs();
    assert_eq!(value(&said["max"]), Some(magnitude(0)), "{what}: max");
    // The lower middle of the ascending order is the upper half's first of the descending one.
    let median = magnitude(order.len() / 2);
    assert_eq!(value(&said["median"]), Some(median), "{what}: median");
    let top = said["top"].as_array().expect("top");
    assert_eq!(top.len(), order.len().min(5), "{what}: top");
    for (entry, index) in top.iter().zip(&order) {
        assert_eq!(
            value(&entry["value"]),
            Some(tensor.values[*index]),
            "{what}"
        );
        assert_eq!(entry["position"], index / tensor.shape[1], "{what}");
        assert_eq!(entry["dimension"], index % tensor.shape[1], "{what}");
    }
}

/// What a layer takes in plus what it adds is what it puts out, to float32 rounding.
fn adds_up(name: &str, parts: &[&Tensor], output: &Tensor) {
    for (index, output) in output.values.iter().enumerate() {
        let parts: Vec<f64> = (parts.iter())
            .map(|part| f64::from(part.values[index]))
            .collect();
        let size: f64 = parts.iter().map(|part| part.abs()).sum();
        let sum: f64 = parts.iter().sum();
        let rounding = 2.0 * f64::from(f32::EPSILON) * size;
        assert!(
            (sum - f64::from(*output)).abs() <= rounding,
            "{name}: {parts:?} make {output}"
        );
    }
}

/// What attention and the MLP read is RMSNorm (Zhang & Sennrich 2019) of the stream before them, and
/// what the down projection reads makes the MLP's output.
#[test]
fn inputs_are_the_norms_outputs() {
    let checkpoint = reference::load("planted-llama");
    let temp = tempfile::tempdir().expect("a folder");
    let sites = "layer_input,attention_input,residual_mid,mlp_input,mlp_inner,mlp_output";
    let ids = checkpoint.reference.sequences[3].argument();
    capture(
        &checkpoint,
        temp.path(),
        &["--raw", "--sites", sites, "--token-ids", &ids],
    );
    let raw = tensors::read(&only_run(temp.path()).join("capture.safetensors"));
    let weights = tensors::read(&checkpoint.folder.join("model.safetensors"));
    for layer in 0..4 {
        let at = |site: &str| &raw[&format!("{site}.{layer}.0")];
        let of = |name: &str| &weights[&format!("model.layers.{layer}.{name}.weight")];
        for (before, after, norm) in [
            ("layer_input", "attention_input", "input_layernorm"),
            ("residual_mid", "mlp_input", "post_attention_layernorm"),
        ] {
            let (weight, width) = (of(norm), at(before).shape[1]);
            let rows = at(before).values.chunks(width);
            for (x, y) in rows.zip(at(after).values.chunks(width)) {
                let square = |x: &f32| f64::from(*x).powi(2);
                let mean = x.iter().map(square).sum::<f64>() / width as f64;
                let factor = 1.0 / (mean + 1e-5).sqrt();
                for ((x, y), weight) in x.iter().zip(y).zip(&weight.values) {
                    let truth = f64::from(*x) * factor * f64::from(*weight);
                    assert!((f64::from(*y) - truth).abs() < 1e-5, "{after}: {y} {truth}");
                }
            }
        }
        let (down, inner, output) = (of("mlp.down_proj"), at("mlp_inner"), at("mlp_output"));
        let (wide, narrow) = (inner.shape[1], output.shape[1]);
        let scale = rms(&output.values);
        for (x, y) in inner.values.chunks(wide).zip(output.values.chunks(narrow)) {
            for (y, weight) in y.iter().zip(down.values.chunks(wide)) {
                let products = x.iter().zip(weight);
                let truth: f64 = products.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!((f64::from(*y) - truth).abs() < 1e-5 * scale, "{y} {truth}");
            }
        }
    }
}
