//! Who a run is: no two runs share a folder, and a repeated run replaces its own whole.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::damage::copy;
use support::program::{Done, checkpoint, files, massact, read_json, run};

/// existence-validation of a checkpoint on a text.
fn existence(model: &Path, text: &Path, out: &Path) -> Done {
    let mut command = massact([
        "existence-validation",
        "--context-length",
        "8",
        "--pretrained",
    ]);
    command.arg(model).arg("--text-file").arg(text);
    command.arg("--save-dir").arg(out);
    run(&mut command).succeeded()
}

/// The folders with a run, below `out`.
fn runs(out: &Path) -> Vec<PathBuf> {
    let names = files(out).into_iter();
    let records = names.filter(|name| name.ends_with("run.json"));
    records
        .map(|name| out.join(name).parent().expect("a folder").to_owned())
        .collect()
}

/// Two checkpoints called `checkpoint-500`, and a text.
fn two(place: &Path) -> ([PathBuf; 2], PathBuf) {
    let models = [("a", "planted-llama"), ("b", "planted-gpt2")].map(|(run, name)| {
        let folder = place.join(run).join("checkpoint-500");
        fs::create_dir_all(&folder).expect("made");
        copy(name, &folder);
        folder
    });
    let text = place.join("text.txt");
    fs::copy(checkpoint("planted-llama").join("text.txt"), &text).expect("copied");
    (models, text)
}

#[test]
fn checkpoints_of_one_name_have_folders_of_their_own() {
    let place = tempfile::tempdir().expect("a folder");
    let (models, text) = two(place.path());
    let out = place.path().join("out");
    for model in &models {
        existence(model, &text, &out);
    }
    let found = runs(&out);
    assert_eq!(found.len(), 2, "{found:?}");
    let types: Vec<String> = found
        .iter()
        .map(|run| read_json(&run.join("run.json"))["model"]["model_type"].to_string())
        .collect();
    assert_ne!(types[0], types[1]);
    // However the path is written.
    existence(&models[0].join("../checkpoint-500"), &text, &out);
    assert_eq!(runs(&out), found);
    for run in &found {
        let name = run.parent().and_then(Path::file_name).expect("a name");
        let name = name.to_string_lossy();
        assert!(name.starts_with("checkpoint-500-"), "{name}");
    }
}

#[test]
fn another_text_in_the_same_file_is_another_run() {
    let place = tempfile::tempdir().expect("a folder");
    let ([model, _], text) = two(place.path());
    let out = place.path().join("out");
    existence(&model, &text, &out);
    let mut words = fs::read_to_string(&text).expect("a text");
    words.insert_str(0, "the other ");
    fs::write(&text, words).expect("written");
    existence(&model, &text, &out);
    assert_eq!(runs(&out).len(), 2);
}

#[test]
fn another_reading_of_the_same_file_is_another_run() {
    let place = tempfile::tempdir().expect("a folder");
    let ([model, _], text) = two(place.path());
    let words = fs::read_to_string(&text).expect("a text");
    let rows = place.path().join("rows.jsonl");
    let row = serde_json::json!({ "text": words });
    fs::write(&rows, format!("{row}\n")).expect("written");
    let out = place.path().join("out");
    for flag in ["--text-file", "--dataset"] {
        let mut command = massact(["existence-validation", "--context-length", "8"]);
        command.arg(&model).arg(flag).arg(&rows);
        run(command.arg("--save-dir").arg(&out)).succeeded();
    }
    assert_eq!(runs(&out).len(), 2);
}

#[test]
fn weights_that_changed_in_place_are_noticed() {
    let place = tempfile::tempdir().expect("a folder");
    let ([model, _], text) = two(place.path());
    let out = place.path().join("out");
    let first = existence(&model, &text, &out);
    assert!(!first.stderr.contains("have changed"), "{}", first.stderr);
    let earlier = runs(&out);
    let weights = model.join("model.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    *bytes.last_mut().expect("not empty") ^= 1;
    // Systems keep the time of a change to some milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&weights, bytes).expect("written");
    let second = existence(&model, &text, &out);
    assert_eq!(runs(&out).len(), 2, "both are kept");
    let expected = format!("have changed since the run in {}", earlier[0].display());
    assert!(second.stderr.contains(&expected), "{}", second.stderr);
}

/// What counts is the content, not the time of modification.
#[test]
fn weights_that_were_only_touched_have_not_changed() {
    let place = tempfile::tempdir().expect("a folder");
    let ([model, _], text) = two(place.path());
    let out = place.path().join("out");
    existence(&model, &text, &out);
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).expect("weights");
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&weights, &bytes).expect("written");
    let again = existence(&model, &text, &out);
    assert!(!again.stderr.contains("have changed"), "{}", again.stderr);
    // And a change that keeps the time is seen.
    let time = weights.metadata().and_then(|found| found.modified());
    let mut other = bytes;
    *other.last_mut().expect("not empty") ^= 1;
    fs::write(&weights, other).expect("written");
    let file = fs::File::options()
        .write(true)
        .open(&weights)
        .expect("there");
    file.set_modified(time.expect("a time")).expect("set");
    let changed = existence(&model, &text, &out);
    assert!(
        changed.stderr.contains("have changed"),
        "{}",
        changed.stderr
    );
}

#[test]
fn no_file_of_an_earlier_run_survives() {
    let place = tempfile::tempdir().expect("a folder");
    let ([model, _], text) = two(place.path());
    let out = place.path().join("out");
    existence(&model, &text, &out);
    let folder = &runs(&out)[0];
    let before = files(folder);
    fs::write(folder.join("stray.svg"), "of an earlier version").expect("written");
    existence(&model, &text, &out);
    assert_eq!(files(folder), before);
    let beside = folder.parent().expect("a folder");
    assert_eq!(fs::read_dir(beside).expect("there").count(), 1);
}
