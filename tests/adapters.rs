//! LoRA adapters on the weights, against peft's own forward pass; and what is refused of them.
//!
//! Tolerances as in parity.rs: four times the noise that peft has itself in float32.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use massact::model::{Adapter, Model};
use serde::Deserialize;
use serde_json::{Value, json};
use support::damage::{Parts, edit_json};
use support::mutations::{Counted, Numbers, damaged, peak};
use support::program::{checkpoint, massact, only_run, read_json, run};
use support::reference::tolerance;
use support::schema::assert_valid;

#[global_allocator]
static COUNTED: Counted = Counted;

#[derive(Debug, Deserialize)]
struct Reference {
    base: String,
    token_ids: Vec<u32>,
    nll: f64,
    last_logits: Vec<f64>,
    layers: Vec<Layer>,
    noise: Noise,
}

#[derive(Debug, Deserialize)]
struct Layer {
    max: f64,
    median: f64,
}

#[derive(Debug, Deserialize)]
struct Noise {
    nll: f64,
    last_logits: f64,
    max: f64,
    median: f64,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters")
}

fn reference(adapter: &str) -> Reference {
    let path = folder().join(adapter).join("reference.json");
    serde_json::from_value(read_json(&path)).expect(adapter)
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names.map(|it| it.into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// What the program says of the reference's tokens.
fn captured(known: &Reference, out: &Path, more: &[&str]) -> Value {
    let ids: Vec<String> = known.token_ids.iter().map(u32::to_string).collect();
    let mut command = massact(["capture", "--json", "--nll", "--token-ids", &ids.join(",")]);
    command.args(["--last-logits", &known.last_logits.len().to_string()]);
    command.args(more).arg("--save-dir").arg(out);
    run(&mut command).succeeded().json()
}

fn with_adapter(name: &str, known: &Reference, out: &Path) -> Value {
    let (base, adapter) = (checkpoint(&known.base), folder().join(name));
    let arguments = [
        "--pretrained",
        base.to_str().expect("UTF-8"),
        "--adapter",
        adapter.to_str().expect("UTF-8"),
    ];
    captured(known, out, &arguments)
}

fn numbers(value: &Value) -> Vec<f64> {
    let list = value.as_array().expect("a list").iter();
    list.map(|value| value.as_f64().expect("a number"))
        .collect()
}

/// The largest difference as a share of its tolerance.
fn worst(found: &Value, known: &Reference) -> f64 {
    let sequence = &found["sequences"][0];
    let mut worst = 0.0f64;
    let mut near = |ours: f64, theirs: f64, scale: f64, noise: f64| {
        worst = worst.max((ours - theirs).abs() / scale / tolerance(noise));
    };
    let logits = numbers(&sequence["last_logits"]);
    let squares: f64 = known.last_logits.iter().map(|logit| logit * logit).sum();
    let scale = (squares / logits.len() as f64).sqrt();
    for (ours, theirs) in logits.iter().zip(&known.last_logits) {
        near(*ours, *theirs, scale, known.noise.last_logits);
    }
    let nll = sequence["nll"].as_f64().expect("a number");
    let noise = known.noise.nll.max(known.noise.last_logits);
    near(nll, known.nll, 1.0, noise);
    let layers = sequence["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), known.layers.len());
    for (ours, theirs) in layers.iter().zip(&known.layers) {
        let of = |name: &str| ours[name].as_f64().expect("a number");
        near(of("max"), theirs.max, theirs.max, known.noise.max);
        near(
            of("median"),
            theirs.median,
            theirs.median,
            known.noise.median,
        );
    }
    worst
}

#[test]
fn adapted_models_agree_with_peft() {
    let temp = tempfile::tempdir().expect("a folder");
    let names = names();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let known = reference(&name);
        let out = temp.path().join(&name);
        let found = with_adapter(&name, &known, &out);
        let share = worst(&found, &known);
        println!("{name}: {share:.2} tolerances");
        assert!(share <= 1.0, "{name}: {share} tolerances");
        // Without the adapter it is another model.
        let base = checkpoint(&known.base);
        let arguments = ["--pretrained", base.to_str().expect("UTF-8")];
        let bare = captured(&known, &temp.path().join("bare"), &arguments);
        assert!(worst(&bare, &known) > 1000.0, "{name}");

        let record = read_json(&only_run(&out).join("run.json"));
        assert_valid("run", &record);
        let adapter = &record["model"]["adapter"];
        let settings = read_json(&folder().join(&name).join("adapter_config.json"));
        for key in [
            "r",
            "lora_alpha",
            "use_rslora",
            "target_modules",
            "modules_to_save",
        ] {
            assert_eq!(adapter[key], settings[key], "{name} {key}");
        }
        let (a, _) = settings_and_tensors(&name);
        let hash = blake3::hash(&a).to_hex().to_string();
        assert_eq!(adapter["files"][0]["blake3"], hash, "{name}");
        assert!(adapter["adapted"].as_u64() > Some(0), "{name}");
        let inputs = record["inputs"].as_array().expect("inputs");
        let has = |end: &str| {
            let mut paths = inputs.iter().filter_map(|input| input["path"].as_str());
            paths.any(|path| path.ends_with(end))
        };
        let tensors = has("adapter_model.safetensors") || has("adapter_model.bin");
        assert!(has("adapter_config.json") && tensors, "{name}");
    }
}

fn settings_and_tensors(name: &str) -> (Vec<u8>, Vec<u8>) {
    let read = |file: &str| fs::read(folder().join(name).join(file));
    let tensors = read("adapter_model.safetensors").or_else(|_| read("adapter_model.bin"));
    (
        read("adapter_config.json").expect("settings"),
        tensors.expect("tensors"),
    )
}

/// A changed copy of an adapter.
fn changed(name: &str, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a folder");
    let (settings, tensors) = settings_and_tensors(name);
    fs::write(temp.path().join("adapter_config.json"), settings).expect("written");
    fs::write(temp.path().join("adapter_model.safetensors"), tensors).expect("written");
    change(temp.path());
    temp
}

/// Runs of one model with different adapters lie side by side, and are the adapter's, not the base's.
#[test]
fn an_adapter_is_part_of_who_a_run_is() {
    let temp = tempfile::tempdir().expect("a folder");
    let known = reference("llama-list");
    let base = checkpoint(&known.base);
    let base = base.to_str().expect("UTF-8");
    captured(&known, temp.path(), &["--pretrained", base]);
    with_adapter("llama-list", &known, temp.path());
    let other = changed("llama-list", |folder| {
        edit_json(&folder.join("adapter_config.json"), |settings| {
            settings.insert("lora_alpha".into(), json!(7));
        });
    });
    let path = other.path().to_str().expect("UTF-8");
    captured(
        &known,
        temp.path(),
        &["--pretrained", base, "--adapter", path],
    );
    let model = fs::read_dir(temp.path()).expect("a folder").next();
    let runs = fs::read_dir(model.expect("one").expect("an entry").path()).expect("runs");
    let records: Vec<Value> = runs
        .map(|run| read_json(&run.expect("a run").path().join("run.json")))
        .collect();
    assert_eq!(records.len(), 3);
    let mut labels: Vec<&str> = records
        .iter()
        .filter_map(|record| record["model"]["label"].as_str())
        .collect();
    labels.sort_unstable();
    assert_eq!(labels.len(), 2, "the base has none");
    assert!(
        labels.contains(&"llama-gqa3-f32 + llama-list"),
        "{labels:?}"
    );
}

/// A folder with an adapter alone names its base model; so one is compared with the other.
#[test]
fn an_adapter_alone_is_put_on_its_base() {
    let temp = tempfile::tempdir().expect("a folder");
    let known = reference("gpt-neox-fused");
    let adapter = folder().join("gpt-neox-fused");
    let adapter = adapter.to_str().expect("UTF-8");
    let found = captured(&known, temp.path(), &["--pretrained", adapter]);
    assert!(worst(&found, &known) <= 1.0);

    let orphan = changed("gpt-neox-fused", |folder| {
        edit_json(&folder.join("adapter_config.json"), |settings| {
            settings.insert("base_model_name_or_path".into(), Value::Null);
        });
    });
    let done = run(massact(["capture", "--token-ids", "1"])
        .arg("--pretrained")
        .arg(orphan.path())
        .arg("--save-dir")
        .arg(temp.path()));
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("does not name its base model"),
        "{}",
        done.stderr
    );

    let (one, other) = ("llama-list", checkpoint("llama-gqa3-f32"));
    let mut command = massact(["compare", "--experiments", "weights", "--json"]);
    command.arg(format!("base={}", other.display()));
    command.arg(format!("tuned={}", folder().join(one).display()));
    command.args(["--context-length", "16", "--nsamples", "1", "--text-file"]);
    command.arg(checkpoint("planted-llama").join("text.txt"));
    let done = run(command.arg("--save-dir").arg(temp.path()));
    // This checkpoint has no tokenizer, so that the text cannot be compared.
    assert!(done.stderr.contains("tokenizer"), "{}", done.stderr);
}

fn refusal(adapter: &str, change: impl FnOnce(&Path)) -> String {
    let known = reference(adapter);
    let folder = changed(adapter, change);
    let opened = Adapter::open(folder.path())
        .and_then(|adapter| Model::open_with(&checkpoint(&known.base), Some(adapter)));
    let error = opened.expect_err("refused").to_string();
    assert!(
        error.contains("; ") && error.lines().count() == 1,
        "{error}"
    );
    error
}

fn edited(key: &'static str, value: Value) -> impl FnOnce(&Path) {
    move |folder| {
        edit_json(&folder.join("adapter_config.json"), |settings| {
            settings.insert(key.into(), value);
        });
    }
}

/// Another name for the first tensor of this name.
fn renamed(from: &'static str, to: &'static str) -> impl FnOnce(&Path) {
    move |folder| {
        let path = folder.join("adapter_model.safetensors");
        let mut parts = Parts::read(&path);
        let name = parts.names().into_iter().find(|name| name.contains(from));
        let name = name.expect(from);
        let tensor = parts.header.remove(&name).expect("a tensor");
        parts.header.insert(name.replace(from, to), tensor);
        fs::write(path, parts.bytes()).expect("written");
    }
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (key, value) in [
        ("use_dora", json!(true)),
        ("peft_type", json!("ADALORA")),
        ("lora_bias", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("target_parameters", json!(["mlp.experts"])),
        ("trainable_token_indices", json!([1, 2])),
        ("a_key_of_tomorrow", json!("on")),
        ("r", json!(5)),
        ("rank_pattern", json!({ "q_proj": 3 })),
    ] {
        let error = refusal("llama-list", edited(key, value));
        let says = match key {
            "r" => "not floats of rank 5",
            "rank_pattern" => "not floats of rank 3",
            key => key,
        };
        assert!(error.contains(says), "{key}: {error}");
    }
    let pattern = edited("target_modules", json!(["k_proj"]));
    assert!(refusal("llama-list", pattern).contains("target_modules"));
    for (from, to, says) in [
        (
            "layers.0.mlp.down_proj",
            "layers.9.mlp.down_proj",
            "layers.9.mlp.down_proj",
        ),
        ("down_proj.lora_A", "down_proj.lora_C", "lora_C"),
        (
            "down_proj.lora_A.weight",
            "down_proj.lora_magnitude_vector",
            "DoRA",
        ),
        (
            "down_proj.lora_B.weight",
            "down_proj.lora_B.bias",
            "biases of the added product",
        ),
        ("mlp.down_proj.lora_A", "mlp.up_proj.lora_A", "up_proj"),
        (
            "0.mlp.down_proj.lora_A.weight",
            "0.mlp.down_proj.weight",
            "only one of its two",
        ),
    ] {
        let error = refusal("llama-list", renamed(from, to));
        assert!(error.contains(says), "{to}: {error}");
    }
    // Another model's.
    let adapter = Adapter::open(&folder().join("llama-list")).expect("read");
    let other = Model::open_with(&checkpoint("llama-gqa7-head-dim"), Some(adapter));
    let error = other.expect_err("another model").to_string();
    assert!(error.contains("make one of shape"), "{error}");
    let alone = refusal("llama-list", |folder| {
        fs::remove_file(folder.join("adapter_model.safetensors")).expect("removed");
    });
    assert!(alone.contains("no adapter_model.safetensors"), "{alone}");
}

/// `tvr` rewrites a checkpoint's own files.
#[test]
fn tvr_refuses_an_adapter() {
    let temp = tempfile::tempdir().expect("a folder");
    let done = run(massact(["tvr", "--dry-run", "--pretrained"])
        .arg(folder().join("llama-list"))
        .arg("--save-dir")
        .arg(temp.path()));
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("merge"), "{}", done.stderr);
}

/// Whatever lies in an adapter's files, opening ends, in bounded memory, in a model or in one line.
#[test]
fn damaged_adapters_are_refused_or_read() {
    let mut numbers = Numbers(7);
    let mut names = names();
    // What PyTorch writes has mutations of its own.
    names.retain(|name| name != "llama-pickled");
    let (mut opened, mut refused) = (0, 0);
    for turn in 0..2400 {
        let name = &names[turn % names.len()];
        let base = checkpoint(&reference(name).base);
        let (mut settings, mut tensors) = settings_and_tensors(name);
        let hurt = match numbers.below(3) {
            0 => &mut settings,
            _ => &mut tensors,
        };
        *hurt = damaged(hurt, &mut numbers);
        let size = settings.len() + tensors.len();
        let (result, most) = peak(|| {
            let adapter = Adapter::in_memory(&settings, tensors)?;
            let model = Model::open_with(&base, Some(adapter))?;
            // A hidden fault would show where the weights are decoded.
            for layer in &model.spec.layers {
                for linear in layer.linears() {
                    let mut row = vec![0.0; linear.in_features];
                    model.matrix(linear)?.write_output(0, &mut row);
                }
            }
            Ok::<_, massact::error::Error>(())
        });
        assert!(
            most < 40 * size + (16 << 20),
            "{name}: {most} bytes of {size}"
        );
        match result {
            Ok(()) => opened += 1,
            Err(error) => {
                refused += 1;
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 200 && refused > 200, "{opened} {refused}");
}

/// An adapter without the tensors whose names have `part`.
fn without(part: &'static str) -> impl FnOnce(&Path) {
    move |folder| {
        let path = folder.join("adapter_model.safetensors");
        let old = Parts::read(&path);
        let mut new = old.clone();
        new.data.clear();
        for name in old.names() {
            if name.contains(part) {
                new.header.remove(&name);
                continue;
            }
            let (first, last) = old.range(&name);
            let start = new.data.len();
            new.data.extend_from_slice(&old.data[first..last]);
            new.header[&name]["data_offsets"] = json!([start, new.data.len()]);
        }
        fs::write(path, new.bytes()).expect("written");
    }
}

fn notices(adapter: &str, change: impl FnOnce(&Path)) -> String {
    let folder = changed(adapter, change);
    let opened = Adapter::open(folder.path()).expect("read");
    let base = checkpoint(&reference(adapter).base);
    let model = Model::open_with(&base, Some(opened)).expect("a model");
    model.notices().join("\n")
}

/// The library warns of "missing adapter keys"; where there is no tensor at all, nothing is adapted.
#[test]
fn modules_without_tensors_are_named() {
    for name in names() {
        if name != "llama-pickled" {
            let found = notices(&name, |_| ());
            assert!(!found.contains("has no tensors"), "{name}: {found}");
        }
    }
    let found = notices("llama-list", without("layers.1.self_attn"));
    let q_and_v = ": `model.layers.1.self_attn.q_proj`, `model.layers.1.self_attn.v_proj`";
    assert!(found.contains("has no tensors"), "{found}");
    assert!(found.lines().any(|line| line.ends_with(q_and_v)), "{found}");
    // The library's spelling where the files have another; of a pattern; of a head.
    let found = notices("gpt2-bare-names", without("h.1.attn.c_attn"));
    assert!(found.contains("`transformer.h.1.attn.c_attn`"), "{found}");
    let found = notices("llama-patterns", without("layers.2.mlp"));
    assert!(found.ends_with(": `model.layers.2.mlp.up_proj`"), "{found}");
    let found = notices("llama-patterns", without("lm_head"));
    assert!(found.ends_with(": `lm_head`"), "{found}");
    // Whole modules alone.
    let error = refusal("qwen2-saved-modules", without(".lora_"));
    assert!(error.contains("no tensors for any module"), "{error}");
    assert!(error.contains("self_attn.q_proj`"), "{error}");
}

#[test]
fn an_untied_head_is_not_said_to_be_stored() {
    for name in ["llama-patterns", "gpt2-embedding"] {
        let found = notices(name, |_| ());
        assert!(!found.contains("has other values"), "{name}: {found}");
        assert!(
            found.contains("with the adapter embedding and head"),
            "{name}: {found}"
        );
    }
    assert!(!notices("llama-list", |_| ()).contains("embedding and head"));
}

#[test]
fn a_damaged_adapter_is_to_be_got_again() {
    let nan = |folder: &Path| {
        let path = folder.join("adapter_model.safetensors");
        let mut parts = Parts::read(&path);
        let name = parts.names().pop().expect("a tensor");
        let (first, _) = parts.range(&name);
        parts.data[first..first + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(path, parts.bytes()).expect("written");
    };
    for (error, says) in [
        (refusal("llama-list", edited("r", json!(5))), "[4, "),
        (
            refusal("llama-list", without("1.mlp.down_proj.lora_B")),
            "only one of its two",
        ),
        (refusal("llama-list", nan), "not a number"),
    ] {
        assert!(error.contains(says) && error.contains("again"), "{error}");
        assert!(!error.contains("merge"), "{error}");
    }
}
