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
        without.stderr.starts_with("massact: CUDA: "),
        "{}",
        without.stderr
    );
    let on_cpu = run(&mut massact(["selftest", "--device", "cpu"]));
    assert_eq!(on_cpu.code, Some(2));
    assert!(on_cpu.stderr.contains("--device cuda"), "{}", on_cpu.stderr);
}
