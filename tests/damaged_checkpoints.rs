//! Checkpoints with random or systematic damage, through the library: never a panic, never a
//! result that hides the damage.

mod support;

use std::path::Path;

use massact::backend::{AttentionCapture, StatisticsRequest, cpu::Cpu};
use massact::engine::{self, Discard, Outcome, Plan, Site, without_attention};
use massact::model::Model;
use massact::model::spec::DecoderSpec;
use massact::progress::Progress;
use massact::{Error, Result};
use proptest::prelude::*;
use rayon::prelude::*;
use serde_json::{Value, json};
use support::damage::{Parts, copy};
use support::program::read_json;

/// Opens the checkpoint and runs it once over everything that can be asked for.
fn open_and_run(folder: &Path) -> Result<Outcome> {
    let model = Model::open(folder)?;
    // Enough of them for the tokens that a layer puts together.
    let mut ids = vec![1, 5, 7, 11, 2, 9, 3];
    if let Some(tokenizer) = &model.tokenizer {
        let text = tokenizer.encode("The river paints a wooden box. \u{1f980}\u{0} ")?;
        ids.extend(text.iter().take(20));
        ids.iter().for_each(|id| drop(tokenizer.token(*id)));
    }
    // To ask for what no layer has is a usage error.
    let mut sites = Site::ALL.to_vec();
    sites.retain(|site| site.exists_in(&model.spec));
    let maps = without_attention(&model.spec).len() < model.spec.layers.len();
    let plan = Plan {
        statistics: StatisticsRequest {
            top_k: 5,
            abs_threshold: 100.0,
            rel_threshold: 1000.0,
            moments: false,
        },
        sites,
        raw: Vec::new(),
        attention: AttentionCapture {
            mean: maps,
            heads: maps,
            sink: maps,
        },
        nll: true,
        last_logits: 16,
        ..Plan::default()
    };
    let sequences = [ids];
    let progress = Progress::silent();
    engine::run(
        &Cpu::new(),
        &model,
        &sequences,
        &plan,
        &mut Discard,
        progress,
    )
}

/// One line, with a remedy.
fn is_readable(error: &Error) -> bool {
    let text = error.to_string();
    text.lines().count() == 1 && text.contains("; ") && matches!(error.exit_code(), 1 | 2)
}

/// No number that was worked out is NaN or infinite.
fn is_sound(outcome: &Outcome) -> bool {
    let statistics = outcome.statistics.values().flatten().flatten();
    statistics.into_iter().all(|found| {
        found.max.is_finite()
            && found.median.is_finite()
            && found
                .top
                .iter()
                .chain(&found.massive)
                .all(|entry| entry.value.is_finite())
    }) && outcome
        .token_nll
        .iter()
        .flatten()
        .all(|value| value.is_finite())
        && outcome
            .last_logits
            .iter()
            .flatten()
            .all(|value| value.is_finite())
}

fn judge(result: Result<Outcome>) -> std::result::Result<(), String> {
    match result {
        Ok(outcome) if is_sound(&outcome) => Ok(()),
        Ok(_) => Err("numbers that are none".into()),
        Err(error) if is_readable(&error) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        sharded: bool,
        file in 0usize..4,
        at in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 1..8),
        keep in prop_oneof![4 => Just(1.0f64), 1 => 0.0f64..1.0],
    ) {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = temp.path().join("model");
        let name = if sharded {
            copy("llama-tied-bf16-sharded", &folder);
            [
                "config.json",
                "model.safetensors.index.json",
                "model-00001-of-00003.safetensors",
                "model-00002-of-00003.safetensors",
            ][file]
        } else {
            copy("planted-gpt2", &folder);
            ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"][file]
        };
        let path = folder.join(name);
        let mut bytes = std::fs::read(&path).expect("a file");
        // Of weights the header is what can be wrong; of the rest, anything.
        let reach = if name.ends_with(".safetensors") {
            8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize
        } else {
            bytes.len()
        };
        for (place, value) in at {
            bytes[(place * reach as f64) as usize] = value;
        }
        bytes.truncate((keep * bytes.len() as f64) as usize);
        std::fs::write(&path, bytes).expect("written");
        prop_assert_eq!(judge(open_and_run(&folder)), Ok(()));
    }
}

