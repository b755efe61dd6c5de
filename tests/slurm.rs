//! Sweeps on a real Slurm, which `.ci/slurm` starts: a controller and two node daemons.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::program::{Done, massact, run, signal};
use support::sweeps::Sweep;

/// How often what is waited for is looked at.
const PERIOD: Duration = Duration::from_millis(200);

/// Nothing that is waited for takes so long.
const PATIENCE: Duration = Duration::from_secs(180);

/// Tokens of a sequence, at most: what the model has positions for.
const LENGTH: usize = 48;

/// Repetitions of the text: more than any task here reads.
const TIMES: usize = 400;

fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        thread::sleep(PERIOD);
    }
}

fn slurm(program: &str, arguments: &[&str]) -> Done {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; .ci/slurm has one"));
    Done::of(output).succeeded()
}

/// The lines of squeue, an element each; what squeue has forgotten is in no line.
fn queue(format: &str) -> Vec<String> {
    let listing = slurm("squeue", &["--noheader", "--array", "--format", format]);
    listing
        .stdout
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

fn until_empty() {
    wait("an empty queue", || queue("%i").is_empty());
}

/// Sequences that a task has to have to take so long here.
fn sequences(seconds: f64) -> usize {
    const TRIED: usize = 2000;
    let sweep = Sweep::planned(&plan(&[TRIED]), TIMES);
    let start = Instant::now();
    let results = sweep.path("results");
    let mut command = massact(["existence-validation", "--quiet"]);
    command.arg(format!("--context-length={LENGTH}"));
    command.arg(sweep.path("planted"));
    command.arg("--text-file").arg(sweep.path("text.txt"));
    command.arg("--nsamples").arg(TRIED.to_string());
    command.arg("--save-dir").arg(&results);
    run(&mut command).succeeded();
    let rate = TRIED as f64 / start.elapsed().as_secs_f64();
    // More than the text has would be refused.
    ((rate * seconds) as usize).clamp(TRIED, 50_000)
}

/// A task for each number of sequences. Their lengths differ, so that they share no walk.
fn plan(sequences: &[usize]) -> String {
    let mut plan = String::from("[defaults]\ntext_file = \"text.txt\"\n");
    plan.push_str("[[model]]\npretrained = \"planted\"\n");
    for (index, count) in sequences.iter().enumerate() {
        let length = LENGTH - index;
        plan.push_str("[[experiment]]\nname = \"existence-validation\"\n");
        plan.push_str(&format!("nsamples = {count}\ncontext_length = {length}\n"));
    }
    plan
}

/// The job of the task that runs, as `status` has it.
fn job_of(sweep: &Sweep, id: &str) -> Option<String> {
    let status = sweep.run("status", &["--json"]).succeeded().json();
    let running = status["running"].as_array().expect("a list");
    let its = running.iter().find(|task| task["id"] == id)?;
    Some(its["job"].as_str()?.to_owned())
}

fn submitted(sweep: &Sweep, arguments: &[&str]) -> String {
    let arguments = [&["--slurm"], arguments].concat();
    sweep.run("submit", &arguments).succeeded().stdout
}

/// The logs of a sweep's elements; each path with its text.
fn logs(sweep: &Sweep) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(sweep.root.join("slurm")).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a text");
            (path, text)
        })
        .collect()
}

#[track_caller]
fn all_done(sweep: &Sweep) {
    let left = sweep.run("status", &["--left"]).succeeded();
    let attempts: Vec<_> = sweep.ids().iter().map(|id| sweep.attempts(id)).collect();
    assert_eq!(left.stdout, "0\n", "{attempts:?}\n{:#?}", logs(sweep));
    for ends in &attempts {
        let done = ends.iter().filter(|end| *end == "done").count();
        assert_eq!(done, 1, "{attempts:?}");
    }
}

/// Ends the daemon of a node, and starts another: as when the machine's service is restarted.
fn restart_daemon(node: &str) {
    let config = std::env::var("SLURM_CONF").expect("of .ci/slurm");
    let folder = Path::new(&config).parent().expect("a folder");
    let file = folder.join(format!("slurmd-{node}.pid"));
    let pid = fs::read_to_string(&file)
        .expect("a pid")
        .trim()
        .parse()
        .expect("a number");
    signal("TERM", pid);
    wait("the end of the node's daemon", || !file.exists());
    slurm("slurmd", &["-f", &config, "-N", node]);
    wait("the node's daemon", || {
        slurm(
            "sinfo",
            &[
                "--noheader",
                "--nodes",
                node,
                "--partition=main",
                "--format=%t",
            ],
        )
        .stdout
        .trim()
        .chars()
        .all(|letter| letter.is_alphabetic())
    });
}

