//! Whatever is wrong with the input: one line that names the thing and a remedy, exit code 1 or 2,
//! nothing written, never a panic.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::damage::{Parts, copy, edit_json, joined};
use support::program::{Done, checkpoint, files, massact, run};
use tempfile::TempDir;

/// The checkpoint that is damaged: float32, 24 wide, 48 positions, 397 tokens.
const SOUND: &str = "planted-llama";

/// A place with a sound checkpoint in `model`; results go to `out`.
struct Bench {
    temp: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            temp: tempfile::tempdir().expect("a folder"),
        };
        copy(SOUND, &bench.model());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn model(&self) -> PathBuf {
        self.path("model")
    }

    fn weights(&self) -> PathBuf {
        self.model().join("model.safetensors")
    }

    fn config(&self) -> PathBuf {
        self.model().join("config.json")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// The program on this checkpoint.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = massact(arguments);
        command.arg("--pretrained").arg(self.model());
        command.arg("--save-dir").arg(self.path("out"));
        command
    }

    /// `capture` of three tokens fails with exit code 1 and says all of `says`.
    #[track_caller]
    fn fails(&self, what: &str, says: &[&str]) {
        self.refuses(what, &["capture", "--nll", "--token-ids", "1,5,7"], 1, says);
    }

    #[track_caller]
    fn refuses(&self, what: &str, arguments: &[&str], code: i32, says: &[&str]) {
        let done = run(&mut self.command(arguments));
        assert_refused(what, &done, code, says);
        assert!(!self.path("out").exists(), "{what}: something was written");
    }
}

/// One line with a remedy, the right code, nothing on stdout.
#[track_caller]
fn assert_refused(what: &str, done: &Done, code: i32, says: &[&str]) {
    println!("{what}\n    {}", done.stderr.trim_end());
    assert_eq!(
        done.code,
        Some(code),
        "{what}: {}{}",
        done.stdout,
        done.stderr
    );
    assert_eq!(done.stdout, "", "{what}");
    let mut lines: Vec<&str> = done.stderr.lines().collect();
    let error = lines.pop().unwrap_or_default();
    // Before it there may be what the run was about to need.
    let told = |line: &&str| line.contains("of memory, ");
    assert!(lines.iter().all(told), "{what}: {}", done.stderr);
    assert!(error.starts_with("massact: "), "{what}: {error}");
    for part in says {
        assert!(error.contains(part), "{what}: `{part}` not in {error}");
    }
    assert!(error.contains("; "), "{what}: no remedy in {error}");
    assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
}

#[test]
fn the_sound_checkpoint_runs() {
    let bench = Bench::new();
    run(&mut bench.command(&["capture", "--nll", "--token-ids", "1,5,7"])).succeeded();
}

#[test]
fn folders() {
    let bench = Bench::new();
    let out = bench.path("out");
    for (what, place, says) in [
        ("no folder", bench.path("none"), "no such folder"),
        ("a file", bench.config(), "config.json"),
        (
            "a relative path",
            PathBuf::from("./none/here"),
            "./none/here",
        ),
    ] {
        let mut command = massact(["capture", "--token-ids", "1", "--pretrained"]);
        command.arg(&place).arg("--save-dir").arg(&out);
        let named = place.to_str().expect("UTF-8");
        assert_refused(what, &run(&mut command), 1, &[says, named]);
    }
    std::fs::remove_file(bench.config()).expect("removed");
    bench.fails("no config.json", &["config.json"]);

    let bench = Bench::new();
    std::fs::remove_file(bench.weights()).expect("removed");
    bench.fails(
        "no weights",
        &["model.safetensors", "pytorch_model.bin", "the index"],
    );
    std::fs::write(bench.model().join("pytorch_model.bin"), "PK").expect("written");
    bench.fails("cut", &["pytorch_model.bin", "download it again"]);
    std::fs::remove_file(bench.model().join("pytorch_model.bin")).expect("removed");
    std::fs::write(bench.model().join("pytorch_model-00001-of-00002.bin"), "PK").expect("written");
    bench.fails("shards alone", &["pytorch_model.bin.index.json"]);
}

