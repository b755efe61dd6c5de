//! GGUF files: values against the package `gguf`'s own decoding, ids against the tokenizers that the
//! vocabularies were made from, and what is refused. tests/parity.rs compares whole models.

mod support;

use std::path::{Path, PathBuf};

use massact::model::Model;
use massact::model::spec::{Linear, Vector};
use serde_json::Value;
use support::program::{massact, only_run, read_json, run};
use support::reference::gguf;
use support::tensors;

fn folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf");
    root.join(name)
}

#[test]
fn values_of_every_type_are_exact() {
    let mut types: Vec<String> = Vec::new();
    for checkpoint in gguf() {
        let model = Model::open(&checkpoint.folder).expect("a model");
        types.extend(model.weights_record().stored_as.keys().cloned());
        let sampled = tensors::read(&checkpoint.folder.join("weights.safetensors"));
        assert!(sampled.len() > 10);
        for (name, expected) in sampled {
            let at = format!("{} {name}", checkpoint.name);
            let own = model.weights.shape(&name).unwrap_or_else(|| panic!("{at}"));
            let (found, wanted) = match *own {
                [length] => (
                    model
                        .vector(&Vector::new(name.clone(), length))
                        .expect("a vector"),
                    expected.values,
                ),
                [rows, width] if expected.shape[1] == width => {
                    let matrix = model
                        .matrix(&Linear::new(name, width, rows))
                        .expect("a matrix");
                    let mut chosen = vec![0, 1 % rows, rows / 2, rows - 1];
                    chosen.sort_unstable();
                    chosen.dedup();
                    let mut found = vec![0.0; chosen.len() * width];
                    for (row, out) in chosen.into_iter().zip(found.chunks_mut(width)) {
                        matrix.write_output(row, out);
                    }
                    (found, expected.values)
                }
                _ => panic!("{at}: {own:?}"),
            };
            let bits = |values: &[f32]| {
                values
                    .iter()
                    .map(|value| value.to_bits())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bits(&found), bits(&wanted), "{at}");
        }
    }
    types.sort();
    types.dedup();
    let all = "IQ4_NL IQ4_XS MXFP4 Q2_K Q3_K Q4_0 Q4_1 Q4_K Q5_0 Q5_1 Q5_K Q6_K Q8_0 TQ1_0 TQ2_0 \
               bfloat16 float16 float32";
    assert_eq!(types.join(" "), all);
}

#[test]
fn ids_are_those_of_the_tokenizer_that_it_was_made_from() {
    let known = read_json(&folder("vocabularies/ids.json"));
    let texts: Vec<&str> = known["texts"]
        .as_array()
        .expect("texts")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (name, ids) in known["ids"].as_object().expect("by file") {
        let model = Model::open(&folder(&format!("vocabularies/{name}.gguf"))).expect("a model");
        let tokenizer = model.tokenizer.expect("a tokenizer");
        assert_eq!(
            tokenizer.bos(),
            Some(if name.starts_with("pieces") { 1 } else { 0 }),
            "{name}"
        );
        for (text, ids) in texts.iter().zip(ids.as_array().expect("a list")) {
            let wanted: Vec<u32> = serde_json::from_value(ids.clone()).expect("ids");
            assert_eq!(
                tokenizer.encode(text).expect("ids"),
                wanted,
                "{name}: {text:?}"
            );
        }
    }
}

#[test]
fn the_record_says_how_it_is_stored_and_what_was_read() {
    let temp = tempfile::tempdir().expect("a folder");
    let file = folder("llama-f16-split").join("model-00001-of-00003.gguf");
    let mut command = massact(["capture", "--quiet", "--token-ids", "1,2,3", "--pretrained"]);
    run(command.arg(&file).arg("--save-dir").arg(temp.path())).succeeded();
    let place = only_run(temp.path());
    let record = read_json(&place.join("run.json"));
    assert_eq!(record["weights"]["format"], "GGUF, F16");
    assert_eq!(record["weights"]["unused"], serde_json::json!([]));
    let inputs = record["inputs"].as_array().expect("a list").iter();
    let names: Vec<&str> = inputs.filter_map(|input| input["path"].as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names[2].ends_with("model-00003-of-00003.gguf"), "{names:?}");
    let above = place
        .parent()
        .expect("a folder")
        .file_name()
        .expect("named")
        .to_string_lossy();
    assert!(above.starts_with("model-00001-of-00003-"), "{above}");
}

/// What opening the file says.
fn refusal(path: &Path) -> String {
    Model::open(path).expect_err("refused").to_string()
}

