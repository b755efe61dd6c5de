//! Places that hold something else than a whole checkpoint, or more: what they hold is said.

mod support;

use massact::model::Model;
use serde_json::json;
use support::damage::{changed, copy, refusal};
use support::program::{Done, capture, massact, run};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn an_adapter_beside_a_model_is_refused() {
    let temp = changed("planted-llama", |folder| {
        let adapter = json!({"peft_type": "LORA", "base_model_name_or_path": "base", "r": 4});
        std::fs::write(folder.join("adapter_config.json"), adapter.to_string()).expect("written");
    });
    let says = |done: &Done| {
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        for part in ["adapter_config.json", "LORA", "--adapter"] {
            assert!(done.stderr.contains(part), "{}", done.stderr);
        }
    };
    says(&capture(temp.path(), &temp.path().join("out")));
    // A folder that transformers could not load is never written.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let new = elsewhere.path().join("new");
    let mut command = massact(["tvr", "--pretrained"]);
    command
        .arg(temp.path())
        .arg("--out")
        .arg(&new)
        .arg("--save-dir")
        .arg(temp.path().join("out"));
    says(&run(&mut command));
    assert!(!new.exists());
}

#[test]
fn folders_with_something_else_say_what() {
    let temp = tempfile::tempdir().expect("a folder");
    let place = |name: &str, files: &[(&str, &[u8])]| {
        let folder = temp.path().join(name);
        for (name, content) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        folder
    };
    let adapter = br#"{"base_model_name_or_path": "owner/base", "peft_type": "LORA", "x": NaN}"#;
    for (folder, says) in [
        (
            place("adapter", &[("adapter_config.json", adapter)]),
            &["LORA adapter of `owner/base`", "not a whole model"][..],
        ),
        (
            place(
                "adapter-with-config",
                &[
                    ("adapter_config.json", adapter),
                    ("config.json", b"{}"),
                    ("adapter_model.safetensors", b"x"),
                ],
            ),
            &["LORA adapter of `owner/base`", "not a whole model"],
        ),
        (
            place(
                "gguf",
                &[("m-Q4_K_M.gguf", b"GGUF"), ("m-F16.gguf", b"GGUF")],
            ),
            &["several GGUF models: m-F16.gguf, m-Q4_K_M.gguf", "name one"],
        ),
        (
            place("gguf", &[]).join("m-Q4_K_M.gguf"),
            &["m-Q4_K_M.gguf", "it ends within its header", "GGUF"],
        ),
        (
            place("blob", &[("sha256-abc", b"GGUF\x03\0\0\0")]).join("sha256-abc"),
            &["sha256-abc", "it ends within its header"],
        ),
        (
            place("file", &[("model.safetensors", b"x")]).join("model.safetensors"),
            &["a file, not a folder"],
        ),
        (
            place(
                "authors",
                &[("params.json", b"{}"), ("consolidated.00.pth", b"")],
            ),
            &["params.json", "transformers format"],
        ),
        (
            place("runs", &[("checkpoint-500/config.json", b"{}")]),
            &["no config.json", "checkpoint-500"],
        ),
        (
            place("empty", &[("README.md", b"")]),
            &["no config.json", "hub id"],
        ),
        (temp.path().join("nowhere"), &["no such folder"]),
    ] {
        let error = Model::open(&folder).expect_err("no checkpoint").to_string();
        for part in says {
            assert!(error.contains(part), "{}: {error}", folder.display());
        }
        // A file that is cut short is not what somebody meant to give.
        let cut = error.contains("ends within its header");
        assert_eq!(error.contains("again"), cut, "{error}");
    }
}

#[test]
fn folders_without_weights_say_what_they_have() {
    for (file, says) in [
        (
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model.bin.index.json",
        ),
        ("m.Q8_0.gguf", "GGUF"),
        (
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
        ),
        ("weights.safetensors", "rename"),
    ] {
        let error = refusal("qwen2", |folder| {
            std::fs::remove_file(folder.join(SINGLE)).expect("removed");
            std::fs::write(folder.join(file), "x").expect("written");
        });
        assert!(error.contains(says), "{file}: {error}");
    }
}

#[test]
fn pointers_of_git_lfs_are_called_so() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for (checkpoint, file) in [
        ("planted-llama", "config.json"),
        ("planted-llama", "tokenizer.json"),
        ("planted-llama", "tokenizer_config.json"),
        ("planted-llama", SINGLE),
        ("llama-tied-bf16-sharded", INDEX),
        (
            "llama-tied-bf16-sharded",
            "model-00002-of-00003.safetensors",
        ),
    ] {
        let error = refusal(checkpoint, |folder| {
            std::fs::write(folder.join(file), pointer).expect("written");
        });
        for part in [file, "git-lfs pointer", "git lfs pull"] {
            assert!(error.contains(part), "{file}: {error}");
        }
    }
}

#[test]
fn a_folder_that_is_called_demo_is_said_to_be_taken() {
    let temp = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(temp.path().join("demo")).expect("made");
    let mut command = massact(["capture", "--token-ids", "1", "--pretrained", "demo"]);
    let done = run(command.current_dir(temp.path()));
    assert_eq!(done.code, Some(1));
    for part in ["built-in", "there is no config.json"] {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
}

/// Offline the cache may lack the file that counts, and then its answer is said to be uncertain.
#[test]
fn shards_of_a_cache_are_told_unless_there_is_no_single_file() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let temp = tempfile::tempdir().expect("a folder");
    let repo = temp.path().join("hub/models--owner--tiny");
    let snapshot = repo.join("snapshots").join(commit);
    copy("llama-tied-bf16-sharded", &snapshot);
    let tokenizer = support::program::checkpoint("planted-llama").join("tokenizer.json");
    std::fs::copy(tokenizer, snapshot.join("tokenizer.json")).expect("copied");
    std::fs::create_dir_all(repo.join("refs")).expect("made");
    std::fs::write(repo.join("refs/main"), commit).expect("written");
    let told = || {
        let arguments = ["capture", "--token-ids", "1", "--pretrained", "owner/tiny"];
        let mut command = massact(arguments);
        command.env("HF_HOME", temp.path());
        command.arg("--save-dir").arg(temp.path().join("out"));
        let done = run(&mut command).succeeded();
        done.stderr
            .contains("does not say whether the repository has model.safetensors")
    };
    assert!(told());
    let absent = repo.join(".no_exist").join(commit);
    std::fs::create_dir_all(&absent).expect("made");
    std::fs::write(absent.join(SINGLE), "").expect("written");
    assert!(!told());
}
