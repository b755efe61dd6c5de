//! What a sweep costs beside the bare commands, and what three experiments on one model cost when they
//! share a walk.
//!
//! `cargo bench --bench sweep` prints ratios of medians of interleaved repetitions. `MASSACT_BENCH_MODEL` and
//! `MASSACT_BENCH_TEXT` name another checkpoint and a text for the second part.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const REPETITIONS: usize = 5;

/// Small checkpoints of the first part.
const CHECKPOINTS: usize = 20;

const EXPERIMENTS: [&str; 3] = [
    "existence-validation",
    "tokens-analysis",
    "intervention-analysis",
];

fn main() {
    let place = tempfile::tempdir().expect("a folder");
    overhead(place.path());
    shared_walk(place.path());
}

fn massact(arguments: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_massact"))
        .args(arguments)
        .arg("--quiet")
        .env("CUDA_VISIBLE_DEVICES", "")
        .env("HF_HUB_OFFLINE", "1")
        .stdout(Stdio::null())
        .status();
    assert!(
        status.expect("the program starts").success(),
        "{arguments:?}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// Medians of both, which take turns; each gets a new folder.
fn both(place: &Path, bare: impl Fn(&Path), sweep: impl Fn(&Path)) -> (f64, f64) {
    let timed = |work: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir_in(place).expect("a folder");
        let start = Instant::now();
        work(folder.path());
        start.elapsed()
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        first.push(timed(&bare));
        second.push(timed(&sweep));
    }
    (median(&mut first), median(&mut second))
}

fn run_plan(plan: &Path, folder: &Path) {
    let sweep = folder.join("sweep");
    massact(&["sweep", "plan", text(plan), "--dir", text(&sweep)]);
    massact(&["sweep", "run", text(&sweep)]);
}

fn overhead(place: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints/planted-llama");
    let text_file = source.join("text.txt");
    let models: Vec<PathBuf> = (0..CHECKPOINTS)
        .map(|index| {
            let folder = place.join(format!("model-{index}"));
            fs::create_dir(&folder).expect("made");
            for name in [
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ] {
                fs::copy(source.join(name), folder.join(name)).expect("copied");
            }
            folder
        })
        .collect();
    let plan = place.join("overhead.toml");
    let mut plan_text = format!(
        "[defaults]\ncontext_length = 32\nnsamples = 50\ntext_file = {:?}\n",
        text(&text_file)
    );
    for model in &models {
        plan_text.push_str(&format!("[[model]]\npretrained = {:?}\n", text(model)));
    }
    plan_text.push_str("[[experiment]]\nname = \"existence-validation\"\n");
    fs::write(&plan, plan_text).expect("written");
    let bare = |folder: &Path| {
        for model in &models {
            massact(&[
                "existence-validation",
                text(model),
                "--context-length",
                "32",
                "--nsamples",
                "50",
                "--text-file",
                text(&text_file),
                "--save-dir",
                text(folder),
            ]);
        }
    };
    let (bare, sweep) = both(place, bare, |folder| run_plan(&plan, folder));
    println!(
        "{CHECKPOINTS} small checkpoints: commands {bare:.2} s, sweep {sweep:.2} s, ratio {:.2}",
        sweep / bare
    );
}

fn shared_walk(place: &Path) {
    let model = std::env::var("MASSACT_BENCH_MODEL").unwrap_or_else(|_| "demo".to_owned());
    let text_file = std::env::var("MASSACT_BENCH_TEXT").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md"),
        PathBuf::from,
    );
    // Perplexity on a short text: what is shared is the corpus.
    let whole = fs::read_to_string(&text_file).expect("a text");
    let short: String = whole.chars().take(4000).collect();
    let eval_file = place.join("short.txt");
    fs::write(&eval_file, short).expect("written");
    let eval = format!("short={}", text(&eval_file));
    let settings = [
        ("context-length", "256".to_owned()),
        ("nsamples", "24".to_owned()),
        ("text-file", text(&text_file).to_owned()),
    ];
    let own = [("calibration-nsamples", "24".to_owned()), ("eval", eval)];
    let of = |name: &str| {
        let own = own.iter().filter(|_| name == "intervention-analysis");
        settings.iter().chain(own).collect::<Vec<_>>()
    };
    let plan = place.join("shared.toml");
    let mut plan_text = format!("[[model]]\npretrained = {model:?}\n");
    for name in EXPERIMENTS {
        plan_text.push_str(&format!("[[experiment]]\nname = \"{name}\"\n"));
        for (key, value) in of(name) {
            let value = value
                .parse::<u64>()
                .map_or_else(|_| format!("{value:?}"), |n| n.to_string());
            plan_text.push_str(&format!("{} = {value}\n", key.replace('-', "_")));
        }
    }
    fs::write(&plan, plan_text).expect("written");
    let bare = |folder: &Path| {
        for name in EXPERIMENTS {
            let mut line = vec![name.to_owned(), model.clone()];
            for (key, value) in of(name) {
                line.push(format!("--{key}={value}"));
            }
            line.push(format!("--save-dir={}", text(folder)));
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            massact(&line);
        }
    };
    let (bare, sweep) = both(place, bare, |folder| run_plan(&plan, folder));
    println!(
        "three experiments on {model}: commands {bare:.2} s, sweep {sweep:.2} s, ratio {:.2}",
        sweep / bare
    );
}