/// Every setting of every family's config replaced by values nobody expects.
#[test]
fn extreme_settings_never_panic() {
    let extremes = [
        json!(null),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(-1),
        json!(1u64 << 31),
        json!(u64::MAX),
        json!(1e-300),
        json!(1e300),
        json!(0.5),
        json!(true),
        json!(false),
        json!("x"),
        json!([]),
        json!([1, 2]),
        json!({}),
    ];
    // A family a thread: each setting takes a moment, and there are tens of thousands.
    let failures: Vec<String> = one_of_each_family()
        .into_par_iter()
        .flat_map_iter(|(checkpoint, _)| with_each(&checkpoint, &extremes))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What goes wrong where one of these values is in the place of each of a checkpoint's settings.
fn with_each(checkpoint: &str, extremes: &[Value]) -> Vec<String> {
    let mut failures = Vec::new();
    let temp = tempfile::tempdir().expect("a folder");
    copy(checkpoint, temp.path());
    let path = temp.path().join("config.json");
    let sound = read_json(&path);
    for place in places(&sound) {
        for extreme in extremes {
            let mut config = sound.clone();
            *config.pointer_mut(&place).expect("there") = extreme.clone();
            std::fs::write(&path, config.to_string()).expect("written");
            let folder = temp.path().to_owned();
            // A panic is caught to say for which setting it was.
            let judged = std::panic::catch_unwind(|| judge(open_and_run(&folder)));
            match judged {
                Ok(Ok(())) => {}
                Ok(Err(why)) => failures.push(format!("{checkpoint}{place} = {extreme}: {why}")),
                Err(_) => failures.push(format!("{checkpoint}{place} = {extreme}: a panic")),
            }
        }
    }
    failures
}

/// JSON pointers of all values of a config, those of nested objects included.
fn places(config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in config.as_object().expect("an object") {
        found.push(format!("/{key}"));
        if value.is_object() {
            found.extend(
                places(value)
                    .into_iter()
                    .map(|below| format!("/{key}{below}")),
            );
        }
    }
    found
}

/// The supported checkpoints that differ in what they have; the others only differ in sizes.
fn one_of_each_family() -> Vec<(String, String)> {
    let mut seen = Vec::new();
    for checkpoint in support::reference::all() {
        let known = massact::model::families::FAMILIES;
        let supported = known.iter().any(|f| f.model_type == checkpoint.model_type);
        // The planted ones are ordinary; llama's scalings of positions each have settings.
        if supported && !checkpoint.name.starts_with("planted") {
            seen.push((checkpoint.name, checkpoint.model_type));
        }
    }
    seen
}

/// A NaN anywhere in a weight that counts is reported, with its layer, in every activation,
/// norm and dtype: nothing between the weight and the statistics swallows it.
#[test]
fn a_weight_of_nan_is_always_reported() {
    for (checkpoint, _) in one_of_each_family() {
        let temp = tempfile::tempdir().expect("a folder");
        copy(&checkpoint, temp.path());
        let model = Model::open(temp.path()).expect("opens");
        let spec = &model.spec;
        for path in weight_files(temp.path()) {
            let sound = Parts::read(&path);
            for name in sound.names() {
                if !counts(spec, &name) || !has_nan(&model, &name, &sound) {
                    continue;
                }
                let (start, end) = sound.range(&name);
                let width = if sound.header[&name]["dtype"] == "F32" {
                    4
                } else {
                    2
                };
                let mut parts = sound.clone();
                for element in parts.data[start..end].chunks_exact_mut(width) {
                    element.fill(0xff);
                }
                std::fs::write(&path, parts.bytes()).expect("written");
                let error = open_and_run(temp.path()).err();
                let error = error.unwrap_or_else(|| panic!("{checkpoint}: {name} went unnoticed"));
                assert!(is_readable(&error), "{error}");
                let message = error.to_string();
                // Of a weight that layers share, the first that uses it.
                let mut users = (0..spec.layers.len())
                    .filter(|layer| spec.layer_tensors(*layer).contains(&name));
                // What goes to another residual stream is seen when a later layer, or the end, reads that.
                let others = spec.layers.iter().any(|layer| layer.altup.is_some());
                let named = users.next().is_none_or(|layer| {
                    message.contains(&format!("layer {layer}, "))
                        || message.contains(&format!(".{layer}."))
                        || others && message.contains(&format!("layer {}, ", layer + 1))
                        || others && message.contains("final_norm")
                });
                assert!(named, "{checkpoint}: {name}: {message}");
            }
            std::fs::write(&path, sound.bytes()).expect("written");
        }
    }
}

/// Whether a tensor of the model has a NaN: codes of packed weights have none, FP8 apart.
fn has_nan(model: &Model, name: &str, stored: &Parts) -> bool {
    let dtype = stored.header[name]["dtype"].as_str();
    let fp8 = dtype.is_some_and(|dtype| dtype.starts_with("F8"));
    model.weights.contains(name) && (fp8 || !model.weights.is_packed(name))
}

/// Whether every run over a few tokens reads this tensor: not the buffers that old checkpoints
/// hold, not the head of a tied model, not an expert that no token may choose.
fn counts(spec: &DecoderSpec, name: &str) -> bool {
    let in_layer = name.split('.').any(|part| part.parse::<usize>().is_ok());
    if in_layer {
        let layers = 0..spec.layers.len();
        return !name.contains("expert")
            && layers.into_iter().any(|layer| {
                spec.layer_tensors(layer)
                    .iter()
                    .any(|tensor| tensor == name)
            });
    }
    // Not what multimodal checkpoints have for images.
    spec.tensors().iter().any(|tensor| tensor == name)
}

/// Infinity may vanish rightly (a negative one in a ReLU), but never becomes a wrong number.
#[test]
fn infinite_weights_are_reported_or_harmless() {
    for (checkpoint, _) in one_of_each_family() {
        let temp = tempfile::tempdir().expect("a folder");
        copy(&checkpoint, temp.path());
        for path in weight_files(temp.path()) {
            let sound = Parts::read(&path);
            for name in sound.names() {
                let (start, end) = sound.range(&name);
                if end - start < 2 {
                    continue;
                }
                let infinity: &[u8] = match sound.header[&name]["dtype"].as_str() {
                    Some("F32") => &[0, 0, 0x80, 0x7f],
                    Some("BF16") => &[0x80, 0x7f],
                    _ => &[0, 0x7c],
                };
                let mut parts = sound.clone();
                let middle = start + (end - start) / infinity.len() / 2 * infinity.len();
                parts.data[middle..middle + infinity.len()].copy_from_slice(infinity);
                std::fs::write(&path, parts.bytes()).expect("written");
                let judged = judge(open_and_run(temp.path()));
                assert_eq!(judged, Ok(()), "{checkpoint}: {name}");
            }
            std::fs::write(&path, sound.bytes()).expect("written");
        }
    }
}

fn weight_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    files
}

