//! intervention-analysis through the real program, against transformers with hooks.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use massact::report::text::{PERPLEXITY_FILE, PerplexityText, perplexity_text, torch_row};
use serde_json::{Value, json};
use support::picture::assert_pictures;
use support::program::{Done, checkpoint, files, massact, only_run, read_json, run};
use support::reference::{self, Checkpoint, ExperimentRun, Interventions, assert_near};
use support::schema::assert_valid;

/// The contract's tolerance for perplexities; that of means follows the checkpoint's noise.
const PERPLEXITY: f64 = 1e-4;

/// The command on a planted checkpoint's own text, as the reference ran it.
fn command(known: &Checkpoint, bos: bool, save_dir: &Path) -> Command {
    let experiments = known.reference.experiments.as_ref().expect("experiments");
    let text = known.folder.join(&experiments.text_file);
    let mut command = massact(["intervention-analysis", "--json", "--pretrained"]);
    command
        .arg(&known.folder)
        .arg("--text-file")
        .arg(&text)
        .arg("--eval")
        .arg(format!("text={}", text.to_str().expect("UTF-8")))
        .args(["--context-length", &experiments.context_length.to_string()])
        .args(["--nsamples", &experiments.tokens_nsamples.to_string()])
        .args([
            "--calibration-nsamples",
            &experiments.calibration_nsamples.to_string(),
        ])
        .args(["--add-bos-token", &bos.to_string()])
        .arg("--save-dir")
        .arg(save_dir);
    command
}

fn runs(known: &Checkpoint) -> &[ExperimentRun] {
    &known
        .reference
        .experiments
        .as_ref()
        .expect("experiments")
        .runs
}

#[track_caller]
fn assert_perplexity(document: &Value, intervention: &str, theirs: f64, what: &str) {
    let ours = &document["perplexity"][intervention]["text"];
    let ours = ours
        .as_f64()
        .unwrap_or_else(|| panic!("{what}, {intervention}: {ours}"));
    assert!(
        (ours - theirs).abs() <= PERPLEXITY * theirs,
        "{what}, {intervention}: {ours} instead of {theirs}"
    );
}