#[test]
fn configs_that_are_no_objects() {
    let bench = Bench::new();
    for text in [
        "",
        "{",
        "[]",
        "3",
        "null",
        "\"llama\"",
        "{\"model_type\": llama}",
        "\u{feff}{}",
    ] {
        std::fs::write(bench.config(), text).expect("written");
        bench.fails(&format!("config.json is {text:?}"), &["config.json"]);
    }
    std::fs::write(bench.config(), b"{\"model_type\": \"\xff\"}").expect("written");
    bench.fails("not UTF-8", &["config.json"]);
}

#[test]
fn configs_without_a_key() {
    for key in [
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
    ] {
        let bench = Bench::new();
        edit_json(&bench.config(), |config| {
            config.remove(key);
        });
        bench.fails(&format!("no {key}"), &["config.json", key, "missing"]);
    }
}

#[test]
fn configs_with_a_wrong_value() {
    let sizes = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
        "head_dim",
    ];
    let mut cases = Vec::new();
    for key in sizes {
        for value in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("24"),
            json!([24]),
            json!(1u64 << 40),
        ] {
            cases.push((key, value, key.to_owned()));
        }
    }
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
        "head_dim",
    ] {
        // In range, but no such tensor.
        cases.push((key, json!(1u64 << 31), "config.json".into()));
    }
    for (key, value, says) in [
        ("num_hidden_layers", json!(5), "layers.4"),
        ("num_hidden_layers", json!(9999), "layers.4"),
        ("num_hidden_layers", json!(1_000_000), "num_hidden_layers"),
        ("num_attention_heads", json!(5), "5 query heads"),
        ("num_attention_heads", json!(25), "config.json"),
        ("num_key_value_heads", json!(4), "4 key/value heads"),
        ("num_key_value_heads", json!(7), "7 key/value heads"),
        ("head_dim", json!(5), "even"),
        ("hidden_size", json!(25), "shape"),
        ("vocab_size", json!(398), "embed_tokens"),
        ("model_type", json!("t5"), "`t5`"),
        ("model_type", json!(3), "model_type"),
        ("hidden_act", json!("mish"), "`mish`"),
        ("hidden_act", json!(1), "hidden_act"),
        ("rms_norm_eps", json!("small"), "rms_norm_eps"),
        ("rms_norm_eps", json!(-1.0), "epsilon"),
        ("rope_theta", json!(0), "rope_theta"),
        ("rope_theta", json!(-5.0), "rope_theta"),
        ("rope_theta", json!("10000"), "rope_theta"),
        ("rope_scaling", json!("linear"), "rope_scaling"),
        ("rope_scaling", json!({"type": "warp"}), "`warp`"),
        ("rope_scaling", json!({"type": 3, "factor": 2.0}), "type"),
        ("rope_scaling", json!({"type": "linear"}), "factor"),
        (
            "rope_scaling",
            json!({"type": "linear", "factor": 0}),
            "factor",
        ),
        (
            "rope_scaling",
            json!({"type": "llama3", "factor": -8}),
            "factor",
        ),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": "x"}),
            "factor",
        ),
        ("attention_bias", json!("no"), "attention_bias"),
        ("attention_bias", json!(true), "bias"),
        ("tie_word_embeddings", json!(0), "tie_word_embeddings"),
    ] {
        cases.push((key, value, says.to_owned()));
    }
    for (key, value, says) in cases {
        let bench = Bench::new();
        edit_json(&bench.config(), |config| {
            config.insert(key.to_owned(), value.clone());
        });
        bench.fails(&format!("{key} = {value}"), &[&says]);
    }
}

