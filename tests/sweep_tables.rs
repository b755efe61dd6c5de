//! Tables of a sweep, from the folders of real runs; and the fit of trajectories, beside the best that
//! scipy finds.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use massact::sweep::{Finished, Task, merge, published, trajectory};
use serde::Deserialize;
use serde_json::Value;
use support::csv::cells;
use support::program::{massact, only_run, read_json, run};

const EXPERIMENTS: [&str; 3] = [
    "existence-validation",
    "tokens-analysis",
    "intervention-analysis",
];

/// The three experiments on the demo, each in a folder of its own.
fn runs(place: &Path) -> Vec<Finished> {
    EXPERIMENTS
        .iter()
        .map(|command| {
            let save_dir = place.join(command);
            let mut program = massact([*command, "--quiet", "--context-length", "64"]);
            program
                .args(["--nsamples", "3", "--save-dir"])
                .arg(&save_dir);
            if *command == "intervention-analysis" {
                program.args(["--calibration-nsamples", "3"]);
            }
            run(&mut program).succeeded();
            finished(command, only_run(&save_dir))
        })
        .collect()
}

fn finished(command: &str, folder: PathBuf) -> Finished {
    let task = Task {
        id: command.to_owned(),
        command: command.to_owned(),
        arguments: Vec::new(),
        model: "the demo".to_owned(),
        revision: None,
        step: None,
        settings: serde_json::Map::new(),
    };
    Finished { task, folder }
}

/// Cells of a table whose texts hold neither line breaks nor, but for settings, commas.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).expect("there");
    text.lines().skip(1).map(cells).collect()
}

fn number(cell: &str) -> f64 {
    cell.parse()
        .unwrap_or_else(|_| panic!("{cell:?} is no number"))
}

#[test]
fn tables_hold_what_the_runs_found() {
    let place = tempfile::tempdir().expect("a folder");
    let finished = runs(place.path());
    merge::write(place.path(), &finished).expect("written");
    let merged = place.path().join(merge::FOLDER);

    let document = read_json(&finished[0].folder.join("existence_validation.json"));
    let layers = document["layers"].as_array().expect("layers");
    let found = rows(&merged.join("layers.csv"));
    assert_eq!(found.len(), layers.len());
    for (row, layer) in found.iter().zip(layers) {
        assert_eq!((row[0].as_str(), row[1].as_str()), ("the demo", ""));
        for (cell, key) in [(4, "top1_mean"), (5, "median_mean"), (6, "ratio")] {
            assert_eq!(number(&row[cell]), layer[key].as_f64().expect("a number"));
        }
        assert_eq!(row[7], layer["massive"].to_string());
        for (cell, key) in [(8, "dimension"), (9, "position")] {
            assert_eq!(row[cell], layer["top"][0][key].to_string());
        }
    }

    let document = read_json(&finished[1].folder.join("massive_dimensions.json"));
    let dimensions = document["massive_dimensions"]
        .as_array()
        .expect("dimensions");
    let found = rows(&merged.join("dimensions.csv"));
    assert!(!found.is_empty());
    assert_eq!(found.len(), dimensions.len());
    for (row, dimension) in found.iter().zip(dimensions) {
        assert_eq!(row[4], dimension["dimension"].to_string());
        assert_eq!(
            number(&row[7]),
            dimension["max"].as_f64().expect("a number")
        );
        assert_eq!(row[11], dimension["positions"].to_string());
    }

    let document = read_json(&finished[2].folder.join("intervention_analysis.json"));
    let found = rows(&merged.join("interventions.csv"));
    let names: Vec<&str> = found.iter().map(|row| row[3].as_str()).collect();
    assert_eq!(names, ["original", "set_to_zero", "set_to_mean_2"]);
    for row in &found {
        let (intervention, set) = (&row[3], &row[4]);
        let perplexity = &document["perplexity"][intervention][set];
        assert_eq!(number(&row[5]), perplexity.as_f64().expect("a number"));
        let ratio = &document["ratios"][intervention][set];
        for (cell, key) in [(6, "ratio"), (7, "low"), (8, "high")] {
            assert_eq!(row[cell].parse().ok(), ratio[key].as_f64(), "{row:?}");
        }
        assert_eq!(row[9], ratio["class"].as_str().unwrap_or_default());
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// The same tasks, run again elsewhere at another time on a copy of the text: the same bytes.
#[test]
fn the_same_bytes_wherever_and_whenever() {
    let merged = |finished: &[Finished], place: &Path| -> Vec<Vec<u8>> {
        let written = merge::write(place, finished).expect("written");
        written
            .iter()
            .map(|path| fs::read(path).expect("there"))
            .collect()
    };
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("there");
    let of = |place: &Path| {
        let (text_file, save_dir) = (place.join("text.txt"), place.join("out"));
        fs::write(&text_file, &text).expect("written");
        let mut program = massact(["existence-validation", "--quiet", "--context-length", "64"]);
        program.arg("--text-file").arg(&text_file);
        program.arg("--save-dir").arg(&save_dir);
        run(&mut program).succeeded();
        vec![finished(EXPERIMENTS[0], only_run(&save_dir))]
    };
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let first = of(one.path());
    let expected = merged(&first, one.path());
    assert_eq!(merged(&of(other.path()), other.path()), expected);
    let csv = String::from_utf8(expected[1].clone()).expect("UTF-8");
    let folder = one.path().display().to_string();
    assert!(!csv.contains(&folder), "{csv}");
    // A later merge of fewer tasks replaces the tables.
    let moved = other.path().join("moved");
    copy(&first[0].folder, &moved);
    let moved = [finished(EXPERIMENTS[0], moved)];
    assert_eq!(merged(&moved, other.path()), expected);
    assert_ne!(merged(&[], other.path()), expected);
}

/// The documented columns of a table are its columns, in order.
#[test]
fn columns_are_documented() {
    let place = tempfile::tempdir().expect("a folder");
    merge::write(place.path(), &[]).expect("written");
    let comparison = published::Comparison::default();
    let merged = place.path().join(merge::FOLDER);
    let more = published::long_table(&comparison).write(&merged, "folder");
    more.expect("written");
    let mut tables = 0;
    for section in include_str!("../docs/tables.md").split("\n## ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        let Ok(csv) = fs::read_to_string(merged.join(format!("{name}.csv"))) else {
            continue;
        };
        tables += 1;
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.filter_map(|line| line.split('|').nth(1));
        let names: Vec<&str> = cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect();
        assert_eq!(
            names.join(","),
            csv.lines().next().unwrap_or_default(),
            "{name}"
        );
    }
    assert_eq!(tables, fs::read_dir(&merged).expect("there").count() / 2);
}

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    steps: Vec<f64>,
    values: Vec<f64>,
    /// The least residual sum of squares that scipy finds.
    rss: f64,
    r2: f64,
}