#[test]
fn planted_checkpoints() {
    let mut seen = BTreeSet::new();
    for known in reference::planted() {
        for expected in runs(&known) {
            let what = format!("{}, BOS {}", known.name, expected.add_bos_token);
            let temp = tempfile::tempdir().expect("a folder");
            let mut command = command(&known, expected.add_bos_token, temp.path());
            let done = run(&mut command).succeeded();
            let document = done.json();
            agrees(&known, &document, &expected.intervention_analysis, &what);
            let folder = only_run(temp.path());
            assert_eq!(
                read_json(&folder.join("intervention_analysis.json")),
                document
            );
            assert_valid("run", &read_json(&folder.join("run.json")));
            assert_pictures(&folder, "perplexity_ratio");
            perplexity_file_agrees(&folder, &document);
            logs_agree(&known, expected, &folder, &document);
            memory_was_told(&done, &document);

            let differs = expected.intervention_analysis_reference.is_some();
            let noted = document["reference_differs"] == json!(["dimensions"]);
            assert_eq!(noted, differs, "{what}");
            if document["walks"]["again"] == json!(1) {
                seen.insert("a window found out too late");
            }
            if differs {
                seen.insert("the reference differs");
            }
            if document["missing_dimensions"] != json!([]) {
                seen.insert("a missing dimension");
            }
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

fn agrees(known: &Checkpoint, document: &Value, expected: &Interventions, what: &str) {
    assert_valid("intervention_analysis", document);
    assert_eq!(document["first_layer"], expected.first_layer, "{what}");
    assert_eq!(document["dimensions"], json!(expected.dimensions), "{what}");
    assert_eq!(
        document["missing_dimensions"],
        json!(expected.missing_dimensions),
        "{what}"
    );
    assert_eq!(
        document["layers_written"],
        json!([expected.first_layer]),
        "{what}"
    );
    let names: BTreeSet<String> =
        serde_json::from_value(document["interventions"].clone()).expect("names");
    assert!(
        names.iter().eq(expected.perplexity.keys()),
        "{what}: {names:?}"
    );
    assert_eq!(document["interventions"][0], "original");
    for (intervention, perplexity) in &expected.perplexity {
        assert_perplexity(document, intervention, perplexity["text"], what);
    }
    assert_eq!(
        document["evaluation"][0]["windows"], expected.windows["text"],
        "{what}"
    );

    let means = document["means"].as_array().expect("a list");
    assert_eq!(means.len(), expected.means.len(), "{what}");
    for theirs in &expected.means {
        let at = format!("{what}, {theirs:?}");
        let ours = means.iter().find(|ours| {
            ours["layer"] == theirs.layer
                && ours["starting"] == theirs.starting
                && ours["dimension"] == theirs.dimension
        });
        let ours = ours.expect(&at);
        assert_eq!(ours["count"], theirs.count, "{at}");
        // A dimension that is not massive itself lies beside ones that are.
        if theirs.mean.abs() > 100.0 {
            assert_near(&ours["mean"], theirs.mean, known.reference.noise.top, &at);
        }
    }

    for (intervention, sets) in document["ratios"].as_object().expect("ratios") {
        let ratio = &sets["text"];
        let perplexity = |name: &str| document["perplexity"][name]["text"].as_f64().expect("some");
        let exact = perplexity(intervention) / perplexity("original");
        let [value, low, high] = ["ratio", "low", "high"].map(|k| ratio[k].as_f64().expect(k));
        assert!((value / exact - 1.0).abs() < 1e-9, "{what}, {intervention}");
        assert!(
            low <= value && value <= high,
            "{what}, {intervention}: {ratio}"
        );
        let class = match value {
            value if value < 1.5 => "none",
            value if value < 100.0 => "medium",
            _ => "high",
        };
        assert_eq!(ratio["class"], class, "{what}, {intervention}");
    }
    assert_eq!(
        document["impact"]["text"],
        document["ratios"]["set_to_zero"]["text"]["ratio"]
    );
}

fn perplexity_file_agrees(folder: &Path, document: &Value) {
    let names = document["interventions"].as_array().expect("a list");
    let interventions = names.iter().map(|name| {
        let name = name.as_str().expect("a name").to_owned();
        let perplexity = document["perplexity"][&name]["text"]
            .as_f64()
            .expect("some");
        (name, vec![("text".to_owned(), perplexity)])
    });
    let expected = perplexity_text(&PerplexityText {
        interventions: interventions.collect(),
        missing_dimensions: serde_json::from_value(document["missing_dimensions"].clone())
            .expect("numbers"),
    });
    let text = std::fs::read_to_string(folder.join(PERPLEXITY_FILE)).expect("the file");
    assert_eq!(text, expected);
}

/// The estimate comes before the work: one line a kind of walk.
fn memory_was_told(done: &Done, document: &Value) {
    let lines: Vec<&str> = done
        .stderr
        .lines()
        .filter(|l| l.contains("of memory"))
        .collect();
    let again = document["walks"]["again"].as_u64().expect("a number");
    let kinds = if again > 0 { 3 } else { 2 };
    assert_eq!(lines.len(), kinds, "{}", done.stderr);
    let variants = document["interventions"].as_array().expect("a list").len() - 1;
    let expected = format!("{variants} variant");
    assert!(
        lines[1].contains(&expected) && lines[1].contains("one walk"),
        "{}",
        lines[1]
    );
}

/// A line of a log.
#[derive(Debug)]
struct Line {
    value: f64,
    layer: usize,
    positions: Vec<usize>,
    dimension: usize,
    original: String,
}

fn lines(folder: &Path, name: &str) -> Vec<Line> {
    let path = folder.join("intervention_analysis").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    text.lines()
        .map(|line| {
            let between = |from: &str, to: &str| {
                let start = line.find(from).expect(from) + from.len();
                let length = line[start..].find(to).expect(to);
                line[start..start + length].to_owned()
            };
            let positions = between("token_dim [", "] loc");
            Line {
                value: between("activations to ", " in layer")
                    .parse()
                    .expect("a number"),
                layer: between("in layer ", " token").parse().expect("a number"),
                positions: positions
                    .split(", ")
                    .map(|p| p.parse().expect("a number"))
                    .collect(),
                dimension: between(" loc ", ". ").parse().expect("a number"),
                original: line
                    .split_once("Original Value: ")
                    .expect("a value")
                    .1
                    .to_owned(),
            }
        })
        .collect()
}

/// The first window's lines hold the values that capture finds at the layer's output, and those of
/// set_to_mean the means.
fn logs_agree(known: &Checkpoint, expected: &ExperimentRun, folder: &Path, document: &Value) {
    let temp = tempfile::tempdir().expect("a folder");
    let ids: Vec<String> = expected.first_window.iter().map(u32::to_string).collect();
    let mut capture = massact(["capture", "--raw", "--quiet", "--pretrained"]);
    capture
        .arg(&known.folder)
        .args(["--token-ids", &ids.join(",")]);
    run(capture.arg("--save-dir").arg(temp.path())).succeeded();
    let tensors = support::tensors::read(&only_run(temp.path()).join("capture.safetensors"));
    let captured = read_json(&only_run(temp.path()).join("capture.json"));
    let own_first = captured["sequences"][0]["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .find_map(|layer| {
            layer["massive"]
                .as_array()
                .filter(|massive| !massive.is_empty())
        })
        .expect("a massive layer");
    let positions: BTreeSet<usize> = own_first
        .iter()
        .filter_map(|entry| entry["position"].as_u64())
        .map(|position| position as usize)
        .collect();
    let layer = expected.intervention_analysis.first_layer;
    let hidden = &tensors[&format!("layer_output.{layer}.0")];
    let dimensions = &expected.intervention_analysis.dimensions;
    for (group, starting) in [("startingtoken", true), ("nonstartingtoken", false)] {
        let own: Vec<usize> = positions
            .iter()
            .copied()
            .filter(|p| (*p == 0) == starting)
            .collect();
        if own.is_empty() {
            continue;
        }
        let log = lines(folder, &format!("set_to_zero_ppl/text_{group}.txt"));
        for (line, dimension) in log.iter().zip(dimensions) {
            assert_eq!(
                (line.value, line.layer, line.dimension),
                (0.0, layer, *dimension)
            );
            assert_eq!(line.positions, own);
            let width = hidden.shape[1];
            let values: Vec<f64> = own
                .iter()
                .map(|position| f64::from(hidden.values[position * width + dimension]))
                .collect();
            // Rows of another product round differently: the digits shown may differ in the last.
            if line.original != torch_row(&values) {
                let shown = line
                    .original
                    .trim_matches(|c: char| !c.is_ascii_digit() && c != '-');
                let shown = shown
                    .split(", ")
                    .map(|v| v.trim().parse::<f64>().expect("a number"));
                for (shown, value) in shown.zip(&values) {
                    assert!(
                        (shown - value).abs() <= 1e-3 + 1e-4 * value.abs(),
                        "{line:?}"
                    );
                }
            }
        }
        for mean in document["means"].as_array().expect("a list") {
            if mean["starting"] == starting {
                let name = format!("set_to_mean_{}_ppl/text_{group}.txt", mean["layer"]);
                let log = lines(folder, &name);
                let mut own = log
                    .iter()
                    .filter(|line| mean["dimension"] == line.dimension);
                assert!(own.all(|line| mean["mean"] == line.value && line.layer == layer));
            }
        }
    }
    // A line for each window of the group and each dimension.
    let report = &document["evaluation"][0];
    for (group, windows) in [
        ("startingtoken", "windows_starting"),
        ("nonstartingtoken", "windows_nonstarting"),
    ] {
        let windows = report[windows].as_u64().expect("a count") as usize;
        if windows > 0 {
            let log = lines(folder, &format!("set_to_zero_ppl/text_{group}.txt"));
            assert_eq!(log.len(), windows * dimensions.len());
        }
    }
}

/// The published program's dimensions, where they are others, and its order of the means.
#[test]
fn compat_reference() {
    let mut differed = false;
    for known in reference::planted() {
        for expected in runs(&known) {
            let temp = tempfile::tempdir().expect("a folder");
            let mut command = command(&known, expected.add_bos_token, temp.path());
            let document = run(command.args(["--compat", "reference"]))
                .succeeded()
                .json();
            let what = format!("{}, BOS {}", known.name, expected.add_bos_token);
            let other = expected.intervention_analysis_reference.as_ref();
            differed |= other.is_some();
            let interventions = other.unwrap_or(&expected.intervention_analysis);
            agrees(&known, &document, interventions, &what);
            assert_eq!(document["compat"], "reference");
            // The first mean is that of the first calibration window with a massive layer.
            let mut sequences = expected.tokens_analysis.sequences.iter();
            let first = sequences.find_map(|sequence| sequence.layers.first());
            let first = format!("set_to_mean_{}", first.expect("a massive layer").layer);
            assert_eq!(document["interventions"][2], first.as_str(), "{what}");
            perplexity_file_agrees(&only_run(temp.path()), &document);
        }
    }
    assert!(differed);
}

#[test]
fn other_layers_constants_and_noise() {
    for known in reference::planted() {
        for (index, expected) in runs(&known).iter().enumerate() {
            for (which, constants) in expected.constants.iter().enumerate() {
                // Every combination once is enough.
                if (index + which) % 2 == 1 {
                    continue;
                }
                let listed: Vec<String> = constants.layers.iter().map(usize::to_string).collect();
                let layers = if which == 0 {
                    "all".to_owned()
                } else {
                    listed.join(",")
                };
                let temp = tempfile::tempdir().expect("a folder");
                let mut command = command(&known, expected.add_bos_token, temp.path());
                command.args(["--layers", &layers, "--set-to", "-50.5", "--noise", "0.75"]);
                let document = run(&mut command).succeeded().json();
                assert_valid("intervention_analysis", &document);
                assert_eq!(document["layers_written"], json!(constants.layers));
                assert_eq!(constants.perplexity.len(), 3);
                for (intervention, perplexity) in &constants.perplexity {
                    let what = format!("{}, layers {layers}", known.name);
                    assert_perplexity(&document, intervention, perplexity["text"], &what);
                }
                let log = lines(
                    &only_run(temp.path()),
                    "set_to_-50.5_ppl/text_nonstartingtoken.txt",
                );
                let written: BTreeSet<usize> = log.iter().map(|line| line.layer).collect();
                assert!(written.iter().eq(&constants.layers));
                assert!(log.iter().all(|line| line.value == -50.5));
                // Noise has a factor of its own for every value, and a line.
                let noisy = lines(
                    &only_run(temp.path()),
                    "noise_0.75_ppl/text_nonstartingtoken.txt",
                );
                let values: usize = log.iter().map(|line| line.positions.len()).sum();
                assert_eq!(noisy.len(), values);
                assert!(noisy.iter().all(|line| line.positions.len() == 1));
            }
        }
    }
}

/// A budget that lets only a part of the windows in changes how often the model is read, and no
/// bit of any result.
#[test]
fn parts_give_the_bits_of_the_whole() {
    let known = reference::load("planted-falcon");
    let result = |budget: &str| {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = command(&known, true, temp.path());
        let done = run(command.args(["--memory-budget", budget])).succeeded();
        let mut document = done.json();
        let walks = document["walks"].take();
        (document, walks, files(temp.path()))
    };
    let (whole, once, _) = result("1GB");
    assert_eq!(once, json!({"corpus": 1, "evaluation": 1, "again": 1}));
    let (parts, more, _) = result("4.5MB");
    assert!(more["evaluation"].as_u64() > Some(1), "{more}");
    assert_eq!(whole, parts);
}

#[test]
fn what_cannot_fit_is_refused_before_anything_is_read() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact([
        "intervention-analysis",
        "--memory-budget",
        "1MB",
        "--save-dir",
    ]);
    let done = run(command
        .arg(temp.path())
        .args(["--text-file", "/no/such/file"]));
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("1.0 MB may be used"),
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("raise --memory-budget"),
        "{}",
        done.stderr
    );
    assert_eq!(files(temp.path()), [""; 0]);
}