#[test]
fn parts_of_a_model_are_found_by_the_first() {
    let temp = tempfile::tempdir().expect("a folder");
    for index in 1..=3 {
        let name = format!("model-0000{index}-of-00003.gguf");
        std::fs::copy(
            folder("llama-f16-split").join(&name),
            temp.path().join(&name),
        )
        .expect("copied");
    }
    let part = |index: usize| temp.path().join(format!("model-0000{index}-of-00003.gguf"));
    assert!(Model::open(temp.path()).is_ok());
    let second = refusal(&part(2));
    assert!(
        second.contains("give the first one, model-00001-of-00003.gguf"),
        "{second}"
    );
    let renamed = temp.path().join("other.gguf");
    std::fs::copy(part(1), &renamed).expect("copied");
    let message = refusal(&renamed);
    assert!(
        message.contains("its name does not say so") && message.contains("of-00003"),
        "{message}"
    );
    std::fs::copy(part(2), part(3)).expect("copied");
    let message = refusal(&part(1));
    assert!(message.contains("lies in an earlier file"), "{message}");
    std::fs::remove_file(part(3)).expect("removed");
    let message = refusal(&part(1));
    assert!(
        message.contains("model-00003-of-00003.gguf is not beside it"),
        "{message}"
    );
}

/// A file with some bytes, and where they are, replaced.
fn changed(name: &str, from: &[u8], to: &[u8]) -> (tempfile::TempDir, PathBuf) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(folder(name).join("model.gguf")).expect("a file");
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("there");
    bytes[at..at + to.len()].copy_from_slice(to);
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("changed.gguf");
    std::fs::write(&path, bytes).expect("written");
    (temp, path)
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let architecture = |to: &[u8]| changed("llama-f32", b"\x05\0\0\0\0\0\0\0llama", to);
    for ((_temp, path), says) in [
        (
            architecture(b"\x05\0\0\0\0\0\0\0mamba"),
            &["`mamba`", "gemma3"][..],
        ),
        (
            changed("llama-f32", b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03"),
            &["big-endian"],
        ),
        (
            changed("llama-f32", b"GGUF\x03\0\0\0", b"GGUF\x01\0\0\0"),
            &["version 1"],
        ),
        (
            changed("llama-f32", b"GGUF\x03\0\0\0", b"GGUF\x09\0\0\0"),
            &["version 9"],
        ),
        // The type of a tensor of two dimensions.
        (
            changed(
                "olmo2-q4_0",
                b"C\0\0\0\0\0\0\0\x02\0\0\0",
                b"C\0\0\0\0\0\0\0\x12\0\0\0",
            ),
            &["`output.weight`", "IQ3_XXS", "Q4_K"],
        ),
        (
            changed(
                "olmo2-q4_0",
                b"C\0\0\0\0\0\0\0\x02\0\0\0",
                b"C\0\0\0\0\0\0\0\x63\0\0\0",
            ),
            &["`output.weight`", "type 99"],
        ),
        (
            changed("llama-f32", b"blk.0.attn_k.weight", b"blk.0.attn_z.weight"),
            &[
                "changed.gguf",
                "model.layers.0.self_attn.k_proj.weight",
                "missing",
            ],
        ),
        (
            changed("llama-f32", b"llama.block_count", b"llama.block_kount"),
            &["`llama.block_count`: it is missing"],
        ),
    ] {
        let message = refusal(&path);
        for part in says {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains('\n'));
    }
}

#[test]
fn keys_and_tensors_that_nothing_reads_are_named() {
    let (_temp, path) = changed(
        "qwen2-q4_1",
        b"qwen2.rope.freq_base",
        b"qwen2.rope.freq_bass",
    );
    let notices = Model::open(&path).expect("a model").notices().join("\n");
    assert!(notices.contains("`qwen2.rope.freq_bass`"), "{notices}");
    for checkpoint in gguf() {
        let notices = Model::open(&checkpoint.folder).expect("a model").notices();
        // llama.cpp keeps GPT-2's matrices the other way round than transformers, which nanoGPT does, too.
        let expected: &[&str] = match checkpoint.model_type.as_str() {
            "gpt2" => &["its tensors show matrices laid out as nanoGPT does"],
            _ => &[],
        };
        assert_eq!(notices, expected, "{}", checkpoint.name);
    }
}

#[test]
fn an_unknown_way_of_splitting_leaves_token_ids() {
    let bytes = std::fs::read(folder("vocabularies").join("smollm.gguf")).expect("a file");
    let at = bytes
        .windows(6)
        .position(|window| window == b"smollm")
        .expect("there");
    let mut changed = bytes;
    changed[at..at + 6].copy_from_slice(b"smallm");
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("m.gguf");
    std::fs::write(&path, changed).expect("written");
    let model = Model::open(&path).expect("a model");
    assert!(model.tokenizer.is_none());
    let notices = model.notices().join("\n");
    assert!(
        notices.contains("smallm") && notices.contains("--token-ids"),
        "{notices}"
    );
}

#[test]
fn tvr_writes_no_gguf_file() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("new");
    let mut command = massact(["tvr", "--quiet", "--target-std", "0.1", "--pretrained"]);
    command
        .arg(folder("olmo2-q4_0"))
        .arg("--out")
        .arg(&out)
        .arg("--save-dir")
        .arg(temp.path());
    let done = run(&mut command);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("a GGUF file") && done.stderr.contains("transformers format"),
        "{}",
        done.stderr
    );
    assert!(!out.exists());
}
