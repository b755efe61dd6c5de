//! The run folder on a real disk: what is left behind, and what is not.

use std::fs;
use std::io::Write;
use std::path::Path;

use massact::report::folder::{RunFolder, check_writable};
use massact::report::{AtomicFile, atomic::write_atomic};
use serde_json::json;

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn writes_into_model_and_experiment() {
    let root = tempfile::tempdir().unwrap();
    let run =
        RunFolder::create(root.path(), "org--my-model", "capture", "0123456789abcdef").unwrap();
    let place = root.path().join("org--my-model/capture-01234567");
    assert_eq!(run.path(), place);
    run.write("a.txt", "one").unwrap();
    run.write_json("b.json", &json!({"x": 1})).unwrap();
    run.write("intervention_analysis/set_to_zero_ppl/c4.txt", "two")
        .unwrap();
    assert!(!place.exists(), "nothing is there before the end");
    assert_eq!(run.commit().unwrap(), place);
    assert_eq!(files(&place), ["a.txt", "b.json", "intervention_analysis"]);
    assert_eq!(
        fs::read_to_string(place.join("b.json")).unwrap(),
        "{\n  \"x\": 1\n}\n"
    );
}

#[test]
fn refuses_names_that_leave_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::create(root.path(), "m", "e", "0").unwrap();
    for name in ["../x", "/x", "a/../../x", "", ".", "a/.."] {
        let error = run.write(name, "x").unwrap_err().to_string();
        assert!(
            error.contains("outside the run's folder"),
            "{name}: {error}"
        );
    }
    let place = run.commit().unwrap();
    assert!(files(&place).is_empty());
}

#[test]
fn a_dropped_stream_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::create(root.path(), "m", "e", "0").unwrap();
    run.write("small.bin", "x").unwrap();
    let mut file = run.stream("big.bin").unwrap();
    file.write_all(&vec![7; 3 << 20]).unwrap();
    drop(file);
    let mut file = run.stream("bigger.bin").unwrap();
    file.write_all(&vec![7; 3 << 20]).unwrap();
    file.commit().unwrap();
    let place = run.commit().unwrap();
    assert_eq!(files(&place), ["bigger.bin", "small.bin"]);
    assert_eq!(
        fs::read(place.join("bigger.bin")).unwrap(),
        vec![7; 3 << 20]
    );
}

/// Errors name the file where it will be, not where it is on the way there.
#[test]
#[cfg(unix)]
fn errors_name_the_final_place() {
    let root = tempfile::tempdir().unwrap();
    let run = RunFolder::create(root.path(), "m", "e", "0").unwrap();
    run.write("file", "x").unwrap();
    let error = run.write("file/inside", "x").unwrap_err().to_string();
    let place = run.path().join("file");
    assert!(error.starts_with(&place.display().to_string()), "{error}");
}

#[test]
#[cfg(unix)]
fn results_are_as_readable_as_other_new_files() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let ours = write_atomic(&root.path().join("ours"), b"x").unwrap();
    let plain = root.path().join("plain");
    fs::write(&plain, "x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn a_file_in_the_way_is_named() {
    let root = tempfile::tempdir().unwrap();
    let blocker = root.path().join("results");
    fs::write(&blocker, "x").unwrap();
    let expected = format!(
        "{}: a file is where a folder is needed; remove it or choose another --save-dir",
        blocker.display()
    );
    assert_eq!(check_writable(&blocker).unwrap_err().to_string(), expected);
    assert_eq!(
        check_writable(&blocker.join("deep/er"))
            .unwrap_err()
            .to_string(),
        expected
    );
    let error = RunFolder::create(&blocker, "m", "e", "0").unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_folder_in_the_way_is_named_and_no_temporary_file_stays() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("x.txt")).unwrap();
    let error = write_atomic(&root.path().join("x.txt"), b"x")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("x.txt: a folder is where the file should go"),
        "{error}"
    );
    assert_eq!(files(root.path()), ["x.txt"]);
}

#[test]
fn check_writable_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    check_writable(root.path()).unwrap();
    check_writable(&root.path().join("not/yet/there")).unwrap();
    check_writable(Path::new("relative-and-not-there")).unwrap();
    assert!(files(root.path()).is_empty());
    assert!(!Path::new("relative-and-not-there").exists());
}

#[test]
#[cfg(unix)]
fn missing_permission_has_a_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let locked = root.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write anywhere; then there is nothing to see here.
    if fs::write(locked.join("probe"), "").is_ok() {
        return;
    }
    for error in [
        check_writable(&locked.join("new")).unwrap_err(),
        AtomicFile::create(&locked.join("x")).unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.ends_with("; choose another --save-dir"), "{error}");
        assert!(error.contains("locked"), "{error}");
    }
}