#[test]
fn a_model_without_massive_activations() {
    for compat in ["none", "reference"] {
        let temp = tempfile::tempdir().expect("a folder");
        let known = reference::load("planted-llama");
        let text = known.folder.join("text.txt");
        let mut command = massact(["intervention-analysis", "--pretrained"]);
        command
            .arg(checkpoint("planted-llama"))
            .args([
                "--abs-threshold",
                "1e6",
                "--context-length",
                "32",
                "--compat",
                compat,
            ])
            .arg("--text-file")
            .arg(&text)
            .arg("--eval")
            .arg(format!("mine={}", text.to_str().expect("UTF-8")))
            .arg("--save-dir")
            .arg(temp.path());
        let done = run(&mut command).succeeded();
        assert!(
            done.stdout.contains("no massive activations"),
            "{}",
            done.stdout
        );
        let folder = only_run(temp.path());
        let document = read_json(&folder.join("intervention_analysis.json"));
        assert_valid("intervention_analysis", &document);
        assert_eq!(document["first_layer"], Value::Null);
        let interventions = match compat {
            "none" => json!(["original"]),
            // The published program measures once more.
            _ => json!(["original", "set_to_zero"]),
        };
        assert_eq!(document["interventions"], interventions);
        let expected = runs(&known)
            .iter()
            .find(|run| run.add_bos_token)
            .expect("with BOS");
        let theirs = expected.intervention_analysis.perplexity["original"]["text"];
        let ours = document["perplexity"]["original"]["mine"]
            .as_f64()
            .expect("a number");
        assert!(
            (ours - theirs).abs() <= PERPLEXITY * theirs,
            "{ours} instead of {theirs}"
        );
        let logs = files(&folder.join("intervention_analysis"));
        assert_eq!(logs, ["results_ppl.txt"]);
    }
}

