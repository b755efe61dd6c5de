//! `massact tvr` against the formula computed in Python (tools/make_tvr_reference.py), and what it
//! leaves: a checkpoint that is whole, or nothing.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::damage::{Parts, copy, edit_json};
use support::program::{Done, checkpoint, files, massact, only_run, read_json, run};
use support::schema::assert_valid;
use tempfile::TempDir;

const DEMO_FILES: [&str; 5] = [
    "config.json",
    "massact_tvr.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// A place for results.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `massact tvr` of `source`; reports go to `runs`.
    fn tvr(&self, source: &Path, arguments: &[&str]) -> Command {
        let mut command = massact(["tvr", "--pretrained"]);
        command.arg(source).args(arguments);
        command.arg("--save-dir").arg(self.path("runs"));
        command
    }

    /// As [`Place::tvr`], written to `out`.
    fn write(&self, source: &Path, arguments: &[&str]) -> Command {
        let mut command = self.tvr(source, arguments);
        command.arg("--out").arg(self.path("out"));
        command
    }

    /// What is there beside `kept`.
    fn others(&self, kept: &[&str]) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names
            .filter(|name| !kept.contains(&name.as_str()))
            .collect()
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn near(ours: &Value, theirs: &Value, what: &str) {
    let (ours, theirs) = (ours.as_f64().expect(what), theirs.as_f64().expect(what));
    // Sums in float64; the mean is small beside what it sums.
    assert!(
        (ours - theirs).abs() <= 1e-13 * theirs.abs().max(1e-3),
        "{what}: {ours} {theirs}"
    );
}

/// The weight files of a checkpoint's folder.
fn shards(folder: &Path) -> Vec<String> {
    let mut names = files(folder);
    names.retain(|name| name.starts_with("model") && name.ends_with(".safetensors"));
    names
}

#[test]
fn every_case_agrees_with_the_formula_in_python() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tvr_reference.json");
    let cases = read_json(&path);
    let cases = cases.as_array().expect("cases");
    assert_eq!(cases.len(), 11);
    for case in cases {
        agrees(case);
    }
}