#[test]
fn safetensors_that_are_damaged() {
    let bench = Bench::new();
    let sound = Parts::read(&bench.weights());
    let bytes = sound.bytes();
    let names = sound.names();
    let first = names[0].clone();
    let (start, end) = sound.range(&first);
    let header = Value::Object(sound.header.clone()).to_string();
    let changed = |name: &str, key: &str, value: Value| {
        let mut parts = sound.clone();
        parts.header[name][key] = value;
        parts.bytes()
    };
    let with_length = |length: u64| {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let mut not_utf8 = bytes.clone();
    not_utf8[8 + header.len() / 2] = 0xff;
    let last = names.last().expect("a tensor");
    let (last_start, last_end) = sound.range(last);
    let duplicate = format!("{{{:?}:{},{}", first, sound.header[&first], &header[1..]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("three bytes", vec![1, 2, 3]),
        ("only the length", bytes[..8].to_vec()),
        (
            "length one too large for the file",
            with_length(bytes.len() as u64 - 7),
        ),
        ("length of 16 EiB", with_length(u64::MAX)),
        (
            "length that overflows with its own bytes",
            with_length(u64::MAX - 7),
        ),
        ("length of 1 GiB", with_length(1 << 30)),
        ("length zero", with_length(0)),
        ("length cuts the header", with_length(20)),
        ("not UTF-8", not_utf8),
        ("not JSON", joined(b"{\"a\": nope}", &sound.data)),
        ("an array", joined(b"[]", &sound.data)),
        ("no tensors, yet data", joined(b"{}", &sound.data)),
        (
            "a tensor that is a number",
            joined(b"{\"a\": 3}", &sound.data),
        ),
        (
            "overlap",
            changed(last, "data_offsets", json!([start, end])),
        ),
        (
            "gap",
            changed(last, "data_offsets", json!([last_start + 4, last_end + 4])),
        ),
        (
            "out of range",
            changed(last, "data_offsets", json!([last_start, last_end + 4000])),
        ),
        (
            "ends before it starts",
            changed(last, "data_offsets", json!([last_end, last_start])),
        ),
        (
            "negative offset",
            changed(&first, "data_offsets", json!([-4, end])),
        ),
        (
            "offsets overflow",
            changed(last, "data_offsets", json!([last_start, u64::MAX])),
        ),
        (
            "one offset",
            changed(last, "data_offsets", json!([last_start])),
        ),
        ("shape too large", changed(&first, "shape", json!([99, 99]))),
        (
            "shape overflows",
            changed(&first, "shape", json!([u64::MAX, 8])),
        ),
        (
            "shape wraps to the right size",
            changed(&first, "shape", json!([1u64 << 63, 2])),
        ),
        ("negative shape", changed(&first, "shape", json!([-24]))),
        (
            "dtype of another width",
            changed(&first, "dtype", json!("F16")),
        ),
        (
            "dtype that does not exist",
            changed(&first, "dtype", json!("F33")),
        ),
        ("cut by one byte", bytes[..bytes.len() - 1].to_vec()),
        ("cut in half", bytes[..bytes.len() / 2].to_vec()),
        ("cut in the header", bytes[..8 + header.len() / 2].to_vec()),
        ("bytes after the end", [&bytes[..], b"more"].concat()),
        ("a name twice", joined(duplicate.as_bytes(), &sound.data)),
        (
            "a web page",
            b"<!DOCTYPE html><html><body>Sign in</body></html>".to_vec(),
        ),
    ];
    for (what, bytes) in cases {
        std::fs::write(bench.weights(), bytes).expect("written");
        bench.fails(what, &["model.safetensors", "download it again"]);
    }
}

/// A header is JSON that may describe any number of empty tensors.
#[test]
fn more_tensors_than_a_file_has() {
    let bench = Bench::new();
    let tensors = |count: usize| {
        let tensor = r#":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
        let each = (0..count).map(|number| format!("\"t{number}\"{tensor}"));
        let header = format!("{{{}}}", each.collect::<Vec<_>>().join(","));
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        std::fs::write(bench.weights(), bytes).expect("written");
    };
    tensors(262_144);
    bench.fails("as many as may be", &["tensor `model.embed_tokens.weight`"]);
    tensors(262_146);
    bench.fails("more", &["model.safetensors", "more than 262144 tensors"]);
}

#[test]
fn tensors_that_do_not_fit() {
    let bench = Bench::new();
    let sound = Parts::read(&bench.weights());
    let norm = "model.layers.1.input_layernorm.weight";
    let put = |change: &dyn Fn(&mut Parts)| {
        let mut parts = sound.clone();
        change(&mut parts);
        std::fs::write(bench.weights(), parts.bytes()).expect("written");
    };
    for name in sound.names() {
        put(&|parts| {
            let tensor = parts.header.remove(&name).expect("there");
            parts.header.insert("other".into(), tensor);
        });
        // The head is missed when it is needed, and what is left over was said before.
        let arguments = ["capture", "--quiet", "--nll", "--token-ids", "1,5,7"];
        bench.refuses(&format!("no {name}"), &arguments, 1, &[&name, "missing"]);
        put(&|parts| {
            let elements: usize = (sound.range(&name).1 - sound.range(&name).0) / 4;
            parts.header[&name]["shape"] = json!([elements, 1]);
        });
        bench.fails(&format!("{name} in a column"), &[&name, "shape"]);
    }
    for (dtype, width) in [
        ("F64", 8),
        ("I64", 8),
        ("I32", 4),
        ("BOOL", 1),
        ("F8_E4M3", 1),
        ("U8", 1),
    ] {
        put(&|parts| {
            let (start, end) = sound.range(norm);
            parts.header[norm]["dtype"] = json!(dtype);
            parts.header[norm]["shape"] = json!([(end - start) / width]);
        });
        bench.fails(&format!("{norm} as {dtype}"), &[norm, dtype, "convert"]);
    }
}

#[test]
fn shards_that_do_not_fit() {
    let temp = tempfile::tempdir().expect("a folder");
    let model = temp.path().join("model");
    copy("llama-tied-bf16-sharded", &model);
    let index = model.join("model.safetensors.index.json");
    let sound = std::fs::read(&index).expect("an index");
    let map = support::program::read_json(&index)["weight_map"].clone();
    let (tensor, shard) = map.as_object().expect("a map").iter().next().expect("one");
    let shard = shard.as_str().expect("a name");
    let fails = |what: &str, says: &[&str]| {
        let mut command = massact(["capture", "--nll", "--token-ids", "1,2,3", "--pretrained"]);
        command
            .arg(&model)
            .arg("--save-dir")
            .arg(temp.path().join("out"));
        assert_refused(what, &run(&mut command), 1, says);
        assert!(!temp.path().join("out").exists());
    };
    let points_to = |to: Value| {
        std::fs::write(&index, &sound).expect("written");
        edit_json(&index, |index| index["weight_map"][tensor] = to);
    };
    let index_name = "model.safetensors.index.json";
    points_to(json!("model-00009-of-00009.safetensors"));
    fails(
        "missing shard",
        &[index_name, "model-00009-of-00009.safetensors"],
    );
    for outside in [
        "../model-00001-of-00002.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
        "",
        ".",
    ] {
        points_to(json!(outside));
        fails(
            &format!("shard {outside:?}"),
            &[index_name, &format!("`{outside}`")],
        );
    }
    points_to(json!(3));
    fails("a number", &[index_name]);
    std::fs::write(&index, &sound).expect("written");
    edit_json(&index, |index| {
        index["weight_map"]["not.there"] = json!(shard)
    });
    fails("a tensor the shard lacks", &["`not.there`", shard]);
    for text in [
        "",
        "{",
        "[]",
        "{}",
        "{\"weight_map\": []}",
        "{\"weight_map\": {}}",
    ] {
        std::fs::write(&index, text).expect("written");
        fails(&format!("index {text:?}"), &[index_name]);
    }
    std::fs::write(&index, &sound).expect("written");
    std::fs::remove_file(model.join(shard)).expect("removed");
    fails("shard removed", &[index_name, shard]);
    std::fs::write(model.join(shard), "short").expect("written");
    fails("shard damaged", &[shard, "download it again"]);
}

#[test]
fn tokenizers() {
    let bench = Bench::new();
    let path = bench.model().join("tokenizer.json");
    for text in [
        "",
        "{}",
        "[]",
        "{\"model\": {}}",
        "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\"}}",
    ] {
        std::fs::write(&path, text).expect("written");
        let arguments = ["capture", "--text", "Seven letters."];
        bench.refuses(
            &format!("tokenizer {text:?}"),
            &arguments,
            1,
            &["tokenizer.json"],
        );
    }
    std::fs::remove_file(&path).expect("removed");
    for arguments in [
        &["capture", "--text", "Seven letters."][..],
        &["existence-validation", "--dataset", "builtin"],
        &["top-activation-magnitude", "--sentence", "Seven letters."],
    ] {
        bench.refuses(
            "no tokenizer",
            arguments,
            1,
            &["tokenizer.json", "--token-ids"],
        );
    }
    // Token ids need none; the tokens' texts are then their ids.
    let done = run(&mut bench.command(&["capture", "--json", "--token-ids", "1,5,7"])).succeeded();
    assert_eq!(
        done.json()["sequences"][0]["tokens"],
        json!(["<1>", "<5>", "<7>"])
    );

    let bench = Bench::new();
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        std::fs::write(bench.model().join(name), "{").expect("written");
        bench.refuses(name, &["capture", "--text", "Seven."], 1, &[name]);
        std::fs::write(bench.model().join(name), "{}").expect("written");
    }
    // No BOS anywhere.
    edit_json(&bench.model().join("tokenizer.json"), |tokenizer| {
        tokenizer.remove("post_processor");
    });
    edit_json(&bench.config(), |config| {
        config.remove("bos_token_id");
        config.remove("eos_token_id");
    });
    let arguments = ["capture", "--text", "Seven."];
    bench.refuses("no BOS", &arguments, 1, &["--add-bos-token"]);
    let without = [&arguments[..], &["--add-bos-token", "false"]].concat();
    run(&mut bench.command(&without)).succeeded();
    // A BOS that is no token of the model.
    std::fs::remove_dir_all(bench.path("out")).expect("removed");
    edit_json(&bench.config(), |config| {
        config.insert("bos_token_id".into(), json!(99_999));
    });
    bench.refuses("BOS out of range", &arguments, 2, &["99999"]);
}

