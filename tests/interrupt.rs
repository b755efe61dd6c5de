//! Ctrl-C in the middle of long work: exit code 3 within a second, and nothing left behind.
#![cfg(unix)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use support::damage::{copy, edit_json};
use support::program::{Running, files, massact, signal};

const HIDDEN: usize = 1024;
const INNER: usize = 4096;
const LAYERS: usize = 4;
const VOCABULARY: usize = 397;

/// What Ctrl-C may take.
const LIMIT: Duration = Duration::from_secs(1);

/// A Llama large enough to be busy for a minute. Its zeros are a hole in the file: neither written
/// nor taking room on the disk.
fn large_checkpoint(folder: &Path) {
    copy("planted-llama", folder);
    edit_json(&folder.join("config.json"), |config| {
        for (key, value) in [
            ("hidden_size", HIDDEN),
            ("intermediate_size", INNER),
            ("num_hidden_layers", LAYERS),
            ("num_attention_heads", 16),
            ("num_key_value_heads", 16),
            ("max_position_embeddings", 4096),
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
    add("model.embed_tokens.weight", &[VOCABULARY, HIDDEN]);
    add("lm_head.weight", &[VOCABULARY, HIDDEN]);
    add("model.norm.weight", &[HIDDEN]);
    for layer in 0..LAYERS {
        let at = |module: &str| format!("model.layers.{layer}.{module}.weight");
        for module in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            add(&at(&format!("self_attn.{module}")), &[HIDDEN, HIDDEN]);
        }
        for module in ["gate_proj", "up_proj"] {
            add(&at(&format!("mlp.{module}")), &[INNER, HIDDEN]);
        }
        add(&at("mlp.down_proj"), &[HIDDEN, INNER]);
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            add(&at(norm), &[HIDDEN]);
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let path = folder.join("model.safetensors");
    let start = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(&path, &start).expect("written");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("opened");
    file.set_len((start.len() + end) as u64).expect("extended");
}

fn text(bytes: usize) -> String {
    let sentence = "The captain repairs seven letters. The river paints the quiet harbour. ";
    sentence.repeat(bytes / sentence.len() + 1)
}

fn assert_busy(running: &mut Running) {
    let child = running.0.as_mut().expect("not yet waited for");
    let ended = child.try_wait().expect("a child");
    assert_eq!(ended, None, "ended before Ctrl-C");
}

/// Ends the run with `signals` at once when `ready`; returns how long it took to end.
fn stopped(command: &mut Command, ready: impl Fn() -> bool, signals: usize) -> Duration {
    let mut running = Running::start(command);
    let patience = Instant::now();
    while !ready() {
        let waited = patience.elapsed();
        assert!(waited < Duration::from_secs(120), "never ready");
        std::thread::sleep(Duration::from_millis(20));
        assert_busy(&mut running);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_busy(&mut running);
    let process = running.0.as_ref().expect("not yet waited for").id();
    for _ in 0..signals {
        signal("INT", process);
    }
    let sent = Instant::now();
    let done = running.done();
    let took = sent.elapsed();
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    if signals == 1 {
        let mut lines: Vec<&str> = done.stderr.lines().collect();
        assert_eq!(lines.pop(), Some("massact: interrupted"));
        // Before it there may be what the run was about to need.
        let told = |line: &&str| line.contains("of memory, ");
        assert!(lines.iter().all(told), "{}", done.stderr);
    }
    took
}

/// On a machine that is busy otherwise a run may be late; one in three has to be on time.
fn on_time(what: &str, mut attempt: impl FnMut() -> Duration) {
    // One at a time, or the tests of this file would be each other's load.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut took = Vec::new();
    for _ in 0..3 {
        took.push(attempt());
        println!("{what}: {:?}", took.last());
        if took.last() < Some(&LIMIT) {
            return;
        }
    }
    panic!("{what}: Ctrl-C took {took:?}");
}

/// Whether a time has passed, counted from the first question.
fn after(wait: Duration) -> impl Fn() -> bool {
    let start = Instant::now();
    move || start.elapsed() > wait
}

#[test]
fn long_work_stops_within_a_second_and_leaves_nothing() {
    let temp = tempfile::tempdir().expect("a folder");
    let model = temp.path().join("model");
    large_checkpoint(&model);
    let text_file = temp.path().join("text.txt");
    std::fs::write(&text_file, text(2_000_000)).expect("written");
    let out = temp.path().join("out");

    for command in ["existence-validation", "top-activation-magnitude"] {
        on_time(command, || {
            let mut program = massact([command, "--nsamples", "200", "--pretrained"]);
            program
                .arg(&model)
                .arg("--text-file")
                .arg(&text_file)
                .args(["--context-length", "1024", "--save-dir"])
                .arg(&out);
            let took = stopped(&mut program, after(Duration::from_secs(2)), 1);
            assert!(!out.exists(), "{:?}", files(&out));
            took
        });
    }

    on_time("intervention-analysis", || {
        let mut program = massact(["intervention-analysis", "--quiet", "--pretrained"]);
        program
            .arg(&model)
            .arg("--text-file")
            .arg(&text_file)
            .args(["--nsamples", "1", "--calibration-nsamples", "1"])
            .args(["--context-length", "1024", "--eval"])
            .arg(format!("text={}", text_file.display()))
            .arg("--save-dir")
            .arg(&out);
        let took = stopped(&mut program, after(Duration::from_secs(3)), 1);
        assert!(!out.exists(), "{:?}", files(&out));
        took
    });

    // While tensors are being written: the file is under its temporary name.
    let capture = |more: &[&str]| {
        let mut program = massact(["capture", "--nsamples", "200", "--nll", "--pretrained"]);
        program
            .arg(&model)
            .arg("--text-file")
            .arg(&text_file)
            .args(["--context-length", "1024", "--save-dir"])
            .arg(&out)
            .args(more);
        program
    };
    let writing = || {
        let files = files(&out);
        assert!(files.iter().all(|file| file.ends_with(".tmp")), "{files:?}");
        // More than the header: a layer's tensors are coming.
        let sizes = files.iter().map(|file| out.join(file).metadata());
        sizes.flatten().any(|file| file.len() > 400_000)
    };
    for more in [
        &["--raw"][..],
        &["--attention", "heads"],
        &["--attention", "sink"],
    ] {
        on_time(&more.join(" "), || {
            let took = stopped(&mut capture(more), writing, 1);
            assert!(!out.exists(), "{:?}", files(&out));
            took
        });
    }
    // A second Ctrl-C does not even wait for that.
    on_time("twice", || stopped(&mut capture(&["--raw"]), writing, 2));
}

#[test]
fn tokenising_a_long_text_stops_as_well() {
    let temp = tempfile::tempdir().expect("a folder");
    let text_file = temp.path().join("text.txt");
    std::fs::write(&text_file, text(200_000_000)).expect("written");
    let out = temp.path().join("out");
    on_time("tokenising", || {
        // An evaluation set is tokenised whole.
        let mut program = massact(["intervention-analysis", "--eval"]);
        program
            .arg(format!("mine={}", text_file.display()))
            .arg("--save-dir")
            .arg(&out);
        let took = stopped(&mut program, after(Duration::from_secs(2)), 1);
        assert!(!out.exists(), "{:?}", files(&out));
        took
    });
}
