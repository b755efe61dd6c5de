//! Packed checkpoints damaged by the thousand: no panic, no hang, and no more memory than the file's own
//! size times what its format unpacks to.

mod support;

use std::borrow::Cow;
use std::path::Path;

use massact::model::config::Config;
use massact::model::{Model, weights};
use serde_json::{Value, json};
use support::damage::Parts;
use support::mutations::{Counted, Numbers, damaged, peak};
use support::program::read_json;

#[global_allocator]
static COUNTED: Counted = Counted;

/// Damaged versions of every checkpoint.
const VERSIONS: u64 = 2_000;
/// The most float32 bytes that a byte of a file stands for: 2 bits a value.
const RATIO: usize = 16;
/// What a model costs beside its weights.
const BESIDE: usize = 4 << 20;

/// The files of weights, and config.json as it is read.
struct Checkpoint {
    files: Vec<(String, Vec<u8>)>,
    config: Value,
}

impl Checkpoint {
    fn read(folder: &Path) -> Self {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                files.push((name.into_owned(), std::fs::read(&path).expect("a file")));
            }
        }
        files.sort();
        let mut config = read_json(&folder.join("config.json"));
        let beside = folder.join("hf_quant_config.json");
        if beside.exists() {
            let algorithm = &read_json(&beside)["quantization"]["quant_algo"];
            config["quantization_config"] =
                json!({ "quant_method": "modelopt", "quant_algo": algorithm });
        }
        Self { files, config }
    }

    /// With one thing wrong: in the bytes, in the description of a tensor, or in the config.
    fn damage(&mut self, numbers: &mut Numbers) {
        let file = numbers.below(self.files.len());
        let bytes = &mut self.files[file].1;
        match numbers.below(3) {
            0 => *bytes = damaged(bytes, numbers),
            1 => describe_wrongly(bytes, numbers),
            _ => spoil(&mut self.config["quantization_config"], numbers),
        }
    }

    /// Opens it and decodes every packed tensor.
    fn decode(&self) -> Result<(), massact::Error> {
        let config = Config::parse(self.config.to_string().as_bytes())?;
        let files = self.files.iter();
        let files = files.map(|(name, bytes)| (name.as_str(), Cow::Owned(bytes.clone())));
        let model = Model::assemble(&config, weights::in_memory(files.collect())?, None)?;
        let names: Vec<&str> = model.weights.names().collect();
        for tensor in names.iter().filter_map(|name| model.weights.packed(name)) {
            let (encoding, shape) = (tensor.encoding(), tensor.shape());
            let (outputs, inputs) = (shape[shape.len() - 2], shape[shape.len() - 1]);
            let stack: usize = shape[..shape.len() - 2].iter().product();
            let (lines, length) = match encoding.by_input() {
                true => (stack * inputs, outputs),
                false => (stack * outputs, inputs),
            };
            let mut values = vec![0.0; lines * length];
            for (line, out) in values.chunks_mut(length.max(1)).enumerate() {
                encoding.decode(line, 0, out);
            }
        }
        Ok(())
    }
}

/// Changes name, type or shape of a tensor in a file's header.
fn describe_wrongly(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let path = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(path.path(), &*bytes).expect("written");
    let mut parts = Parts::read(path.path());
    let names = parts.names();
    let name = &names[numbers.below(names.len())];
    let tensor = &mut parts.header[name];
    match numbers.below(4) {
        0 => {
            let tensor = tensor.take();
            parts.header.remove(name);
            // Under another's name, or one that nobody has.
            let other = &names[numbers.below(names.len())];
            let new = if numbers.below(2) == 0 { other } else { "x" };
            parts.header.insert(new.to_owned(), tensor);
        }
        1 => {
            let types = [
                "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F16", "BF16", "I16", "I32", "U32",
                "F32", "I64", "F4",
            ];
            tensor["dtype"] = json!(types[numbers.below(types.len())]);
        }
        2 => {
            let shape = tensor["shape"].as_array_mut().expect("a list");
            shape.reverse();
        }
        _ => {
            let shape = tensor["shape"].as_array_mut().expect("a list");
            let count: u64 = shape.iter().filter_map(Value::as_u64).product();
            let by = [1, 2, 3, 4, 8, 32][numbers.below(6)];
            *shape = match numbers.below(4) {
                0 => vec![json!(count)],
                1 => vec![json!(by), json!(count / by)],
                2 => vec![json!(count / by), json!(by)],
                _ => vec![json!(1), json!(count / by), json!(by)],
            };
        }
    }
    *bytes = parts.bytes();
}

/// Replaces a value somewhere in the config by another kind of value.
fn spoil(value: &mut Value, numbers: &mut Numbers) {
    let others = [
        json!(null),
        json!(0),
        json!(1),
        json!(-1),
        json!(3),
        json!(16),
        json!(48),
        json!(1u64 << 40),
        json!(u64::MAX),
        json!(0.5),
        json!(true),
        json!(false),
        json!(""),
        json!("group"),
        json!("gptq_v2"),
        json!("re:(.*)*$"),
        json!([]),
        json!([1, 1]),
        json!([3, 0]),
        json!({}),
    ];
    let other = others[numbers.below(others.len())].clone();
    match value {
        Value::Object(inside) if !inside.is_empty() && numbers.below(8) > 0 => {
            let keys: Vec<String> = inside.keys().cloned().collect();
            let key = &keys[numbers.below(keys.len())];
            spoil(&mut inside[key], numbers);
        }
        Value::Array(items) if !items.is_empty() && numbers.below(4) > 0 => {
            let index = numbers.below(items.len());
            spoil(&mut items[index], numbers);
        }
        other_value => *other_value = other,
    }
}

fn survive(part: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let mut folders: Vec<_> = std::fs::read_dir(folder)
        .expect("tests/checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("dequantised.safetensors").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 20, "{}", folders.len());
    for folder in folders.iter().skip(part).step_by(2) {
        let mut opened = 0;
        let size: usize = Checkpoint::read(folder)
            .files
            .iter()
            .map(|file| file.1.len())
            .sum();
        for version in 0..VERSIONS {
            let mut checkpoint = Checkpoint::read(folder);
            checkpoint.damage(&mut Numbers(version));
            let (result, most) = peak(|| checkpoint.decode());
            let at = format!("{}, version {version}", folder.display());
            let allowed = size * RATIO + BESIDE;
            assert!(most <= allowed, "{at}: {most} of {allowed} bytes");
            match result {
                Ok(()) => opened += 1,
                Err(error) => {
                    let text = error.to_string();
                    let readable = text.lines().count() == 1 && text.contains("; ");
                    assert!(readable, "{at}: {text}");
                }
            }
        }
        println!("{}: {opened} of {VERSIONS} open", folder.display());
        // Damage that everything survives, or nothing does, tests nothing.
        assert!(
            opened > VERSIONS / 50 && opened < VERSIONS * 9 / 10,
            "{opened}"
        );
    }
}

#[test]
fn damaged_checkpoints_are_refused_or_read_every_second() {
    survive(0);
}

#[test]
fn damaged_checkpoints_are_refused_or_read_the_others() {
    survive(1);
}