/// As in transformers, which opens the shards that the index names, in the order of their names, and
/// takes all that is in them.
#[test]
fn of_a_tensor_in_two_shards_the_last_counts() {
    let temp = tempfile::tempdir().expect("a folder");
    let name = "model.norm.weight";
    let split = |index_names: usize, empty_in: Option<usize>| {
        let folder = temp.path().join("model");
        let _ = std::fs::remove_dir_all(&folder);
        copy("planted-llama", &folder);
        let single = folder.join("model.safetensors");
        let parts = Parts::read(&single);
        std::fs::remove_file(&single).expect("removed");
        let mut map = serde_json::Map::new();
        for shard in 0..2usize {
            let mut copy = parts.clone();
            let (start, end) = copy.range(name);
            // Each shard has its own values: 1 in the first, 2 in the second.
            for value in copy.data[start..end].chunks_exact_mut(4) {
                value.copy_from_slice(&(shard as f32 + 1.0).to_le_bytes());
            }
            if empty_in == Some(shard) {
                let tensor = copy.header.remove(name).expect("there");
                copy.header.insert("another".into(), tensor);
            }
            std::fs::write(folder.join(format!("s{shard}.safetensors")), copy.bytes())
                .expect("written");
        }
        for tensor in parts.names() {
            // Both are opened.
            let place = match tensor.as_str() {
                "model.embed_tokens.weight" => 1,
                _ if tensor == name => index_names,
                _ => 0,
            };
            map.insert(tensor, json!(format!("s{place}.safetensors")));
        }
        let index = json!({ "weight_map": map }).to_string();
        std::fs::write(folder.join("model.safetensors.index.json"), index).expect("written");
        Model::open(&folder)
    };
    let value = |model: &Model| {
        let tensor = model.weights.get(name).expect("there");
        tensor.elements.to_f32()[0]
    };
    for place in 0..2 {
        let model = split(place, None).expect("opens");
        assert_eq!(value(&model), 2.0, "the index names shard {place}");
        let notices = model.notices();
        assert!(
            notices.iter().any(|text| text.contains("earlier shard")),
            "{notices:?}"
        );
    }
    let model = split(1, Some(1)).expect("the other shard has it");
    assert_eq!(value(&model), 1.0);
}