#[test]
fn token_ids() {
    let bench = Bench::new();
    for (ids, code, says) in [("397", 2, "397"), ("1,2,4294967295", 2, "4294967295")] {
        bench.refuses(
            ids,
            &["capture", "--token-ids", ids],
            code,
            &["out of range", says],
        );
    }
    let long: Vec<String> = (0..49).map(|id| id.to_string()).collect();
    let long = long.join(",");
    let arguments = ["capture", "--token-ids", &long];
    bench.refuses("49 tokens", &arguments, 2, &["49 tokens", "48 positions"]);
    // The second sequence is the wrong one.
    let arguments = ["capture", "--token-ids", "1,2", "--token-ids", "1,400"];
    bench.refuses("second", &arguments, 2, &["sequence 1", "400"]);
    for ids in ["", "a", "1,b", "1,,2", "1.5", "4294967296", "1 2", ","] {
        let done = run(&mut bench.command(&["capture", "--token-ids", ids]));
        usage(&format!("--token-ids {ids:?}"), &done, "--token-ids");
    }
    let done = run(&mut bench.command(&["capture", "--token-ids=-1"]));
    usage("--token-ids=-1", &done, "--token-ids");
    assert!(!bench.path("out").exists());
}

/// clap's own errors: several lines, but the same exit code, and the flag is named.
#[track_caller]
fn usage(what: &str, done: &Done, names: &str) {
    assert_eq!(done.code, Some(2), "{what}: {}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains(names), "{what}: {}", done.stderr);
    assert_eq!(done.stdout, "", "{what}");
}

#[test]
fn texts() {
    let bench = Bench::new();
    let missing = bench.path("none.txt").to_str().expect("UTF-8").to_owned();
    let cases = [
        (missing, "none.txt"),
        (bench.write("empty.txt", ""), "empty.txt"),
        (bench.write("blank.txt", " \n\t\n"), "blank.txt"),
        (bench.write("latin1.txt", b"caf\xe9 "), "UTF-8"),
        (bench.model().to_str().expect("UTF-8").to_owned(), "model"),
    ];
    for (path, says) in &cases {
        for command in [
            "existence-validation",
            "tokens-analysis",
            "top-activation-magnitude",
            "capture",
        ] {
            let arguments = [command, "--text-file", path];
            bench.refuses(path, &arguments, 1, &[path, says]);
        }
    }
    let short = bench.write("short.txt", "Seven letters.");
    let model = massact::model::Model::open(&bench.model()).expect("opens");
    let tokenizer = model.tokenizer.expect("a tokenizer");
    let count = tokenizer.encode("Seven letters.").expect("ids").len();
    for (command, flag) in [
        ("existence-validation", "--text-file"),
        ("existence-validation", "--dataset"),
        ("tokens-analysis", "--text-file"),
        ("top-activation-magnitude", "--text-file"),
        ("capture", "--text-file"),
    ] {
        let arguments = [command, flag, &short, "--context-length", "40"];
        let says = [&format!("{count} tokens")[..], "40", "--context-length"];
        bench.refuses("short", &arguments, 1, &says);
    }
    let text = checkpoint(SOUND).join("text.txt");
    let text = text.to_str().expect("UTF-8");
    for (length, says) in [
        ("49", "48 positions"),
        ("0", "--context-length"),
        ("1", "--context-length"),
    ] {
        let arguments = [
            "existence-validation",
            "--text-file",
            text,
            "--context-length",
            length,
        ];
        bench.refuses(&format!("context {length}"), &arguments, 2, &[says]);
    }
    bench.refuses("empty --text", &["capture", "--text", ""], 2, &["text"]);
    let arguments = ["top-activation-magnitude", "--sentence", ""];
    bench.refuses("empty --sentence", &arguments, 2, &["text"]);
    let long = "seven letters ".repeat(60);
    bench.refuses(
        "long --text",
        &["capture", "--text", &long],
        2,
        &["48 positions"],
    );
}

#[test]
fn datasets() {
    let bench = Bench::new();
    let missing = bench.path("none.jsonl").to_str().expect("UTF-8").to_owned();
    let good = "{\"text\": \"Seven letters.\"}\n";
    let after_good = |row: &[u8]| [good.as_bytes(), row, b"\n"].concat();
    let cases = [
        (missing, "none.jsonl"),
        (
            bench.write("number.jsonl", "{\"text\": 3}\n"),
            "number.jsonl: row 1",
        ),
        (
            bench.write("broken.jsonl", after_good(b"{\"text\": ")),
            "broken.jsonl: row 2",
        ),
        (
            bench.write("latin1.jsonl", after_good(b"{\"text\": \"caf\xe9\"}")),
            "latin1.jsonl: row 2: not UTF-8",
        ),
        (
            bench.write("other.jsonl", after_good(b"{\"content\": \"a\"}")),
            "other.jsonl: row 2: no field `text`; it has content",
        ),
        (
            bench.write("blank.jsonl", "{\"text\": \"\"}\n{\"text\": \" \"}\n"),
            "blank.jsonl",
        ),
        (bench.write("none_at_all.jsonl", ""), "none_at_all.jsonl"),
        (bench.write("bad.jsonl.gz", "no gzip"), "bad.jsonl.gz"),
        (bench.write("bad.jsonl.zst", "no zstd"), "bad.jsonl.zst"),
        (bench.write("bad.parquet", "PAR1"), "bad.parquet"),
        (bench.write("bad.csv", "text\na\n"), "bad.csv"),
        ("wikitext".to_owned(), "HF_HUB_OFFLINE"),
        ("owner/none".to_owned(), "owner/none"),
    ];
    for command in ["existence-validation", "tokens-analysis"] {
        for (dataset, says) in &cases {
            bench.refuses(dataset, &[command, "--dataset", dataset], 1, &[says]);
        }
        let arguments = [command, "--dataset", "no-such-name"];
        let says = ["no-such-name", "redpajama"];
        bench.refuses("no such name", &arguments, 2, &says);
    }
}

#[test]
fn weights_that_are_not_numbers() {
    for (value, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "Inf")] {
        let bench = Bench::new();
        let mut parts = Parts::read(&bench.weights());
        let (start, _) = parts.range("model.layers.2.mlp.down_proj.weight");
        parts.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(bench.weights(), parts.bytes()).expect("written");
        let text = checkpoint(SOUND).join("text.txt");
        let text = text.to_str().expect("UTF-8");
        let window = ["--text-file", text, "--context-length", "32"];
        for command in [
            "existence-validation",
            "tokens-analysis",
            "top-activation-magnitude",
            "capture",
        ] {
            let arguments = [&[command], &window[..]].concat();
            bench.refuses(name, &arguments, 1, &["layer 2, layer_output"]);
        }
        for more in [
            &["--raw"][..],
            &["--nll", "--sites", "embedding"],
            &["--last-logits", "3", "--sites", "embedding"],
            &["--attention", "mean", "--sites", "embedding"],
        ] {
            let arguments = [&["capture", "--token-ids", "1,5,7"], more].concat();
            bench.refuses(&format!("{name} {more:?}"), &arguments, 1, &[]);
        }
    }
}

