//! Damaged checkpoints given to the program itself, within a limit of memory: it ends soon, with a line that
//! says what is wrong, and leaves nothing behind, or with the results of what could be read.

#![cfg(unix)]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::mutations::{Numbers, damaged, times};
use support::program::{Done, massact};

/// Far more than any takes, on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);
/// What the program may have of addresses, in KiB: its threads and what the allocator sets aside for each.
const ADDRESSES: usize = 3 << 20;

/// The files whose damage a run must bear.
const DAMAGED: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// The program with these arguments, within the limit.
fn limited(arguments: &[&str]) -> Command {
    let program = massact(arguments);
    let mut shell = Command::new("sh");
    let line = format!("ulimit -v {ADDRESSES}; exec \"$0\" \"$@\"");
    shell.args(["-c", &line]).arg(program.get_program());
    shell.args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null());
    shell
}

/// Waits for its end; kills what takes too long.
fn end(mut child: Child) -> (Option<Done>, Duration) {
    let began = Instant::now();
    while began.elapsed() < LONGEST {
        if child.try_wait().expect("a process").is_some() {
            let took = began.elapsed();
            let output = child.wait_with_output().expect("a process");
            return (Some(Done::of(output)), took);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    (None, LONGEST)
}

/// What is wrong with how it ended.
fn fault(done: &Done, out: &Path) -> Option<String> {
    let last = done.stderr.lines().last().unwrap_or_default();
    let said = || format!("code {:?}: {}", done.code, done.stderr);
    let refused = match done.code {
        Some(0) => false,
        Some(1 | 2) => true,
        _ => return Some(said()),
    };
    if done.stderr.contains("panicked") {
        return Some(said());
    }
    let line = last.starts_with("massact: ") && last.contains("; ");
    let left = out.exists() || !done.stdout.is_empty();
    (refused && (!line || left)).then(said)
}

#[test]
fn damaged_checkpoints() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut folders: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.retain(|path| path.join("config.json").is_file());
    folders.sort();
    let (mut tried, mut refused, mut longest) = (0, 0, Duration::ZERO);
    let mut faults = Vec::new();
    for round in 0..times() {
        for (index, folder) in folders.iter().enumerate() {
            let seed = (round * folders.len() + index) as u64;
            let mut numbers = Numbers(seed);
            let temp = tempfile::tempdir().expect("a folder");
            let model = temp.path().join("model");
            std::fs::create_dir(&model).expect("a folder");
            let names = DAMAGED.iter().filter(|name| folder.join(name).is_file());
            let names: Vec<_> = names.collect();
            let target = names[numbers.below(names.len())];
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let to = model.join(path.file_name().expect("a name"));
                std::fs::copy(path, to).expect("copied");
            }
            let mut bytes = std::fs::read(folder.join(target)).expect("a file");
            for _ in 0..=numbers.below(2) {
                bytes = damaged(&bytes, &mut numbers);
            }
            std::fs::write(model.join(target), bytes).expect("written");
            let out = temp.path().join("out");
            let places = [&model, &out].map(|path| path.to_str().expect("UTF-8"));
            let command = ["capture", "--token-ids", "1,5,7,2", "--nll", "--quiet"];
            let rest = [places[0], "--save-dir", places[1]];
            let mut command = limited(&[&command[..], &rest].concat());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let (done, took) = end(command.spawn().expect("starts"));
            tried += 1;
            longest = longest.max(took);
            let what = format!("{} {target}, seed {seed}", folder.display());
            match done {
                None => faults.push(format!("{what}: no end within {LONGEST:?}")),
                Some(done) => {
                    refused += usize::from(done.code != Some(0));
                    faults.extend(fault(&done, &out).map(|fault| format!("{what}: {fault}")));
                }
            }
        }
    }
    println!("{tried} damaged checkpoints, {refused} refused, at most {longest:?}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // Damage that everything survives, or nothing does, tests nothing.
    assert!(
        refused > tried / 10 && refused < tried * 9 / 10,
        "{refused}"
    );
}