#[test]
fn fits_are_as_good_as_scipys() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fits_reference.json");
    let reference: Value = read_json(&path);
    let reference: Reference = serde_json::from_value(reference).expect("cases");
    assert_eq!(reference.cases.len(), 11);
    for case in reference.cases {
        let points: Vec<(f64, f64)> = case
            .steps
            .iter()
            .copied()
            .zip(case.values.iter().copied())
            .collect();
        let found = trajectory::fit::fit(&points).expect(&case.name);
        let rss: f64 = points
            .iter()
            .map(|(step, value)| (value - found.curve.at(*step)).powi(2))
            .sum();
        let total = case.rss / (1.0 - case.r2);
        println!(
            "{}: {} of scipy's {}, r2 {}",
            case.name, rss, case.rss, found.r2
        );
        // What rounding leaves of an exact fit is no difference.
        assert!(
            rss <= case.rss * 1.0001 + 1e-9 * total,
            "{}: {found:?}",
            case.name
        );
        assert!(
            (found.r2 - (1.0 - rss / total)).abs() < 1e-6,
            "{}: {found:?}",
            case.name
        );
        assert!(found.curve.gamma > 0.0 && found.curve.t0 > 0.0 && found.curve.lambda > 0.0);
    }
}

/// An adapter of one column and one row on the first matrix of queries.
fn adapter(folder: &Path, value: f32) {
    fs::create_dir_all(folder).expect("made");
    let settings = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["layers.0.self_attn.q_proj"]}"#;
    fs::write(folder.join("adapter_config.json"), settings).expect("written");
    let module = "base_model.model.model.layers.0.self_attn.q_proj";
    let header = format!(
        r#"{{"{module}.lora_A.weight":{{"dtype":"F32","shape":[1,24],"data_offsets":[0,96]}},"{module}.lora_B.weight":{{"dtype":"F32","shape":[24,1],"data_offsets":[96,192]}}}}"#
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(value.to_le_bytes().repeat(48));
    fs::write(folder.join("adapter_model.safetensors"), bytes).expect("written");
}

/// The tables and the page call a model with an adapter what its run calls it.
#[test]
fn adapters_of_one_base_are_told_apart() {
    let place = tempfile::tempdir().expect("a folder");
    adapter(&place.path().join("one"), 0.1);
    adapter(&place.path().join("two"), 0.2);
    let base = support::program::checkpoint("planted-llama");
    let model = format!("[[model]]\npretrained = \"{}\"\n", base.display());
    let plan = |models: &str| {
        let text = format!(
            "[defaults]\ncontext_length = 8\nnsamples = 1\ntext_file = \"t.txt\"\n{models}\n[[experiment]]\nname = \"existence-validation\"\n"
        );
        fs::write(place.path().join("plan.toml"), text).expect("written");
        let mut program = massact(["sweep", "plan"]);
        program.arg(place.path().join("plan.toml")).arg("--dir");
        run(program.arg(place.path().join("sweep")))
    };
    fs::copy(base.join("text.txt"), place.path().join("t.txt")).expect("copied");
    // One label for two.
    let labelled = |adapter: &str| format!("{model}label = \"L\"\nadapter = \"{adapter}\"\n");
    let refused = plan(&format!("{}{}", labelled("one"), labelled("two")));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("label `L`"), "{}", refused.stderr);

    plan(&format!("{model}\n{model}adapter = [\"one\", \"two\"]\n")).succeeded();
    let sweep = place.path().join("sweep");
    for command in ["run", "merge", "report"] {
        run(massact(["sweep", command]).arg(&sweep)).succeeded();
    }
    let found = rows(&sweep.join("merged/layers.csv"));
    let mut models: Vec<&str> = found.iter().map(|row| row[0].as_str()).collect();
    models.dedup();
    let plain = base.display().to_string();
    assert_eq!(
        models,
        [&plain, "planted-llama + one", "planted-llama + two"]
    );
    let page = fs::read_to_string(sweep.join("report.html")).expect("there");
    for model in &models[1..] {
        assert!(page.contains(&model.to_string()), "{model}");
    }
    let runs = fs::read_dir(sweep.join("results")).expect("results");
    let folders = runs.flat_map(|it| fs::read_dir(it.expect("one").path()).expect("runs"));
    let mut labels: Vec<String> = folders
        .filter_map(|it| {
            read_json(&it.expect("a run").path().join("run.json"))["model"]["label"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    labels.sort();
    assert_eq!(labels, models[1..]);
}
