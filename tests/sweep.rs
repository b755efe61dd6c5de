//! `massact sweep`: plans, and tasks that are done once whatever happens to the processes.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::damage::copy;
use support::program::{Done, checkpoint, files, massact, read_json, run, signal};
use support::schema::assert_valid;
use tempfile::TempDir;

const PLAN: &str = r#"
[defaults]
context_length = 32
text_file = "text.txt"

[[model]]
pretrained = "planted"
label = "Planted"

[[model]]
pretrained = "demo"
nsamples = 4

[[experiment]]
name = "existence-validation"
add_bos_token = [true, false]

[[experiment]]
name = "tokens_analysis"
nsamples = 3

[[experiment]]
name = "intervention-analysis"
calibration_nsamples = 5
nsamples = 3
"#;

/// A plan with what it names beside it, and `sweep`, which is made of it.
struct Place(TempDir);

impl Place {
    fn new(plan: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        let planted = checkpoint("planted-llama");
        copy("planted-llama", &place.path("planted"));
        fs::copy(planted.join("text.txt"), place.path("text.txt")).expect("copied");
        fs::write(place.path("plan.toml"), plan).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command on the sweep in the folder `name`.
    fn sweep(&self, command: &str, name: &str) -> Command {
        let mut program = massact(["sweep", command]);
        if command == "plan" {
            program.arg(self.path("plan.toml")).arg("--dir");
        }
        program.arg(self.path(name));
        program
    }

    #[track_caller]
    fn planned(&self, name: &str) -> Vec<Value> {
        run(&mut self.sweep("plan", name)).succeeded();
        self.manifest(name)
    }

    fn manifest(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name).join("manifest.jsonl")).expect("a manifest");
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON")
    }

    fn refused(&self) -> String {
        let done = run(&mut self.sweep("plan", "sweep"));
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(!self.path("sweep").exists(), "it left something");
        done.stderr
    }

    fn status(&self, name: &str) -> Value {
        let status = run(self.sweep("status", name).arg("--json"))
            .succeeded()
            .json();
        assert_valid("sweep_status", &status);
        status
    }

    /// Outcomes of the attempts at each task, in their order; an attempt without an end is `none`.
    fn attempts(&self, name: &str) -> BTreeMap<String, Vec<String>> {
        let tasks = self.path(name).join("tasks");
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&tasks).expect("tasks") {
            let folder = entry.expect("an entry").path();
            let claims = files(&folder).into_iter();
            let claims = claims.filter(|name| name.ends_with(".claim"));
            let ends = claims.map(|claim| {
                let end = folder.join(claim.replace(".claim", ".end"));
                if !end.is_file() {
                    return "none".to_owned();
                }
                read_json(&end)["outcome"]
                    .as_str()
                    .expect("a text")
                    .to_owned()
            });
            let id = folder
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            found.insert(id, ends.collect());
        }
        found
    }

    #[track_caller]
    fn all_done_once(&self, name: &str) {
        let tasks = self.manifest(name).len();
        let attempts = self.attempts(name);
        assert_eq!(attempts.len(), tasks, "{attempts:?}");
        for (id, ends) in &attempts {
            let done = ends.iter().filter(|end| *end == "done").count();
            assert_eq!(done, 1, "{id}: {ends:?}");
            assert_eq!(ends.last().expect("one"), "done", "{id}: {ends:?}");
        }
    }

    /// The merged tables' bytes.
    #[track_caller]
    fn merged(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        run(&mut self.sweep("merge", name)).succeeded();
        let folder = self.path(name).join("merged");
        let names = files(&folder).into_iter();
        names
            .map(|name| {
                let bytes = fs::read(folder.join(&name)).expect("there");
                (name, bytes)
            })
            .collect()
    }
}

fn strings(value: &Value) -> Vec<&str> {
    let values = value.as_array().expect("a list").iter();
    values
        .map(|value| value.as_str().expect("a text"))
        .collect()
}

