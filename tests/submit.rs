//! `massact sweep submit` and `status` beside commands that stand for Slurm's: what is submitted, how it is
//! divided, and what is made of the queue. tests/slurm.rs does it with the real ones.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use support::program::{Done, run};
use support::schema::assert_valid;
use support::sweeps::{Sweep, program};
use tempfile::TempDir;

/// Eight tasks of two models, in which all quotes of a shell are at home.
const PLAN: &str = r#"
[defaults]
context_length = 16
text_file = "text.txt"

[[model]]
pretrained = "planted"
label = "it's"

[[model]]
pretrained = "demo"
nsamples = 2

[[experiment]]
name = "existence-validation"
seed = [1, 2, 3, 4]
"#;

/// Commands that stand for Slurm's: sbatch keeps what it is given, and runs nothing.
struct Cluster(TempDir);

impl Cluster {
    fn new() -> Self {
        let cluster = Self(tempfile::tempdir().expect("a folder"));
        let place = cluster.0.path().display();
        // Jobs 12, 13 ...
        let sbatch = format!(
            r#"count=$(cat "{place}/count" 2>/dev/null || echo 12)
echo $((count + 1)) >"{place}/count"
for word; do printf '%s\n' "$word"; done >"{place}/sbatch-$count"
echo "$count;here""#
        );
        cluster.command("sbatch", &sbatch);
        cluster.says("");
        cluster.command("scontrol", "echo 'MaxArraySize            = 1001'");
        cluster
    }

    fn command(&self, name: &str, script: &str) {
        program(self.0.path(), name, script);
    }

    /// What squeue shall answer.
    fn says(&self, listing: &str) {
        self.command("squeue", &format!("cat <<'END'\n{listing}\nEND"));
    }

    /// The arguments of the sbatch that made a job.
    fn arguments(&self, job: usize) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join(format!("sbatch-{job}")));
        text.expect("submitted")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn run(&self, mut command: Command) -> Done {
        let path = std::env::var("PATH").expect("a PATH");
        command.env("PATH", format!("{}:{path}", self.0.path().display()));
        run(&mut command)
    }

    fn submit(&self, sweep: &Sweep, arguments: &[&str]) -> Done {
        let arguments = [&["--slurm"], arguments].concat();
        self.run(sweep.command("submit", &arguments)).succeeded()
    }
}

fn script(sweep: &Sweep) -> String {
    fs::read_to_string(sweep.root.join("submit.sbatch")).expect("a script")
}

/// The tasks of each element, from the file that the script names.
fn elements(sweep: &Sweep) -> Vec<String> {
    let script = script(sweep);
    let line = script.lines().find(|line| line.starts_with("elements="));
    let output = Command::new("bash")
        .args([
            "-c",
            &format!("{}; cat \"$elements\"", line.expect("a line")),
        ])
        .output()
        .expect("bash");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// A claim of somebody on another machine, as part of a job.
fn claim(sweep: &Sweep, id: &str, job: &str) {
    let folder = sweep.root.join("tasks").join(id);
    fs::create_dir_all(&folder).expect("a folder");
    let claim = json!({
        "process": { "host": "elsewhere", "pid": 7, "started": null, "place": null,
                     "job": { "id": job, "restarts": 0 } },
        "started_at": "2026-01-01T00:00:00Z",
    });
    fs::write(folder.join("0001.claim"), claim.to_string()).expect("written");
}

#[test]
fn an_element_has_the_tasks_of_a_model() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    let done = cluster.submit(&sweep, &["--dry-run"]);
    assert!(
        done.stdout.contains("2 elements with 8 tasks"),
        "{}",
        done.stdout
    );
    assert_eq!(elements(&sweep), ["0-3", "4-7"]);
    assert!(script(&sweep).contains("#SBATCH --array=0-1\n"));
    cluster.submit(&sweep, &["--dry-run", "--tasks-per-job", "3"]);
    assert_eq!(elements(&sweep), ["0-2", "3", "4-6", "7"]);
    cluster.submit(&sweep, &["--dry-run", "--group", "none"]);
    assert_eq!(elements(&sweep).len(), 8);
    cluster.submit(&sweep, &["--dry-run", "--group=none", "--tasks-per-job=5"]);
    assert_eq!(elements(&sweep), ["0-4", "5-7"]);
    // Nothing was submitted.
    assert!(!sweep.root.join("slurm/jobs.jsonl").exists());
    assert!(!cluster.0.path().join("sbatch-12").exists());
}