#[test]
fn the_demo_runs_offline_without_arguments() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(["intervention_analysis", "--save-dir"]);
    let done = run(command.arg(temp.path())).succeeded();
    assert!(done.stdout.contains("set_to_zero"), "{}", done.stdout);
    let folder = only_run(temp.path());
    let document = read_json(&folder.join("intervention_analysis.json"));
    assert_valid("intervention_analysis", &document);
    assert_eq!(document["evaluation"][0]["name"], "builtin");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("the page");
    assert!(page.contains("set_to_mean_"), "the page has the table");
}

#[test]
fn wrong_usage() {
    for (arguments, says) in [
        (&["--layers", "0,9"][..], "the model has 6 layers"),
        (&["--layers", "second"], "first, all"),
        (&["--set-to", "nan"], "float32"),
        (&["--noise", "0"], "above 0"),
        (&["--noise", "-1"], "above 0"),
        (&["--eval", "=x"], "NAME=FILE"),
        (&["--eval", "../x=y"], "may not be a path"),
        (&["--eval", "a=x", "--eval", "a=y"], "two evaluation sets"),
        (&["--memory-budget", "much"], "8GB"),
        (&["--calibration-nsamples", "0"], "positive"),
    ] {
        let temp = tempfile::tempdir().expect("a folder");
        let mut command = massact(["intervention-analysis", "--save-dir"]);
        let done = run(command.arg(temp.path()).args(arguments));
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{arguments:?}: {}", done.stderr);
        assert_eq!(files(temp.path()), [""; 0], "{arguments:?}");
    }
}