#[test]
fn places_that_cannot_be_written() {
    let bench = Bench::new();
    let occupied = bench.write("file", "in the way");
    let below = format!("{occupied}/deeper");
    for place in [&occupied, &below] {
        for command in [
            &["capture", "--token-ids", "1,2"][..],
            &["existence-validation", "--context-length", "8"],
            &["tokens-analysis", "--context-length", "8"],
            &["top-activation-magnitude", "--sentence", "Seven."],
        ] {
            let mut program = massact(command);
            program.arg("--pretrained").arg(bench.model());
            let done = run(program.args(["--save-dir", place]));
            assert_refused("file in the way", &done, 1, &[&occupied, "--save-dir"]);
        }
    }
    assert_eq!(
        std::fs::read(&occupied).expect("still there"),
        b"in the way"
    );

    // The model's folder, of which a run tells the name, is taken by a file.
    let mut command = bench.command(&["capture", "--token-ids", "1,2"]);
    run(&mut command).succeeded();
    let run_folder = support::program::only_run(&bench.path("out"));
    let model_folder = run_folder.parent().expect("a folder");
    std::fs::remove_dir_all(model_folder).expect("removed");
    std::fs::write(model_folder, "in the way").expect("written");
    let done = run(&mut bench.command(&["capture", "--token-ids", "1,2"]));
    let named = model_folder.to_str().expect("UTF-8");
    assert_refused("model in the way", &done, 1, &[named, "--save-dir"]);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let locked = bench.path("locked");
    std::fs::create_dir(&locked).expect("a folder");
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555)).expect("locked");
    if std::fs::write(locked.join("probe"), "").is_ok() {
        println!("skipped: this user (root?) may write anywhere");
        return;
    }
    let mut command = massact(["capture", "--token-ids", "1,2", "--save-dir"]);
    let done = run(command.arg(&locked));
    let named = locked.to_str().expect("UTF-8");
    assert_refused("locked", &done, 1, &[named, "--save-dir"]);
}