#[test]
#[ignore = "needs Slurm: .ci/slurm runs it"]
fn an_array_loses_a_task_and_a_daemon_and_the_second_completes_it() {
    let long = sequences(8.0);
    let sweep = Sweep::planned(&plan(&[10, 11, 12, 13, long, 14, 15, 16]), TIMES);
    let ids = sweep.ids();
    let arguments = [
        "--group=none",
        "--array-limit=4",
        "--cpus=1",
        "--time=10",
        "--mem=400M",
    ];
    let stdout = submitted(&sweep, &arguments);
    assert!(stdout.ends_with(": 8 elements with 8 tasks\n"), "{stdout}");
    // What is in the queue is not submitted again.
    assert_eq!(submitted(&sweep, &[]), "nothing to submit\n");

    wait("the long task", || job_of(&sweep, &ids[4]).is_some());
    let job = job_of(&sweep, &ids[4]).expect("it runs");
    assert!(job.ends_with("_4"), "{job}");
    let node = slurm("squeue", &["--noheader", "--jobs", &job, "--format=%N"]).stdout;
    restart_daemon(node.trim());
    assert_eq!(
        job_of(&sweep, &ids[4]).as_deref(),
        Some(job.as_str()),
        "{:#?}",
        logs(&sweep)
    );
    assert_eq!(sweep.attempts(&ids[4]), ["none"], "it still runs");
    slurm("scancel", &[&job]);
    until_empty();
    let status = sweep.run("status", &["--json"]).succeeded().json();
    assert_eq!(status["done"], 7, "{status:#}\n{:#?}", logs(&sweep));
    assert_eq!(status["waiting"], 1);
    // It gave its task back.
    assert_eq!(sweep.attempts(&ids[4]), ["released"]);

    let stdout = submitted(&sweep, &arguments);
    assert!(stdout.ends_with(": 1 element with 1 task\n"), "{stdout}");
    until_empty();
    all_done(&sweep);
    for (index, id) in ids.iter().enumerate() {
        let attempts = if index == 4 { 2 } else { 1 };
        assert_eq!(sweep.attempts(id).len(), attempts, "task {index}");
    }
    assert_eq!(logs(&sweep).len(), 9);
    assert_eq!(submitted(&sweep, &arguments), "nothing to submit\n");
}

#[test]
#[ignore = "needs Slurm: .ci/slurm runs it"]
fn what_its_limit_stops_goes_on_in_another_round() {
    // Slurm looks at limits twice a minute, and gives a signal by as much too early.
    let each = sequences(9.0);
    let counts: Vec<usize> = (0..6).map(|index| each + index).collect();
    let sweep = Sweep::planned(&plan(&counts), TIMES);
    let stdout = submitted(&sweep, &["--time=1"]);
    assert!(stdout.ends_with(": 1 element with 6 tasks\n"), "{stdout}");
    until_empty();
    all_done(&sweep);
    let logs = logs(&sweep);
    assert_eq!(logs.len(), 1, "one log of all rounds");
    let log = &logs[0].1;
    assert!(log.contains("back into the queue"), "{log}");
    let released = sweep
        .ids()
        .iter()
        .flat_map(|id| sweep.attempts(id))
        .filter(|end| end == "released")
        .count();
    assert!(released > 0, "{log}");
}

#[test]
#[ignore = "needs Slurm: .ci/slurm runs it"]
fn what_is_preempted_starts_again() {
    let long = sequences(5.0);
    let sweep = Sweep::planned(&plan(&[10, long]), TIMES);
    let ids = sweep.ids();
    submitted(&sweep, &["--time=10"]);
    wait("the long task", || job_of(&sweep, &ids[1]).is_some());
    let arguments = [
        "--partition=urgent",
        "--nodes=2",
        "--exclusive",
        "--time=1",
        "--output=/dev/null",
        "--wrap=sleep 1",
    ];
    slurm("sbatch", &arguments);
    wait("a queue that has it again", || {
        let status = sweep.run("status", &[]).succeeded().stdout;
        status.contains("task 1 queued (job ") && status.contains("BeginTime")
    });
    until_empty();
    all_done(&sweep);
    assert_eq!(
        sweep.attempts(&ids[0]),
        ["done"],
        "what is done is not done again"
    );
    assert_eq!(sweep.attempts(&ids[1]), ["released", "done"]);
}