fn agrees(case: &Value) {
    let name = case["checkpoint"].as_str().expect("a name");
    let source = checkpoint(name);
    let settings = &case["settings"];
    let mut arguments = vec!["--json".to_owned(), "--quiet".to_owned()];
    for (flag, key) in [
        ("--target-std", "target_std"),
        ("--ratio-threshold", "ratio_threshold"),
    ] {
        arguments.extend([flag.to_owned(), settings[key].to_string()]);
    }
    if settings["scale_with_depth"] == true {
        arguments.push("--scale-with-depth".to_owned());
    }
    let exclude: Vec<&str> = settings["exclude"]
        .as_array()
        .expect("names")
        .iter()
        .flat_map(Value::as_str)
        .collect();
    if !exclude.is_empty() {
        arguments.extend(["--exclude".to_owned(), exclude.join(",")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

    let place = Place::new();
    let done = run(&mut place.write(&source, &arguments)).succeeded();
    assert_eq!(done.stderr, "", "--quiet");
    let document = done.json();
    assert_valid("tvr", &document);
    let ours = document["weights"].as_array().expect("weights");
    let theirs = case["weights"].as_array().expect("weights");
    let zeroed: BTreeSet<&str> = case["zeroed"]
        .as_array()
        .expect("names")
        .iter()
        .flat_map(Value::as_str)
        .collect();
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for weight in ours {
        let tensor = weight["name"].as_str().expect("a name");
        let what = format!("{name} {tensor}");
        let truth = theirs
            .iter()
            .find(|truth| truth["name"] == weight["name"])
            .expect(&what);
        for quantity in ["mean", "std", "ratio"] {
            near(
                &weight[quantity],
                &truth[quantity],
                &format!("{what} {quantity}"),
            );
        }
        assert_eq!(weight["changed"], truth["changed"], "{what}");
        let after = if truth["changed"] == true {
            "std_after"
        } else {
            "std"
        };
        near(
            &weight["std_after"],
            &truth[after],
            &format!("{what} std_after"),
        );
        let bias = tensor.replace(".weight", ".bias");
        assert_eq!(
            weight["bias_zeroed"],
            zeroed.contains(bias.as_str()),
            "{what}"
        );
    }
    let rescaled = theirs
        .iter()
        .filter(|weight| weight["changed"] == true)
        .count();
    assert_eq!(document["rescaled"], rescaled, "{name}");
    assert_eq!(document["biases_zeroed"], zeroed.len(), "{name}");

    let out = place.path("out");
    assert_eq!(shards(&out), shards(&source), "{name}");
    let mut changed = 0;
    for shard in shards(&source) {
        let (before, after) = (
            Parts::read(&source.join(&shard)),
            Parts::read(&out.join(&shard)),
        );
        assert_eq!(before.header, after.header, "{name} {shard}");
        for tensor in before.names() {
            let (start, end) = before.range(&tensor);
            let (before, after) = (&before.data[start..end], &after.data[start..end]);
            let truth = theirs.iter().find(|truth| truth["name"] == tensor.as_str());
            match truth.filter(|truth| truth["changed"] == true) {
                Some(truth) => {
                    assert_eq!(truth["sha256"], sha256(after), "{name} {tensor}");
                    changed += 1;
                }
                None if zeroed.contains(tensor.as_str()) => {
                    assert!(after.iter().all(|byte| *byte == 0), "{name} {tensor}");
                }
                None => assert_eq!(before, after, "{name} {tensor}"),
            }
        }
    }
    assert_eq!(changed, rescaled, "{name}");
    for file in files(&source) {
        let weights = file.ends_with(".safetensors");
        if !weights {
            let read = |folder: &Path| std::fs::read(folder.join(&file)).expect("readable");
            assert_eq!(read(&source), read(&out), "{name} {file}");
        }
    }
    assert_eq!(read_json(&out.join("massact_tvr.json")), document, "{name}");
    assert_eq!(place.others(&["out", "runs"]), [""; 0], "{name}");
    let done = run(
        massact(["capture", "--json", "--token-ids", "1,5,7", "--pretrained"])
            .arg(&out)
            .arg("--save-dir")
            .arg(place.path("runs")),
    );
    done.succeeded();
}

#[test]
fn the_demo_needs_no_argument() {
    let place = Place::new();
    for (name, extra) in [
        ("demo", &[][..]),
        ("demo-unamplified", &["--pretrained", "demo-unamplified"]),
    ] {
        let out = place.path(name);
        let mut command = massact(["tvr", "--quiet", "--target-std", "0.05", "--save-dir"]);
        command
            .arg(place.path("runs"))
            .arg("--out")
            .arg(&out)
            .args(extra);
        let done = run(&mut command).succeeded();
        assert!(
            done.stdout
                .contains("model.layers.5.self_attn.v_proj.weight"),
            "{}",
            done.stdout
        );
        assert!(
            done.stdout
                .contains(&format!("written to {}", out.display())),
            "{}",
            done.stdout
        );
        assert_eq!(files(&out), DEMO_FILES);
        run(
            massact(["existence-validation", "--nsamples", "1", "--pretrained"])
                .arg(&out)
                .args([
                    "--dataset",
                    "builtin",
                    "--context-length",
                    "64",
                    "--save-dir",
                ])
                .arg(place.path("runs")),
        )
        .succeeded();
    }
    // What the amplification changed is in the second file of the built-in checkpoint.
    let weights =
        |name: &str| std::fs::read(place.path(name).join("model.safetensors")).expect("written");
    assert_ne!(weights("demo"), weights("demo-unamplified"));
}

/// Files may have names that are no text, which JSON cannot have.
#[cfg(target_os = "linux")]
#[test]
fn any_name_of_a_folder_will_do() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let place = Place::new();
    let out = place.0.path().join(OsStr::from_bytes(b"out\xff"));
    let mut command = massact(["tvr", "--quiet", "--target-std", "0.05", "--save-dir"]);
    command.arg(place.path("runs")).arg("--out").arg(&out);
    run(&mut command).succeeded();
    assert_eq!(files(&out), DEMO_FILES);
}

#[test]
fn a_dry_run_measures_and_writes_no_checkpoint() {
    let place = Place::new();
    let source = checkpoint("llama-tied-bf16-sharded");
    let arguments = ["--target-std", "0.2", "--json"];
    let dry = run(place.tvr(&source, &arguments).arg("--dry-run"))
        .succeeded()
        .json();
    assert_valid("tvr", &dry);
    let folder = only_run(&place.path("runs"));
    assert_eq!(
        files(&folder),
        [
            "report.html",
            "run.json",
            "summary.txt",
            "tvr.json",
            "weight_std.pdf",
            "weight_std.png",
            "weight_std.svg"
        ]
    );
    assert_eq!(read_json(&folder.join("tvr.json")), dry);
    assert_valid("run", &read_json(&folder.join("run.json")));
    let svg = std::fs::read_to_string(folder.join("weight_std.svg")).expect("written");
    for label in ["self_attn.q_proj", "mlp.down_proj", "target"] {
        assert!(svg.contains(label), "{label}");
    }
    assert_eq!(place.others(&["runs"]), [""; 0]);
    // What it announces is what happens.
    let wet = run(&mut place.write(&source, &arguments))
        .succeeded()
        .json();
    for field in ["weights", "skipped", "rescaled", "biases_zeroed"] {
        assert_eq!(wet[field], dry[field], "{field}");
    }
}

#[test]
fn rescaled_twice_is_rescaled_once() {
    let place = Place::new();
    let first = place.path("first");
    let arguments = ["--target-std", "0.02", "--json"];
    run(place
        .tvr(&checkpoint("gpt2-f32"), &arguments)
        .arg("--out")
        .arg(&first))
    .succeeded();
    let again = run(&mut place.write(&first, &arguments)).succeeded().json();
    assert_eq!(again["rescaled"], 0);
    for weight in again["weights"].as_array().expect("weights") {
        let std = weight["std"].as_f64().expect("a number");
        assert!((std - 0.02).abs() < 1e-8, "{weight}");
    }
    let weights =
        |name: &str| std::fs::read(place.path(name).join("model.safetensors")).expect("written");
    assert_eq!(weights("first"), weights("out"));
}

#[test]
fn stacked_experts_are_left_alone_and_named() {
    let place = Place::new();
    let done = run(place
        .tvr(&checkpoint("gpt-oss"), &["--dry-run"])
        .arg("--json"))
    .succeeded();
    let document = done.json();
    let skipped = document["skipped"].as_array().expect("a list");
    assert!(
        skipped
            .iter()
            .any(|tensor| tensor["name"] == "model.layers.0.mlp.experts.down_proj")
    );
    let done = run(&mut place.tvr(&checkpoint("gpt-oss"), &["--dry-run"])).succeeded();
    assert!(
        done.stdout.contains("[4, 13, 24]  not two-dimensional"),
        "{}",
        done.stdout
    );
}

/// Puts `value` at `index` of a float32 tensor.
fn put(folder: &Path, tensor: &str, index: usize, value: f32) {
    let path = folder.join("model.safetensors");
    let mut parts = Parts::read(&path);
    let start = parts.range(tensor).0 + 4 * index;
    parts.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(&path, parts.bytes()).expect("written");
}

#[test]
fn constant_weights_stay_and_what_is_no_number_is_named() {
    let place = Place::new();
    let model = place.path("model");
    copy("planted-llama", &model);
    let tensor = "model.layers.1.mlp.up_proj.weight";
    let path = model.join("model.safetensors");
    let mut parts = Parts::read(&path);
    let (start, end) = parts.range(tensor);
    for value in parts.data[start..end].chunks_exact_mut(4) {
        value.copy_from_slice(&0.1f32.to_le_bytes());
    }
    std::fs::write(&path, parts.bytes()).expect("written");
    let document = run(&mut place.tvr(&model, &["--dry-run", "--json", "--ratio-threshold", "0"]))
        .succeeded()
        .json();
    let weights = document["weights"].as_array().expect("weights");
    let weight = weights
        .iter()
        .find(|weight| weight["name"] == tensor)
        .expect("measured");
    assert_eq!(
        (&weight["std"], &weight["changed"]),
        (&json!(0.0), &json!(false))
    );

    for bad in [f32::NAN, f32::INFINITY] {
        put(&model, tensor, 3, bad);
        let done = run(&mut place.write(&model, &[]));
        refused(&done, 1, &[tensor, "NaN or infinite"]);
        assert!(!place.path("out").exists());
        assert_eq!(place.others(&["model", "runs"]), [""; 0]);
    }
    // Where TVR does not look, nothing is judged.
    put(&model, tensor, 3, 0.1);
    put(&model, "model.embed_tokens.weight", 0, f32::NAN);
    run(&mut place.write(&model, &[])).succeeded();
}

#[track_caller]
fn refused(done: &Done, code: i32, says: &[&str]) {
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    assert_eq!(done.stdout, "");
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    for part in says.iter().chain(&["; "]) {
        assert!(
            done.stderr.contains(part),
            "`{part}` not in {}",
            done.stderr
        );
    }
}

#[test]
fn a_folder_in_use_or_inside_the_checkpoint_is_refused() {
    let place = Place::new();
    let model = place.path("model");
    copy("planted-llama", &model);
    let before = files(&model);
    for inside in ["model", "model/new", "model/../model/a/b"] {
        let done = run(place.tvr(&model, &[]).arg("--out").arg(place.path(inside)));
        refused(&done, 2, &["--out", "inside the checkpoint"]);
    }
    let used = place.path("used");
    std::fs::create_dir(&used).expect("made");
    std::fs::write(used.join("mine"), "x").expect("written");
    let done = run(place.tvr(&model, &[]).arg("--out").arg(&used));
    refused(&done, 2, &["--out", "not empty"]);
    let done = run(place.tvr(&model, &[]).arg("--out").arg(used.join("mine")));
    refused(&done, 2, &["--out", "a file"]);
    assert_eq!(files(&used), ["mine"]);
    assert_eq!(files(&model), before);
    assert_eq!(place.others(&["model", "used"]), [""; 0]);

    for (arguments, says) in [
        (
            &["--out", "x", "--exclude", "q_prj"][..],
            "self_attn.q_proj",
        ),
        (&["--out", "x", "--exclude", ""], "--exclude"),
        (&["--dry-run", "--revision", "main"], "--revision"),
    ] {
        refused(&run(&mut place.tvr(&model, arguments)), 2, &[says]);
    }
    for arguments in [
        &["--dry-run", "--out", "x"][..],
        &[],
        &["--dry-run", "--target-std", "0"],
        &["--dry-run", "--target-std", "-0.01"],
        &["--dry-run", "--target-std", "nan"],
        &["--dry-run", "--ratio-threshold", "-1"],
    ] {
        let done = run(&mut place.tvr(&model, arguments));
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
    }
    assert!(!place.path("runs").exists());
}

/// Only what belongs to the checkpoint goes along.
#[test]
fn files_beside_the_weights() {
    let place = Place::new();
    let model = place.path("model");
    copy("planted-llama", &model);
    std::fs::create_dir(model.join("onnx")).expect("made");
    for name in [
        "LICENSE",
        "generation_config.json",
        "pytorch_model.bin",
        "old.gguf",
        ".hidden",
    ] {
        std::fs::write(model.join(name), name).expect("written");
    }
    let done = run(&mut place.write(&model, &[])).succeeded();
    assert!(
        done.stderr
            .contains("not copied: old.gguf, onnx, pytorch_model.bin"),
        "{}",
        done.stderr
    );
    let mut expected = vec![
        "LICENSE",
        "config.json",
        "generation_config.json",
        "massact_tvr.json",
        "model.safetensors",
    ];
    expected.extend(["tokenizer.json", "tokenizer_config.json"]);
    let mut found = files(&place.path("out"));
    found.retain(|name| name != "special_tokens_map.json");
    assert_eq!(found, expected);
}

/// A header that is no multiple of eight is padded; the tensors stay where they are in the data.
#[test]
fn an_unaligned_header_is_aligned() {
    let place = Place::new();
    let model = place.path("model");
    copy("planted-llama", &model);
    let path = model.join("model.safetensors");
    let mut parts = Parts::read(&path);
    let length = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let mut note = String::from("x");
    while length(&parts.bytes()) % 8 == 0 {
        parts.header.insert(
            "__metadata__".into(),
            json!({ "format": "pt", "note": note }),
        );
        note.push('x');
    }
    std::fs::write(&path, parts.bytes()).expect("written");
    run(&mut place.write(&model, &[])).succeeded();
    let written = std::fs::read(place.path("out/model.safetensors")).expect("written");
    assert_eq!(length(&written) % 8, 0);
    let after = Parts::read(&place.path("out/model.safetensors"));
    assert_eq!(after.header, parts.header);
    safetensors::SafeTensors::deserialize(&written).expect("valid");
}

/// A limit on a file's size: the write fails in the middle, as on a full disk.
#[cfg(unix)]
#[test]
fn a_write_that_fails_is_reported_and_leaves_nothing() {
    let place = Place::new();
    let mut command = Command::new("sh");
    support::program::offline(&mut command);
    command
        .args(["-c", "ulimit -f 20; trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_massact"))
        .args(["tvr", "--pretrained"])
        .arg(checkpoint("llama-tied-bf16-sharded"))
        .arg("--out")
        .arg(place.path("new/out"))
        .arg("--save-dir")
        .arg(place.path("runs"));
    let done = run(&mut command);
    refused(
        &done,
        1,
        &["new/out/model-0000", "(ulimit -f), or choose another --out"],
    );
    assert_eq!(place.others(&[]), [""; 0]);
}

/// Stopped while it writes, it ends with exit code 3 and leaves nothing.
#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    use support::program::signal;

    let place = Place::new();
    let model = place.path("model");
    large(&model);
    let mut command = place.write(&model, &[]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let started = Instant::now();
    // A few megabytes of weights are written, and hundreds are to come.
    let under_way = || {
        files(place.0.path()).iter().any(|name| {
            let size = place.path(name).metadata().map_or(0, |found| found.len());
            name.starts_with(".massact-") && name.ends_with("model.safetensors") && size > 1 << 20
        })
    };
    while !under_way() {
        assert_eq!(
            child.try_wait().expect("a child"),
            None,
            "ended before it was stopped"
        );
        assert!(started.elapsed() < Duration::from_secs(120), "never wrote");
    }
    // Held still, so that it cannot finish before the signal is there.
    signal("STOP", child.id());
    signal("INT", child.id());
    signal("CONT", child.id());
    let done = Done::of(child.wait_with_output().expect("ends"));
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(3), "massact: interrupted\n")
    );
    assert_eq!(place.others(&["model"]), [""; 0]);
}