/// A limit on the size of files stands in for a full disk: writing fails half-way.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up() {
    let bench = Bench::new();
    let text = checkpoint(SOUND).join("text.txt");
    let text = text.to_str().expect("UTF-8");
    // In blocks of 512 or 1024 bytes, depending on the shell.
    for (what, blocks, arguments) in [
        (
            "raw",
            4,
            vec![
                "capture",
                "--raw",
                "--sites",
                "q,k,v,gate",
                "--text-file",
                text,
            ],
        ),
        (
            "attention",
            4,
            vec!["capture", "--attention", "heads", "--text-file", text],
        ),
        (
            "json",
            1,
            vec!["capture", "--top-k", "200", "--text-file", text],
        ),
        (
            "pictures",
            4,
            vec![
                "existence-validation",
                "--text-file",
                text,
                "--context-length",
                "32",
            ],
        ),
    ] {
        let mut command = Command::new("sh");
        support::program::offline(&mut command);
        command
            .arg("-c")
            .arg(format!("ulimit -f {blocks}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_massact"))
            .args(arguments)
            .arg("--pretrained")
            .arg(bench.model())
            .arg("--save-dir")
            .arg(bench.path("out"));
        let done = run(&mut command);
        let named = bench.path("out");
        let named = named.to_str().expect("UTF-8");
        assert_refused(
            what,
            &done,
            1,
            &[named, "(ulimit -f), or choose another --save-dir"],
        );
        // Whole files may be there, parts of files not.
        for file in files(&bench.path("out")) {
            assert!(!file.contains(".tmp"), "{what}: {file}");
            let bytes = std::fs::read(bench.path("out").join(&file)).expect("readable");
            match Path::new(&file).extension().and_then(|end| end.to_str()) {
                Some("json") => drop(serde_json::from_slice::<Value>(&bytes).expect("whole")),
                Some("svg") => assert!(bytes.ends_with(b"</svg>\n") || bytes.ends_with(b"</svg>")),
                Some("txt") => assert!(bytes.ends_with(b"\n")),
                other => panic!("{what}: {file} ({other:?})"),
            }
        }
    }
}

