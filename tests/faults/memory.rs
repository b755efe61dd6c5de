//! A system that has no memory left.

use std::path::Path;
use std::process::Command;

use super::supervised::Place;
use super::support::program::{Done, offline, run};

/// The program with at most so many KiB of address space.
fn limited(place: &Place, kibibytes: u64, words: &[&str]) -> Done {
    let inner = place.command(words);
    let mut command = Command::new("sh");
    offline(&mut command);
    command
        .arg("-c")
        .arg(format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\""))
        .arg(inner.get_program())
        .args(inner.get_args())
        // One arena for all threads, so that the limit is for what the program asks for.
        .env("MALLOC_ARENA_MAX", "1")
        .env("RAYON_NUM_THREADS", "2");
    run(&mut command)
}

/// From too little for anything to enough: every run ends well, or with a line and nothing left behind.
#[test]
fn limits_from_nothing_to_enough() {
    let place = Place::new();
    let words = [
        "capture",
        "--quiet",
        "--pretrained",
        "{model}",
        "--text-file",
        "{text}",
        "--context-length",
        "48",
        "--nsamples",
        "100",
        "--raw",
        "--save-dir",
        "{out}",
    ];
    // What only starting takes.
    let starts = |kibibytes: &u64| limited(&place, *kibibytes, &["--version"]).code == Some(0);
    let first = (1..)
        .map(|step| step * 2048)
        .find(starts)
        .expect("some limit");
    let mut refused = Vec::new();
    let mut kibibytes = first;
    loop {
        let done = limited(&place, kibibytes, &words);
        println!(
            "{kibibytes} KiB: {:?} {}",
            done.code,
            done.stderr.trim_end()
        );
        if done.code == Some(0) {
            break;
        }
        assert_eq!(done.code, Some(1), "{kibibytes} KiB: {}", done.stderr);
        assert_eq!(
            done.stderr.lines().count(),
            1,
            "{kibibytes} KiB: {}",
            done.stderr
        );
        assert!(done.stderr.contains("; "), "{}", done.stderr);
        let out = place.path("out");
        assert!(
            !out.exists(),
            "{kibibytes} KiB: {:?}",
            place.content("out").keys()
        );
        refused.push(done.stderr);
        kibibytes += 2048;
        assert!(kibibytes < 4 << 20, "never enough");
    }
    let by_allocator =
        |line: &&String| line.starts_with("massact: memory: the system has none left");
    assert!(
        refused.iter().filter(by_allocator).count() > 1,
        "{refused:?}"
    );
    assert!(is_whole(&place.path("out")));
}

fn is_whole(out: &Path) -> bool {
    let run = super::support::program::only_run(out);
    run.join("run.json").is_file() && run.join("capture.safetensors").is_file()
}
