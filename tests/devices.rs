//! What the program says of the machine's devices, and of a card that is not there.

mod support;

use serde_json::Value;
use support::program::{massact, run};

/// Here no card is ever seen: `CUDA_VISIBLE_DEVICES` is empty.
#[test]
fn devices_say_what_is_there_and_what_is_missing() {
    let plain = run(&mut massact(["devices"])).succeeded();
    for line in ["cpu ", "kernels ", "driver ", "no card is used: CUDA: "] {
        assert!(plain.stdout.contains(line), "{}", plain.stdout);
    }
    let document = run(&mut massact(["devices", "--json"])).succeeded().json();
    assert_eq!(document["schema"], "massact/devices/1");
    assert_eq!(document["cpu"]["usable"], true);
    assert_eq!(document["gpus"], Value::Array(Vec::new()));
    let reason = document["gpus_missing_because"].as_str().expect("a reason");
    assert!(reason.contains("--device cpu"), "{reason}");
}

/// A folder with a driver that answers as the environment says.
#[cfg(target_os = "linux")]
fn fake_driver() -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a folder");
    let library = temp.path().join("libcuda.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake_driver.cpp");
    let compiled = std::process::Command::new("g++")
        .args(["-shared", "-fPIC", source, "-o"])
        .arg(&library)
        .status();
    assert!(compiled.expect("g++").success());
    temp
}

/// Several cards are listed one by one and together, and a list that names no cards is an error of usage.
#[cfg(target_os = "linux")]
#[test]
fn several_cards_are_listed_together() {
    let temp = fake_driver();
    let with_cards = |count: &str, arguments: &[&str]| {
        let mut command = massact(arguments);
        let command = command.env("LD_LIBRARY_PATH", temp.path());
        run(command.env("FAKE_COUNT", count))
    };
    let devices = with_cards("3", &["devices"]).succeeded().stdout;
    let lines: Vec<&str> = devices.lines().collect();
    assert!(lines[3].starts_with("cuda:2   Fake card, "), "{devices}");
    assert_eq!(lines[4], "cuda:0,1,2 3 x Fake card, side by side");
    let document = with_cards("3", &["devices", "--json"]).succeeded().json();
    assert_eq!(document["gpus_together"], serde_json::json!(["cuda:0,1,2"]));
    let one = with_cards("1", &["devices"]).succeeded().stdout;
    assert!(!one.contains("side by side"), "{one}");
    for (device, told) in [
        ("cuda:0,0", "--device cuda:0,0: cuda:0 is named twice"),
        ("cuda:0,", "--device cuda:0,: no such device"),
        ("cuda:0,cpu", "--device cuda:0,cpu: no such device"),
    ] {
        let arguments = ["capture", "--token-ids", "0,5", "--device", device];
        let refused = with_cards("3", &arguments);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(told), "{}", refused.stderr);
    }
}

/// A driver that does not suit: every state is told, `cuda` is an error with a remedy, and `auto` the
/// CPU, with a notice where a card is or may be.
#[cfg(target_os = "linux")]
#[test]
fn drivers_that_do_not_suit() {
    let temp = fake_driver();
    for (name, value, told, notice) in [
        // CUDA_ERROR_NO_DEVICE
        ("FAKE_INIT", "100", "supports CUDA 13.0", false),
        (
            "FAKE_INIT",
            "999",
            "unusable: the driver reports: a fake error",
            true,
        ),
        (
            "FAKE_VERSION",
            "12040",
            "unusable: the driver supports CUDA 12.4",
            true,
        ),
        (
            "FAKE_MAJOR",
            "7",
            "not used: Fake card has compute capability 7.0",
            true,
        ),
        // All is well, until the card is opened.
        (
            "FAKE_MAJOR",
            "9",
            "Fake card, 80.0 GiB, compute capability 9.0",
            true,
        ),
    ] {
        let with_driver = |arguments: &[&str]| {
            let mut command = massact(arguments);
            command.env("LD_LIBRARY_PATH", temp.path()).env(name, value);
            command
        };
        let devices = run(&mut with_driver(&["devices"])).succeeded();
        assert!(devices.stdout.contains(told), "{}", devices.stdout);
        let capture = |device: &str| {
            let mut command = with_driver(&["capture", "--token-ids", "0,5", "--device", device]);
            run(command.arg("--save-dir").arg(temp.path().join(device)))
        };
        let refused = capture("cuda");
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        let automatic = capture("auto").succeeded();
        let noticed = automatic.stderr.contains("computing on the CPU: ");
        assert_eq!(noticed, notice, "{name} {value}: {}", automatic.stderr);
    }
}

/// `cuda` is an error with the remedy, and `auto` the CPU.
#[test]
fn without_a_card() {
    let temp = tempfile::tempdir().expect("a folder");
    let save_dir = temp.path().join("out");
    let capture = |device: &str| {
        let arguments = [
            "capture",
            "--token-ids",
            "0,5,6",
            "--device",
            device,
            "--json",
        ];
        run(massact(arguments).arg("--save-dir").arg(&save_dir))
    };
    for device in ["cuda", "cuda:1"] {
        let refused = capture(device);
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("CUDA: ") && refused.stderr.contains("--device cpu"));
        assert!(!save_dir.exists());
    }
    capture("auto").succeeded();
    let files = support::program::files(&save_dir);
    let record = files
        .iter()
        .find(|path| path.ends_with("run.json"))
        .expect("written");
    let record = std::fs::read_to_string(save_dir.join(record)).expect("readable");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(record["device"], "cpu");
    assert_eq!(record["compute_dtype"], "float32");
    assert!(record.get("card").is_none());
}

#[test]
fn selftest_needs_a_card() {
    let without = run(&mut massact(["selftest", "--json"]));
    assert_eq!(without.code, Some(1));
    assert_eq!(without.stdout, "");
    assert!(
        without
            .stderr
            .starts_with("massact: selftest needs a card: CUDA: ")
            && !without.stderr.contains("--device cpu"),
        "{}",
        without.stderr
    );
    let on_cpu = run(&mut massact(["selftest", "--device", "cpu"]));
    assert_eq!(on_cpu.code, Some(2));
    assert!(on_cpu.stderr.contains("needs a card"), "{}", on_cpu.stderr);
    assert!(
        !on_cpu.stderr.contains("--device cuda"),
        "{}",
        on_cpu.stderr
    );
}