#[test]
fn the_hub() {
    let temp = tempfile::tempdir().expect("a folder");
    let capture = ["capture", "--token-ids", "1,2", "--pretrained"];
    let with = |id: &str, environment: &[(&str, &str)]| {
        let mut command = massact(capture);
        command
            .arg(id)
            .arg("--save-dir")
            .arg(temp.path().join("out"))
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_HOME", temp.path().join("hub"))
            .envs(environment.iter().copied());
        let done = run(&mut command);
        assert!(!temp.path().join("out").exists(), "{id}");
        done
    };
    let done = with("owner/name", &[("HF_HUB_OFFLINE", "1")]);
    assert_refused("offline", &done, 1, &["owner/name", "HF_HUB_OFFLINE"]);
    let unreachable = [("HF_ENDPOINT", "http://127.0.0.1:1")];
    let done = with("owner/name", &unreachable);
    assert_refused("no network", &done, 1, &["owner/name", "127.0.0.1"]);
    for id in ["owner/na me", "-", "owner/..", "a:b"] {
        let done = with(id, &unreachable);
        assert!(matches!(done.code, Some(1 | 2)), "{id}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
    let done = with("owner/name", &[("HF_ENDPOINT", "nonsense")]);
    assert_refused("endpoint", &done, 2, &["nonsense"]);
}

#[test]
fn flags() {
    let bench = Bench::new();
    for (arguments, names) in [
        (&[][..], "Usage"),
        (&["no-such-command"], "no-such-command"),
        (&["capture", "--no-such-flag"], "--no-such-flag"),
        (&["capture", "--nll=yes"], "yes"),
        (&["existence-validation", "--nsamples", "0"], "--nsamples"),
        (&["existence-validation", "--nsamples", "-3"], "-3"),
        (&["tokens-analysis", "--nsamples", "0"], "--nsamples"),
        (&["tokens-analysis", "--compat", "maybe"], "--compat"),
        (
            &["existence-validation", "--nsamples", "many"],
            "--nsamples",
        ),
        (
            &["existence-validation", "--abs-threshold", "nan"],
            "--abs-threshold",
        ),
        (
            &["existence-validation", "--rel-threshold=-1"],
            "--rel-threshold",
        ),
        (
            &["existence-validation", "--add-bos-token", "maybe"],
            "--add-bos-token",
        ),
        (&["existence-validation", "--dtype", "int8"], "--dtype"),
        (&["existence-validation", "--seed", "x"], "--seed"),
        (
            &["existence-validation", "--seed", "-1"],
            "invalid value '-1' for '--seed",
        ),
        (
            &["intervention-analysis", "--memory-budget", "8"],
            "as in 8GB",
        ),
        (
            &[
                "existence-validation",
                "--dataset",
                "c4",
                "--text-file",
                "x",
            ],
            "--text-file",
        ),
        (
            &["capture", "--text", "a", "--token-ids", "1"],
            "--token-ids",
        ),
        (&["capture", "--text", "a", "--dataset", "c4"], "--dataset"),
        (&["capture", "--attention", "all"], "--attention"),
        (
            &["existence-validation", "--revision", "main"],
            "--pretrained",
        ),
        (
            &[
                "top-activation-magnitude",
                "--sentence",
                "a",
                "--dataset",
                "c4",
            ],
            "--dataset",
        ),
    ] {
        let mut command = massact(arguments);
        if arguments.len() > 1 {
            command.arg("--save-dir").arg(bench.path("out"));
        }
        usage(&format!("{arguments:?}"), &run(&mut command), names);
    }
    // Those that clap cannot know are one line.
    for (arguments, says) in [
        (
            &["capture", "--sites", "layer_outptu", "--token-ids", "1"][..],
            "layer_outptu",
        ),
        (&["capture", "--sites", "", "--token-ids", "1"], "site"),
        (
            &["top-activation-magnitude", "--module-name", "final_norm"],
            "final_norm",
        ),
        (
            &["top-activation-magnitude", "--module-name", "nowhere"],
            "nowhere",
        ),
        (&["existence-validation", "--device", "tpu"], "tpu"),
        (&["existence-validation", "--device", "cuda:"], "cuda:"),
        (&["existence-validation", "--dtype", "float16"], "--dtype"),
        (
            &[
                "capture",
                "--token-ids",
                "1",
                "--residual-dtype",
                "bfloat16",
            ],
            "--residual-dtype",
        ),
        (&["tokens-analysis", "--tf32"], "--tf32"),
        (&["bench", "--tune", "--device", "cpu"], "--tune"),
        (&["existence-validation", "--device", "cuda:0,0"], "twice"),
        (&["tvr"], "--dry-run to measure only"),
        (
            &["existence-validation", "--revision", "main"],
            "--revision",
        ),
    ] {
        bench.refuses(&format!("{arguments:?}"), arguments, 2, &[says]);
    }
}