#[test]
fn the_script_asks_for_what_was_asked_for() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    let asked = [
        "--partition=gpu",
        "--time=4:00:00",
        "--gpus=a100:2",
        "--cpus=8",
        "--mem=64G",
        "--array-limit=4",
        "--sbatch-arg=--account=a b",
        "--sbatch-arg",
        "--exclusive",
        "--dry-run",
    ];
    cluster.submit(&sweep, &asked);
    let text = script(&sweep);
    for line in [
        "#SBATCH --partition=gpu",
        "#SBATCH --time=4:00:00",
        "#SBATCH --gres=gpu:a100:2",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=64G",
        "#SBATCH --array=0-1%4",
        "#SBATCH --account='a b'",
        "#SBATCH --exclusive",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:USR1@60",
        "device=(--device=cuda:all)",
        "export RAYON_NUM_THREADS=\"${RAYON_NUM_THREADS:-4}\"",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
    }
    // Slurm replaces the path's own % no more than bash its quotes.
    assert!(
        text.contains("it'\"'\"'s a %%j $HOME \"sweep\"/slurm/%A_%a.log'"),
        "{text}"
    );
    cluster.submit(
        &sweep,
        &[
            "--dry-run",
            "--gpus=1",
            "--container=/images/it's.sif",
            "--device=cpu",
        ],
    );
    let text = script(&sweep);
    assert!(
        text.contains("apptainer exec --nv --bind \"$sweep\""),
        "{text}"
    );
    assert!(text.contains("'/images/it'\"'\"'s.sif' massact)"), "{text}");
    assert!(text.contains("device=(--device=cpu)"), "{text}");
    for wrong in [
        &["--sbatch-arg=--array=0-3"][..],
        &["--sbatch-arg=account"],
        &["--sbatch-arg=--account a"],
        &["--partition=a\nb"],
        &["--cpus=0"],
        &["--group=x"],
    ] {
        let arguments = [&["--slurm", "--dry-run"], wrong].concat();
        let done = cluster.run(sweep.command("submit", &arguments));
        assert_eq!(done.code, Some(2), "{wrong:?}");
    }
    let done = cluster.run(sweep.command("submit", &["--dry-run"]));
    assert_eq!(done.code, Some(2), "--slurm is needed");
}

#[test]
fn an_element_runs_its_tasks_and_ends_as_they_do() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    cluster.submit(&sweep, &["--dry-run", "--tasks-per-job", "3"]);
    let element = |index: &str, offset: &str| {
        let mut bash = Command::new("bash");
        support::program::offline(&mut bash);
        bash.arg(sweep.root.join("submit.sbatch")).arg(offset);
        bash.env("SLURM_ARRAY_JOB_ID", "12")
            .env("SLURM_ARRAY_TASK_ID", index);
        cluster.run(bash)
    };
    element("1", "2").succeeded();
    let ids = sweep.ids();
    assert_eq!(sweep.attempts(&ids[7]), ["done"]);
    assert!(sweep.attempts(&ids[6]).is_empty());
    let done = element("4", "0");
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("no line 5"), "{}", done.stderr);
    fs::remove_file(sweep.path("text.txt")).expect("removed");
    assert_eq!(element("0", "0").code, Some(1), "its tasks fail");
    assert_eq!(sweep.attempts(&ids[0]), ["failed"]);
}

#[test]
fn what_is_submitted_is_recorded_and_not_submitted_again() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    sweep.run("run", &["--index", "0,2"]).succeeded();
    let ids = sweep.ids();
    let done = cluster.submit(&sweep, &["--tasks-per-job=1", "--group=model"]);
    assert_eq!(done.stdout, "job 12: 6 elements with 6 tasks\n");
    assert_eq!(elements(&sweep), ["1", "3", "4", "5", "6", "7"]);
    let path = sweep.root.join("submit.sbatch").display().to_string();
    assert_eq!(cluster.arguments(12), ["--parsable", &path]);
    let recorded = &sweep.lines("slurm/jobs.jsonl")[0];
    assert_eq!(recorded["job"], "12");
    assert_eq!(recorded["indices"], json!(["1", "3", "4", "5", "6", "7"]));
    assert_eq!(recorded["tasks"][0], json!([ids[1]]));

    // One runs, one waits, one was lost, and the others have not been run.
    cluster.says("12|0|RUNNING|None\n12|1|PENDING|Resources");
    claim(&sweep, &ids[1], "12_0");
    claim(&sweep, &ids[4], "12_2");
    let done = cluster.submit(&sweep, &[]);
    assert_eq!(
        done.stdout, "job 13: 1 element with 4 tasks\n",
        "{}",
        done.stderr
    );
    assert_eq!(elements(&sweep), ["4-7"]);
    // Who takes it next need not wait until the dead has been silent for long.
    assert_eq!(sweep.attempts(&ids[4]), ["released"]);
    assert_eq!(sweep.attempts(&ids[1]), ["none"]);

    sweep.run("run", &["--index", "3-7"]).succeeded();
    let done = cluster.submit(&sweep, &[]);
    assert_eq!(done.stdout, "nothing to submit\n", "{}", done.stderr);
    assert_eq!(sweep.lines("slurm/jobs.jsonl").len(), 2);
}

