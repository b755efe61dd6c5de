//! Checkpoints as PyTorch wrote them before safetensors, through the program: what they compute is what
//! the same weights compute in safetensors.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::damage;
use support::program::{checkpoint, massact, only_run, read_json, run};

fn layout(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/layouts/torch").join(name)
}

fn capture(folder: &Path) -> Command {
    let mut command = massact(["capture", "--json", "--token-ids", "1,5,7,11,2", "--nll"]);
    command.args(["--last-logits", "9"]);
    command.arg("--pretrained").arg(folder);
    command
}

fn sequences(folder: &Path) -> Value {
    let done = run(&mut capture(folder)).succeeded();
    done.json()["sequences"].clone()
}

/// A copy of a layout, to be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(layout(name)).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        std::fs::copy(&path, temp.path().join(name)).expect("copied");
    }
    temp
}

#[test]
fn the_same_weights_compute_the_same() {
    for (name, safetensors) in [("single", "gpt-neox-parallel"), ("sharded", "opt-pre-norm")] {
        let found = sequences(&layout(name));
        assert!(found[0]["nll"].is_number());
        assert_eq!(found, sequences(&checkpoint(safetensors)), "{name}");
    }
}

#[test]
fn the_record_names_the_files_and_their_hashes() {
    let place = tempfile::tempdir().expect("a folder");
    let mut command = capture(&layout("sharded"));
    run(command.arg("--save-dir").arg(place.path())).succeeded();
    let record = read_json(&only_run(place.path()).join("run.json"));
    for name in [
        "pytorch_model.bin.index.json",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
    ] {
        let path = layout("sharded").join(name);
        let inputs = record["inputs"].as_array().expect("inputs").iter();
        let mut inputs = inputs.filter(|input| input["path"].as_str() == path.to_str());
        let input = inputs.next().unwrap_or_else(|| panic!("{name}"));
        let bytes = std::fs::read(&path).expect("a file");
        assert_eq!(
            input["blake3"].as_str(),
            Some(blake3::hash(&bytes).to_hex().as_str()),
            "{name}"
        );
    }
}

#[test]
fn safetensors_come_first_and_that_is_said() {
    let folder = copy("single");
    let safetensors = checkpoint("gpt-neox-parallel").join("model.safetensors");
    std::fs::copy(safetensors, folder.path().join("model.safetensors")).expect("copied");
    std::fs::write(folder.path().join("pytorch_model.bin"), "not read").expect("written");
    let done = run(&mut capture(folder.path())).succeeded();
    assert!(
        done.stderr
            .contains("both safetensors and pytorch_model.bin"),
        "{}",
        done.stderr
    );
}

#[test]
fn what_cannot_be_read_is_refused_with_a_remedy() {
    let refused = |folder: &Path, parts: &[&str]| {
        let done = run(&mut capture(folder));
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        for part in parts {
            assert!(done.stderr.contains(part), "{}", done.stderr);
        }
    };
    let folder = copy("single");
    let file = folder.path().join("pytorch_model.bin");
    for (name, part) in [
        ("legacy.bin", "before version 1.6"),
        ("call.bin", "`os.getenv`"),
    ] {
        std::fs::copy(layout(name), &file).expect("copied");
        refused(folder.path(), &[part, "pytorch_model.bin", "safetensors"]);
    }
    std::fs::remove_file(&file).expect("removed");
    std::fs::copy(
        layout("kinds.bin"),
        folder.path().join("pytorch_model-00001-of-00002.bin"),
    )
    .expect("copied");
    refused(folder.path(), &["no pytorch_model.bin.index.json"]);
    let folder = copy("sharded");
    std::fs::remove_file(folder.path().join("pytorch_model-00002-of-00002.bin")).expect("removed");
    refused(
        folder.path(),
        &["pytorch_model-00002-of-00002.bin", "missing shard"],
    );
    // A shard of another model.
    let other = layout("kinds.bin");
    std::fs::copy(
        other,
        folder.path().join("pytorch_model-00002-of-00002.bin"),
    )
    .expect("copied");
    refused(folder.path(), &["the index places tensor", "one revision"]);
}

#[test]
fn rescaled_weights_are_not_written_in_this_format() {
    let place = tempfile::tempdir().expect("a folder");
    let mut command = massact(["tvr", "--quiet"]);
    command.arg("--pretrained").arg(layout("single"));
    let out = place.path().join("out");
    let done = run(command
        .arg("--out")
        .arg(&out)
        .arg("--save-dir")
        .arg(place.path()));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("safetensors") && done.stderr.contains("save_pretrained"),
        "{}",
        done.stderr
    );
}

/// A folder whose tokenizer is in files that its class does not read runs on ids.
#[test]
fn a_tokenizer_that_is_not_known_leaves_ids() {
    let folder = copy("single");
    for name in ["vocab.json", "merges.txt"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let from = root.join("tests/layouts/tokenizers/gpt2").join(name);
        std::fs::copy(from, folder.path().join(name)).expect("copied");
    }
    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        "{\"tokenizer_class\": \"BertTokenizer\"}",
    )
    .expect("written");
    let done = run(&mut capture(folder.path())).succeeded();
    assert!(done.stderr.contains("`BertTokenizer`"), "{}", done.stderr);
    let mut command = massact(["capture", "--text", "x", "--pretrained"]);
    let done = run(command.arg(folder.path()));
    assert!(
        done.code == Some(1) && done.stderr.contains("--token-ids"),
        "{}",
        done.stderr
    );
}

/// The files of tokens change a run's folder, whichever they are.
#[test]
fn tokens_are_part_of_who_a_checkpoint_is() {
    let folder = copy("single");
    let names = |folder: &Path| -> Vec<String> {
        let place = tempfile::tempdir().expect("a folder");
        let mut command = capture(folder);
        run(command.arg("--save-dir").arg(place.path())).succeeded();
        let run = only_run(place.path());
        let record = read_json(&run.join("run.json"));
        let inputs = record["inputs"].as_array().expect("inputs").iter();
        let inputs = inputs.filter_map(|input| input["path"].as_str());
        let mut names: Vec<String> = inputs
            .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        names.push(
            run.file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned(),
        );
        names
    };
    let without = names(folder.path());
    let tokens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts/tokenizers/gpt_neox");
    for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
        std::fs::copy(tokens.join(name), folder.path().join(name)).expect("copied");
    }
    let with = names(folder.path());
    assert!(with.iter().any(|name| name == "vocab.json"), "{with:?}");
    assert!(with.iter().any(|name| name == "merges.txt"), "{with:?}");
    assert_ne!(without.last(), with.last());
    damage::edit_json(&folder.path().join("tokenizer_config.json"), |config| {
        config.insert("pad_token".to_owned(), Value::from("<new>"));
    });
    assert_ne!(names(folder.path()).last(), with.last());
}