#[test]
fn a_plan_becomes_a_line_a_task() {
    let place = Place::new(PLAN);
    let done = run(&mut place.sweep("plan", "sweep")).succeeded();
    assert!(
        done.stdout.starts_with("8 tasks on 2 models\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains("no model to download"),
        "{}",
        done.stdout
    );
    let tasks = place.manifest("sweep");
    let names: Vec<(&str, &str)> = tasks
        .iter()
        .map(|task| {
            let text = |key: &str| task[key].as_str().expect("a text");
            (text("model"), text("command"))
        })
        .collect();
    let experiments = [
        "existence-validation",
        "existence-validation",
        "tokens-analysis",
        "intervention-analysis",
    ];
    let expected = ["Planted", "demo"].map(|model| experiments.map(|name| (model, name)));
    assert_eq!(names, expected.concat());
    // Paths are the program's, settings the plan's.
    let text_file = format!("--text-file={}", place.path("text.txt").display());
    let first = strings(&tasks[0]["arguments"]);
    let planted = place.path("planted");
    assert_eq!(
        first[..2],
        ["--pretrained", planted.to_str().expect("UTF-8")]
    );
    assert!(first.contains(&text_file.as_str()), "{first:?}");
    assert!(first.contains(&"--label=Planted"), "{first:?}");
    assert_eq!(
        tasks[1]["settings"],
        json!({ "add_bos_token": false, "context_length": 32, "text_file": "text.txt" })
    );
    // A model's setting counts before the defaults, an experiment's before both.
    assert_eq!(tasks[4]["settings"]["nsamples"], 4);
    assert_eq!(tasks[6]["settings"]["nsamples"], 3);
    // What a task is does not depend on the label, but on the files that it reads.
    let ids = |tasks: &[Value]| -> Vec<String> {
        tasks.iter().map(|task| task["id"].to_string()).collect()
    };
    let renamed = PLAN.replace("\"Planted\"", "\"another\"");
    fs::write(place.path("plan.toml"), renamed).expect("written");
    assert_eq!(ids(&place.planned("again")), ids(&tasks));
    // A plan that says the same of other files says something else.
    assert_ne!(ids(&Place::new(PLAN).planned("sweep"))[0], ids(&tasks)[0]);
    assert_eq!(ids(&tasks).into_iter().collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn lists_multiply_and_lists_in_them_are_one_value() {
    let place = Place::new(
        r#"
        [[model]]
        pretrained = "./runs"
        revisions = ["step1000", "step2000"]
        [[experiment]]
        name = "intervention-analysis"
        seed = [1, 2, 3]
        set_to = [[1.5, -2.0], 7]
        eval = "mine=text.txt"
        tf32 = [true, false]
        "#,
    );
    let tasks = place.planned("sweep");
    assert_eq!(tasks.len(), 2 * 3 * 2 * 2);
    let arguments = strings(&tasks[0]["arguments"]).join(" ");
    let runs = place.path("runs/step1000");
    let expected = format!("--pretrained {} ", runs.display());
    assert!(arguments.starts_with(&expected), "{arguments}");
    assert!(arguments.contains("--label=runs step1000"), "{arguments}");
    assert!(
        arguments.contains("--set-to=1.5 --set-to=-2"),
        "{arguments}"
    );
    let eval = format!("--eval=mine={}", place.path("text.txt").display());
    assert!(arguments.contains(&eval), "{arguments}");
    assert_eq!(tasks[0]["revision"], "step1000");
    let with = |flag: &str| {
        let all = tasks.iter();
        all.filter(|task| strings(&task["arguments"]).contains(&flag))
            .count()
    };
    assert_eq!(
        (with("--tf32"), with("--set-to=7"), with("--seed=2")),
        (12, 12, 8)
    );
}

#[test]
fn wrong_plans_are_refused_by_name() {
    let plan = |model: &str, experiment: &str, rest: &str| {
        format!("{rest}\n[[model]]\n{model}\n[[experiment]]\n{experiment}\n")
    };
    let demo = "pretrained = \"demo\"";
    let existence = "name = \"existence-validation\"";
    for (text, expected) in [
        (
            plan(
                demo,
                "name = \"existence-validation\"\ncontxt_length = 3",
                "",
            ),
            &[
                "[[experiment]] 1 (existence-validation)",
                "no setting `contxt_length`",
                "did you mean `context_length`?",
            ][..],
        ),
        (
            plan(demo, existence, "[defaults]\nnsample = 3"),
            &[
                "[defaults]",
                "no setting `nsample`",
                "did you mean `nsamples`?",
            ],
        ),
        (
            plan("pretrained = \"demo\"\nrevision = \"x\"", existence, ""),
            &[
                "[[model]] 1 (demo)",
                "no setting `revision`",
                "did you mean `revisions`?",
            ],
        ),
        (
            plan("pretraned = \"demo\"", existence, ""),
            &[
                "[[model]] 1",
                "no setting `pretraned`",
                "did you mean `pretrained`?",
            ],
        ),
        (
            plan(demo, "name = \"existance-validation\"", ""),
            &[
                "no experiment `existance-validation`",
                "did you mean `existence-validation`?",
            ],
        ),
        (
            plan(demo, existence, "[default]\nseed = 1"),
            &["no setting `default`", "did you mean `defaults`?"],
        ),
        (
            plan(
                demo,
                "name = \"existence-validation\"\nnsamples = \"many\"",
                "",
            ),
            &[
                "[[experiment]] 1 (existence-validation)",
                "'many'",
                "--nsamples",
            ],
        ),
        (
            plan(
                demo,
                "name = \"existence-validation\"\nsave_dir = \"x\"",
                "",
            ),
            &["`save_dir` is no setting of an experiment"],
        ),
        (
            plan(
                demo,
                "name = \"existence-validation\"\ntext_file = \"../secret.txt\"",
                "",
            ),
            &["`../secret.txt`", "the path leaves the plan's folder"],
        ),
        (
            plan(demo, "name = \"existence-validation\"\nseed = []", ""),
            &["`seed`", "the list is empty"],
        ),
        (
            plan(
                "pretrained = \"demo\"\nrevisions = [\"a\", \"b\"]\nsteps = [1]",
                existence,
                "",
            ),
            &["`steps` needs one number a revision"],
        ),
        (
            "[[model]]\npretrained = \"demo\"\n".to_owned(),
            &["no [[experiment]]"],
        ),
        ("[[model]".to_owned(), &["not TOML"]),
        (
            plan("pretrained = \"\"", existence, ""),
            &["[[model]] 1", "`pretrained` is empty"],
        ),
        (
            plan("pretrained = \"demo\"\nlabel = \"a\\nb\"", existence, ""),
            &["--label"],
        ),
        (
            plan(
                "pretrained = \"demo\"\nlabel = \"A\"\n[[model]]\npretrained = \"demo\"\nlabel = \"B\"",
                existence,
                "",
            ),
            &["A existence-validation and B existence-validation are the same run"],
        ),
        (
            {
                let many = (0..400)
                    .map(|number| number.to_string())
                    .collect::<Vec<_>>()
                    .join(",");
                let settings = format!("seed = [{many}]\nnsamples = [{many}]");
                plan(demo, &format!("{existence}\n{settings}"), "")
            },
            &["more than 100000 tasks"],
        ),
    ] {
        let error = Place::new(&text).refused();
        assert!(
            error.starts_with("massact: ") && error.lines().count() == 1,
            "{error}"
        );
        for part in expected {
            assert!(error.contains(part), "{error}\nhas no {part}");
        }
    }
}

#[test]
fn a_sweep_has_what_single_runs_have_and_does_nothing_twice() {
    let place = Place::new(PLAN);
    let tasks = place.planned("sweep");
    let done = run(&mut place.sweep("run", "sweep")).succeeded();
    assert_eq!(done.stdout, "");
    assert!(
        done.stderr
            .contains("8 done, 0 running, 0 failed, 0 waiting"),
        "{}",
        done.stderr
    );
    place.all_done_once("sweep");
    let results = place.path("sweep/results");
    let before = files(&results);
    for task in &tasks {
        let mut alone = massact([task["command"].as_str().expect("a text")]);
        alone.args(strings(&task["arguments"]));
        run(alone.arg("--save-dir").arg(place.path("alone"))).succeeded();
    }
    // Walks that tasks share give the numbers that each has alone, to the last bit.
    assert_eq!(files(&place.path("alone")), before);
    for name in &before {
        let bytes = |folder: &str| fs::read(place.path(folder).join(name)).expect("there");
        if name.ends_with("run.json") || name.ends_with("report.html") {
            continue;
        }
        assert_eq!(bytes("sweep/results"), bytes("alone"), "{name}");
    }
    let again = run(&mut place.sweep("run", "sweep")).succeeded();
    assert!(!again.stderr.contains(": done in"), "{}", again.stderr);
    place.all_done_once("sweep");
    let status = place.status("sweep");
    let counts = ["tasks", "done", "waiting"].map(|key| status[key].as_u64());
    assert_eq!(counts, [Some(8), Some(8), Some(0)]);
}

#[test]
fn failures_are_named_and_harm_nobody() {
    let place = Place::new(&PLAN.replace("\"demo\"", "\"./gone\""));
    place.planned("sweep");
    // Somebody edits the manifest by hand.
    let path = place.path("sweep/manifest.jsonl");
    let text = fs::read_to_string(&path).expect("there");
    let mut lines: Vec<&str> = text.lines().collect();
    let wrong = lines[2].replace("--nsamples=", "--nsampels=");
    lines[2] = &wrong;
    lines.push("{\"id\": \"x\"");
    fs::write(&path, lines.join("\n")).expect("written");
    let done = run(&mut place.sweep("run", "sweep"));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr
            .contains("3 done, 0 running, 6 failed, 0 waiting"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("sweep retry"), "{}", done.stderr);
    let status = place.status("sweep");
    let failed = status["failed"].as_array().expect("a list");
    let why: Vec<(u64, &str)> = failed
        .iter()
        .map(|task| {
            let error = task["error"].as_str().expect("a text");
            (task["index"].as_u64().expect("a number"), error)
        })
        .collect();
    let indices: Vec<u64> = why.iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, [2, 4, 5, 6, 7, 8]);
    assert!(why[0].1.contains("--nsampels"), "{}", why[0].1);
    assert!(why[1].1.contains("gone"), "{}", why[1].1);
    assert!(why[5].1.contains("not a task"), "{}", why[5].1);
    // A failure stays one, until it is to be tried again and its reason is gone.
    assert_eq!(run(&mut place.sweep("run", "sweep")).code, Some(1));
    copy("planted-llama", &place.path("gone"));
    assert_eq!(run(&mut place.sweep("run", "sweep")).code, Some(1));
    let retried = run(place.sweep("retry", "sweep").arg("--failed")).succeeded();
    assert!(
        retried.stdout.contains("6 tasks wait again"),
        "{}",
        retried.stdout
    );
    let done = run(&mut place.sweep("run", "sweep"));
    assert!(
        done.stderr
            .contains("7 done, 0 running, 2 failed, 0 waiting"),
        "{}",
        done.stderr
    );
}

#[test]
fn what_is_wrong_for_every_task_is_nobodys_failure() {
    let place = Place::new(PLAN);
    place.planned("sweep");
    let done = run(place.sweep("run", "sweep").args(["--device", "foo"]));
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let status = place.status("sweep");
    assert_eq!(
        (&status["failed"], &status["waiting"]),
        (&json!([]), &json!(8))
    );
}

#[test]
fn one_task_by_its_line() {
    let place = Place::new(PLAN);
    place.planned("sweep");
    run(place.sweep("run", "sweep").args(["--index", "2"])).succeeded();
    let status = place.status("sweep");
    assert_eq!(
        (status["done"].as_u64(), status["waiting"].as_u64()),
        (Some(1), Some(7))
    );
    let tokens = files(&place.path("sweep/results"));
    assert!(
        tokens
            .iter()
            .any(|name| name.ends_with("tokens_analysis.json")),
        "{tokens:?}"
    );
    let outside = run(place.sweep("run", "sweep").args(["--index", "8"]));
    assert_eq!(outside.code, Some(2), "{}", outside.stderr);
    assert!(outside.stderr.contains("has 8 tasks"), "{}", outside.stderr);
}

/// A plan of tasks that take a while.
fn longer() -> String {
    let seeds: Vec<String> = (0..3).map(|seed| seed.to_string()).collect();
    format!(
        r#"
        [defaults]
        context_length = 64
        nsamples = 12
        seed = [{}]
        [[model]]
        pretrained = "demo"
        [[model]]
        pretrained = "planted"
        text_file = "text.txt"
        context_length = 32
        [[experiment]]
        name = "existence-validation"
        [[experiment]]
        name = "intervention-analysis"
        calibration_nsamples = 4
        "#,
        seeds.join(", ")
    )
}

fn started(command: &mut Command) -> Child {
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("the program starts")
}

/// Numbers that look random.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

#[test]
#[cfg(target_os = "linux")]
fn killed_at_any_moment_it_ends_with_the_same_tables() {
    let place = Place::new(&longer());
    place.planned("whole");
    run(&mut place.sweep("run", "whole")).succeeded();
    let expected = place.merged("whole");
    assert!(expected.contains_key("layers.parquet") && expected.contains_key("layers.csv"));
    place.planned("killed");
    let mut noise = Noise(7);
    for _ in 0..20 {
        let mut child = started(&mut place.sweep("run", "killed"));
        thread::sleep(Duration::from_millis(20 + noise.below(400)));
        signal("KILL", child.id());
        child.wait().expect("gone");
    }
    run(&mut place.sweep("run", "killed")).succeeded();
    place.all_done_once("killed");
    assert!(place.merged("killed") == expected, "the tables differ");
}

#[test]
fn several_at_once_share_the_work() {
    let place = Place::new(&longer());
    let mut tables: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
    for (count, jobs) in [(1, "1"), (2, "1"), (4, "1"), (1, "3")] {
        let name = format!("sweep-{count}-{jobs}");
        place.planned(&name);
        let children: Vec<Child> = (0..count)
            .map(|_| started(place.sweep("run", &name).args(["--jobs", jobs])))
            .collect();
        for mut child in children {
            assert!(child.wait().expect("ends").success());
        }
        place.all_done_once(&name);
        let attempts = place.attempts(&name);
        assert!(
            attempts.values().all(|ends| ends.len() == 1),
            "{attempts:?}"
        );
        tables.push(place.merged(&name));
    }
    assert!(
        tables.windows(2).all(|pair| pair[0] == pair[1]),
        "the tables differ"
    );
}

/// Waits until somebody works on a task; returns the process.
fn worker(place: &Place, name: &str) -> u32 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        let status = place.status(name);
        if let Some(pid) = status["running"][0]["pid"].as_u64() {
            return u32::try_from(pid).expect("a process");
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nobody works");
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_gives_the_task_back() {
    let place = Place::new(&longer());
    place.planned("sweep");
    let mut child = started(&mut place.sweep("run", "sweep"));
    worker(&place, "sweep");
    signal("INT", child.id());
    assert_eq!(child.wait().expect("ends").code(), Some(3));
    let status = place.status("sweep");
    assert_eq!(status["running"], json!([]), "{status}");
    let results = files(&place.path("sweep/results"));
    assert!(
        results.iter().all(|name| !name.contains(".massact-")),
        "{results:?}"
    );
    run(&mut place.sweep("run", "sweep")).succeeded();
    place.all_done_once("sweep");
}

/// As when memory runs out: the system kills the process of a task.
#[test]
#[cfg(target_os = "linux")]
fn a_task_that_takes_its_process_with_it_is_named() {
    let place = Place::new(
        r#"
        [defaults]
        context_length = 512
        nsamples = 90
        [[model]]
        pretrained = "demo"
        [[experiment]]
        name = "intervention-analysis"
        dataset = "builtin"
        [[experiment]]
        name = "existence-validation"
        context_length = 16
        nsamples = 1
        "#,
    );
    let tasks = place.planned("sweep");
    let child = place
        .sweep("run", "sweep")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut killed = BTreeSet::new();
    while killed.len() < 3 {
        let process = worker(&place, "sweep");
        if killed.insert(process) {
            signal("KILL", process);
        }
        thread::sleep(Duration::from_millis(100));
    }
    let done = Done::of(child.wait_with_output().expect("ends"));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("died 3 times"), "{}", done.stderr);
    let status = place.status("sweep");
    assert_eq!(
        (status["done"].as_u64(), &status["failed"][0]["index"]),
        (Some(1), &json!(0))
    );
    assert_eq!(status["failed"][0]["id"], tasks[0]["id"]);
    let folder = Path::new("sweep/tasks").join(tasks[0]["id"].as_str().expect("a text"));
    assert_eq!(files(&place.path(folder.to_str().expect("UTF-8"))).len(), 4);
}

#[test]
fn one_page_about_all_of_it() {
    let place = Place::new(&PLAN.replace("\"demo\"", "\"./gone\""));
    place.planned("sweep");
    assert_eq!(run(&mut place.sweep("run", "sweep")).code, Some(1));
    let done = run(&mut place.sweep("report", "sweep")).succeeded();
    let path = place.path("sweep/report.html");
    assert_eq!(done.stdout.trim(), path.display().to_string());
    let page = fs::read_to_string(&path).expect("there");
    // A row for each choice of the settings that differ, with links to the runs' own pages.
    for part in ["Planted", "add_bos_token", "./gone", "set_to_zero"] {
        assert!(page.contains(part), "no {part}");
    }
    let links = page.matches("/report.html\"").count();
    assert_eq!(links, 4, "a link a run that is done");
    let start = page.find("href=\"results/").expect("a link") + "href=\"".len();
    let end = start + page[start..].find('"').expect("its end");
    assert!(place.path("sweep").join(&page[start..end]).is_file());
}

#[test]
fn folders_of_a_training_run_are_revisions() {
    let place = Place::new(
        r#"
        [[model]]
        pretrained = "runs"
        revisions = ["step1000", "checkpoint-2000"]
        [[experiment]]
        name = "existence-validation"
        text_file = "text.txt"
        context_length = 32
        nsamples = 2
        "#,
    );
    for revision in ["step1000", "checkpoint-2000"] {
        copy("planted-llama", &place.path("runs").join(revision));
    }
    place.planned("sweep");
    run(&mut place.sweep("run", "sweep")).succeeded();
    let merged = place.merged("sweep");
    let trajectories = String::from_utf8(merged["trajectories.csv"].clone()).expect("UTF-8");
    let mut steps: Vec<&str> = trajectories.lines().skip(1).collect();
    steps.dedup_by_key(|line| line.contains(",1000,"));
    assert_eq!(steps.len(), 2, "{trajectories}");
    assert!(
        trajectories.contains(",2000,checkpoint-2000,0,"),
        "{trajectories}"
    );
    // Two steps are too few for a curve.
    let fits = String::from_utf8(merged["fits.csv"].clone()).expect("UTF-8");
    assert!(fits.contains("of which a fit needs 6"), "{fits}");
    assert!(
        merged.contains_key("trajectories-runs.svg"),
        "{:?}",
        merged.keys()
    );
}

#[test]
fn the_papers_plan_and_what_it_would_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = massact([
        "reproduce",
        "--dry-run",
        "--models",
        "gpt2,google/gemma-3-1b-pt",
    ]);
    let done = run(command.current_dir(folder.path())).succeeded();
    for part in [
        "context_length = 1024",
        "calibration_nsamples = 100",
        "openai-community/gpt2",
        "12 tasks on 2 models",
        "hours on the CPU",
    ] {
        assert!(done.stdout.contains(part), "{}\nhas no {part}", done.stdout);
    }
    assert_eq!(files(folder.path()), [""; 0]);
    let unknown = run(&mut massact(["reproduce", "--dry-run", "--models", "gpt5"]));
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    // Without the network: everything is planned, and everything has failed, by name.
    let mut command = massact(["reproduce", "--models", "gpt2", "--dir", "out"]);
    let done = run(command.current_dir(folder.path()));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("6 of 6 tasks"), "{}", done.stderr);
    let out = folder.path().join("out");
    for name in [
        "manifest.jsonl",
        "plan.toml",
        "report.html",
        "merged/published.csv",
    ] {
        assert!(out.join(name).is_file(), "no {name}");
    }
}