/// wikitext, c4 and pg19 bring the published windows, whatever the file.
#[test]
fn the_name_of_a_set_chooses_its_windows() {
    let known = reference::load("planted-gpt2");
    let text = known.folder.join("text.txt");
    let text = text.to_str().expect("UTF-8");
    let temp = tempfile::tempdir().expect("a folder");
    let mut command = massact(["intervention-analysis", "--json", "--quiet", "--pretrained"]);
    command
        .arg(&known.folder)
        .args(["--text-file", text, "--context-length", "32"])
        .args(["--nsamples", "2", "--calibration-nsamples", "3"]);
    for name in ["wikitext", "c4", "pg19", "other"] {
        command.arg("--eval").arg(format!("{name}={text}"));
    }
    let document = run(command.arg("--save-dir").arg(temp.path()))
        .succeeded()
        .json();
    let sets: Vec<(&str, u64)> = document["evaluation"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|set| {
            (
                set["name"].as_str().expect("a name"),
                set["windows"].as_u64().expect("some"),
            )
        })
        .collect();
    let all = runs(&known)[0].intervention_analysis.windows["text"] as u64;
    assert_eq!(
        sets,
        [
            ("wikitext", all),
            ("c4", 100),
            ("pg19", 100),
            ("other", all)
        ]
    );
    let perplexity = |set: &str| document["perplexity"]["set_to_zero"][set].as_f64();
    assert_eq!(perplexity("c4"), perplexity("pg19"));
    assert_eq!(perplexity("wikitext"), perplexity("other"));
    assert_ne!(perplexity("c4"), perplexity("other"));
    let logs = files(&only_run(temp.path()).join("intervention_analysis/set_to_zero_ppl"));
    assert!(
        logs.contains(&"pg19_startingtoken.txt".to_owned()),
        "{logs:?}"
    );
}

#[test]
fn bad_evaluation_texts() {
    let temp = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = temp.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let cases = [
        ("mine=/no/such/file.txt".to_owned(), "/no/such/file.txt"),
        (format!("mine={}", write("empty.txt", b"")), "empty.txt"),
        (
            format!("mine={}", write("latin1.txt", b"caf\xe9 ")),
            "UTF-8",
        ),
        (
            format!("mine={}", write("short.txt", b"Seven letters.")),
            "evaluation set mine: text: ",
        ),
        (
            format!("mine={}", write("bad.jsonl", b"{\"text\": 3}\n")),
            "bad.jsonl: row 1",
        ),
        ("wikitext".to_owned(), "HF_HUB_OFFLINE"),
    ];
    for (eval, says) in &cases {
        let out = temp.path().join("out");
        let mut command = massact(["intervention-analysis", "--quiet", "--eval", eval]);
        let done = run(command.arg("--save-dir").arg(&out));
        assert_eq!(done.code, Some(1), "{eval}: {}", done.stderr);
        assert_eq!(done.stderr.lines().count(), 1, "{eval}: {}", done.stderr);
        assert!(done.stderr.contains(says), "{eval}: {}", done.stderr);
        assert!(!out.exists(), "{eval}");
    }
}