/// A Llama of half a gigabyte, all of it a hole in the file.
#[cfg(unix)]
fn large(folder: &Path) {
    const HIDDEN: usize = 2048;
    const INNER: usize = 16_384;
    copy("planted-llama", folder);
    edit_json(&folder.join("config.json"), |config| {
        for (key, value) in [
            ("hidden_size", HIDDEN),
            ("intermediate_size", INNER),
            ("num_hidden_layers", 1),
            ("num_attention_heads", 16),
            ("num_key_value_heads", 16),
        ] {
            config.insert(key.to_owned(), json!(value));
        }
    });
    let mut header = serde_json::Map::new();
    let mut end = 0;
    let mut add = |name: &str, shape: &[usize]| {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        header.insert(name.to_owned(), entry);
    };
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        add(name, &[397, HIDDEN]);
    }
    add("model.norm.weight", &[HIDDEN]);
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        add(&format!("model.layers.0.{norm}.weight"), &[HIDDEN]);
    }
    for module in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        add(
            &format!("model.layers.0.self_attn.{module}.weight"),
            &[HIDDEN, HIDDEN],
        );
    }
    for module in ["gate_proj", "up_proj"] {
        add(
            &format!("model.layers.0.mlp.{module}.weight"),
            &[INNER, HIDDEN],
        );
    }
    add("model.layers.0.mlp.down_proj.weight", &[HIDDEN, INNER]);
    let header = Value::Object(header).to_string();
    let path = folder.join("model.safetensors");
    std::fs::write(&path, support::damage::joined(header.as_bytes(), &[])).expect("written");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("opened");
    file.set_len((8 + header.len() + end) as u64)
        .expect("extended");
}