#[test]
fn more_elements_than_an_array_may_have() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    cluster.command("scontrol", "echo 'MaxArraySize            = 3'");
    let done = cluster.submit(&sweep, &["--group=none", "--array-limit=2", "--dry-run"]);
    let commands: Vec<&str> = done.stdout.lines().skip(1).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    assert!(
        commands[1].starts_with("sbatch --array=0-2%2 "),
        "{commands:?}"
    );
    assert!(
        commands[2].starts_with("sbatch --array=0-1%2 "),
        "{commands:?}"
    );
    assert!(commands[2].ends_with(" 6"), "{commands:?}");
    let done = cluster.submit(&sweep, &["--group=none", "--array-limit=2"]);
    assert_eq!(done.stdout.lines().count(), 3, "{}", done.stdout);
    assert!(script(&sweep).contains("#SBATCH --array=0-2%2\n"));
    let path = sweep.root.join("submit.sbatch").display().to_string();
    assert_eq!(cluster.arguments(12), ["--parsable", &path]);
    let last = [
        "--parsable",
        "--array=0-1%2",
        "--dependency=afterany:13",
        &path,
        "6",
    ];
    assert_eq!(cluster.arguments(14), last);
    let recorded = sweep.lines("slurm/jobs.jsonl");
    assert_eq!(recorded[2]["indices"], json!(["6", "7"]));
}

#[test]
fn status_says_what_the_queue_says() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    cluster.submit(&sweep, &["--tasks-per-job=2"]);
    let ids = sweep.ids();
    cluster.says("12_0 is no line\n12|0|RUNNING|None\n12|1|PENDING|Resources");
    claim(&sweep, &ids[0], "12_0");
    claim(&sweep, &ids[4], "12_2");
    let done = cluster.run(sweep.command("status", &[])).succeeded();
    for part in [
        "elsewhere, job 12_0",
        "task 1 queued (job 12_0, running)",
        "tasks 2-3 queued (job 12_1, Resources)",
        "task 4 waiting (lost: job 12_2 on elsewhere has ended)",
        "0 done, 1 running, 0 failed, 7 waiting (3 queued, 1 lost)",
    ] {
        assert!(done.stdout.contains(part), "{part}:\n{}", done.stdout);
    }
    let status = cluster
        .run(sweep.command("status", &["--json"]))
        .succeeded()
        .json();
    assert_valid("sweep_status", &status);
    assert_eq!(status["running"][0]["job"], "12_0");
    assert_eq!(status["waiting"], 7);
    assert_eq!(status["queued"][1]["index"], 2);
    assert_eq!(status["queued"][1]["job"], "12_1");
    assert_eq!(status["queued"][1]["state"], "PENDING");
    assert_eq!(status["queued"][1]["reason"], "Resources");
    assert_eq!(status["lost"][0]["id"], ids[4].as_str());
    assert_eq!(status["lost"][0]["host"], "elsewhere");
    let left = cluster.run(sweep.command("status", &["--left", "--index=2-5"]));
    assert_eq!(left.succeeded().stdout, "4\n");

    // A job that squeue has forgotten.
    cluster.command(
        "squeue",
        "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
    );
    let done = cluster.run(sweep.command("status", &[])).succeeded();
    assert!(
        done.stdout.contains("8 waiting (2 lost)"),
        "{}",
        done.stdout
    );
    assert_eq!(done.stderr, "");
    // One that cannot be asked: what the folder says stands.
    cluster.command("squeue", "echo 'squeue: error: no route' >&2; exit 1");
    let done = cluster.run(sweep.command("status", &[])).succeeded();
    assert!(
        done.stdout.contains("2 running, 0 failed, 6 waiting\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stderr.contains("squeue: no route; "),
        "{}",
        done.stderr
    );
}

#[test]
fn an_sbatch_that_refuses_says_why() {
    let (sweep, cluster) = (Sweep::planned(PLAN, 1), Cluster::new());
    cluster.command(
        "sbatch",
        "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1",
    );
    let done = cluster.run(sweep.command("submit", &["--slurm"]));
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr
            .contains("massact: sbatch: Batch job submission failed: Invalid account; "),
        "{}",
        done.stderr
    );
    assert!(!sweep.root.join("slurm/jobs.jsonl").exists());
    let mut command = sweep.command("submit", &["--slurm"]);
    command.env("PATH", PathBuf::new());
    let done = run(&mut command);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("no such command on the PATH"),
        "{}",
        done.stderr
    );
}
