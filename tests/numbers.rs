//! How exact the numbers are, and that nothing but the input changes them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use massact::model::families::FAMILIES;
use safetensors::SafeTensors;
use serde_json::Value;
use support::program::{checkpoint, files, massact, only_run, read_json, run};
use support::{reference, tensors};

/// How far values of a layer's output are from float64.
struct Layer {
    /// The largest value.
    size: f64,
    theirs: Distance,
    ours: Distance,
}

#[derive(Debug, Clone, Copy)]
struct Distance {
    largest: f64,
    /// Root of the mean square.
    rms: f64,
}

impl Distance {
    fn of(values: impl Iterator<Item = f64>, truth: &[f64]) -> Self {
        let distances: Vec<f64> = values
            .zip(truth)
            .map(|(value, truth)| (value - truth).abs())
            .collect();
        assert_eq!(distances.len(), truth.len());
        let squares: f64 = distances.iter().map(|distance| distance * distance).sum();
        Self {
            largest: distances.iter().copied().fold(0.0, f64::max),
            rms: (squares / distances.len() as f64).sqrt(),
        }
    }
}

/// `NAME.float64` or `NAME.float32` of tests/float64.safetensors, a row a layer.
fn rows(file: &SafeTensors<'_>, name: &str) -> Vec<Vec<f64>> {
    let tensor = file
        .tensor(name)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let width = tensor.shape()[1] * tensor.dtype().bitsize() / 8;
    let number = |bytes: &[u8]| match bytes.len() {
        4 => f64::from(f32::from_le_bytes(bytes.try_into().expect("four"))),
        _ => f64::from_le_bytes(bytes.try_into().expect("eight")),
    };
    let size = tensor.dtype().bitsize() / 8;
    let row = |row: &[u8]| row.chunks(size).map(number).collect();
    tensor.data().chunks(width).map(row).collect()
}

/// The layers of a checkpoint, whose longest sequence the program runs.
fn layers(name: &str, file: &SafeTensors<'_>) -> Vec<Layer> {
    let checkpoint = reference::load(name);
    let sequences = &checkpoint.reference.sequences;
    // The first of the longest, as in tools/make_float64.py.
    let length = |index: &usize| (sequences[*index].token_ids.len(), usize::MAX - index);
    let longest = (0..sequences.len()).max_by_key(length).expect("a sequence");
    let out = tempfile::tempdir().expect("a folder");
    let mut command = massact(["capture", "--quiet", "--raw", "--sites", "layer_output"]);
    command
        .arg("--pretrained")
        .arg(&checkpoint.folder)
        .args(["--token-ids", &sequences[longest].argument(), "--save-dir"])
        .arg(out.path());
    run(&mut command).succeeded();
    let ours = tensors::read(&only_run(out.path()).join("capture.safetensors"));
    let truth = rows(file, &format!("{name}.float64"));
    let theirs = rows(file, &format!("{name}.float32"));
    let layers = truth.into_iter().zip(theirs).enumerate();
    layers
        .map(|(layer, (truth, theirs))| {
            let ours = &ours[&format!("layer_output.{layer}.0")].values;
            let places = (0..truth.len()).map(|index| index * ours.len() / truth.len());
            Layer {
                size: truth.iter().map(|value| value.abs()).fold(0.0, f64::max),
                theirs: Distance::of(theirs.into_iter(), &truth),
                ours: Distance::of(places.map(|place| f64::from(ours[place])), &truth),
            }
        })
        .collect()
}

/// The rule of flash-attention's tests: a float32 program is allowed twice the error that the reference's
/// float32 has itself, both against float64. For every layer of every checkpoint that is said of the root mean
/// square of 64 values. The largest error of a checkpoint, which scatters more with so few values, may be three
/// times theirs. One rounding to float32 comes on top, since the reference may be exact where there is little to
/// compute.
#[test]
fn at_most_twice_the_error_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/float64.safetensors");
    let bytes = fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let rounding = f64::from(f32::EPSILON);
    let mut found = Vec::new();
    let mut ratios = Vec::new();
    let mut families = BTreeSet::new();
    for checkpoint in reference::all() {
        let name = &checkpoint.name;
        if !FAMILIES
            .iter()
            .any(|family| family.model_type == checkpoint.model_type)
        {
            continue;
        }
        families.insert(checkpoint.model_type.clone());
        // A wrapper that transformers opens only with a library for images; gemma3n-text has its decoder.
        if name == "gemma3n" {
            continue;
        }
        let layers = layers(name, &file);
        assert!(!layers.is_empty(), "{name}");
        for (number, Layer { size, theirs, ours }) in layers.iter().enumerate() {
            let ratio = ours.rms / theirs.rms.max(rounding / 4.0 * size);
            ratios.push(ratio);
            if ours.rms > 2.0 * theirs.rms + rounding / 2.0 * size {
                found.push(format!(
                    "{name}, layer {number}: {ours:?}, theirs {theirs:?}"
                ));
            }
        }
        // Each layer's in units of its size.
        let largest = |of: fn(&Layer) -> f64| layers.iter().map(of).fold(0.0, f64::max);
        let ours = largest(|layer| layer.ours.largest / layer.size);
        let theirs = largest(|layer| layer.theirs.largest / layer.size);
        println!(
            "{name}: {ours:.1e}, theirs {theirs:.1e}: {:.2}",
            ours / theirs
        );
        if ours > 3.0 * theirs + rounding / 2.0 {
            found.push(format!("{name}: {ours:.1e}, theirs {theirs:.1e}"));
        }
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "{} layers: half of them within {:.2} of their error",
        ratios.len(),
        ratios[ratios.len() / 2]
    );
    assert_eq!(
        families.len(),
        FAMILIES.len(),
        "a family without a checkpoint"
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a run leaves, by name; of run.json only what does not depend on time and machine.
fn left(arguments: &[&str], threads: &str) -> BTreeMap<String, Vec<u8>> {
    let out = tempfile::tempdir().expect("a folder");
    let mut command = massact(arguments);
    command.args(["--quiet", "--save-dir"]).arg(out.path());
    run(command.env("RAYON_NUM_THREADS", threads)).succeeded();
    let folder = only_run(out.path());
    let mut left = BTreeMap::new();
    for name in files(&folder) {
        let path = folder.join(&name);
        let content = if name == "run.json" {
            let record = read_json(&path);
            let kept = [
                "command", "seed", "identity", "inputs", "tokens", "weights", "notices",
            ];
            let kept = kept.map(|key| record[key].to_string());
            kept.join("\n").into_bytes()
        } else if name == "report.html" {
            // It says when the run began and which command line it had.
            continue;
        } else {
            fs::read(&path).expect("readable")
        };
        left.insert(name, content);
    }
    left
}

/// Every experiment: every file is the same, byte for byte, whatever the number of threads.
#[test]
fn threads_change_no_byte() {
    for name in ["planted-llama", "planted-lfm2", "planted-gemma4"] {
        let folder = checkpoint(name).display().to_string();
        let text = checkpoint(name).join("text.txt").display().to_string();
        let eval = format!("mine={text}");
        let texts = ["--text-file", &text, "--context-length", "48"];
        let ids = ["--token-ids", "3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"];
        let commands: [(&str, Vec<&str>); 9] = [
            (
                "existence-validation",
                [&texts[..], &["--nsamples", "7"]].concat(),
            ),
            (
                "tokens-analysis",
                [&texts[..], &["--nsamples", "7"]].concat(),
            ),
            (
                "intervention-analysis",
                [
                    &texts[..],
                    &[
                        "--no-figures",
                        "--nsamples",
                        "3",
                        "--calibration-nsamples",
                        "5",
                    ],
                    &["--noise", "0.1", "--eval", &eval],
                ]
                .concat(),
            ),
            ("top-activation-magnitude", texts.to_vec()),
            ("self-attention", [&ids[..], &["--no-figures"]].concat()),
            (
                "life",
                [&ids[..], &["--no-figures", "--ablate-weight"]].concat(),
            ),
            ("sinks", [&ids[..], &["--no-figures"]].concat()),
            ("profile", [&ids[..], &["--no-figures"]].concat()),
            (
                "capture",
                [&ids[..], &["--raw", "--nll", "--attention", "heads"]].concat(),
            ),
        ];
        for (command, arguments) in commands {
            let arguments = [&[command, "--pretrained", &folder][..], &arguments].concat();
            let one = left(&arguments, "1");
            assert!(one.len() > 1, "{command}: {:?}", one.keys());
            for threads in ["2", "5"] {
                let more = left(&arguments, threads);
                let names =
                    |left: &BTreeMap<String, Vec<u8>>| left.keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&one), names(&more), "{name} {command}");
                for (file, bytes) in &one {
                    let same = *bytes == more[file];
                    assert!(
                        same,
                        "{name} {command} {file}: others with {threads} threads"
                    );
                }
            }
        }
    }
}

/// What a document of JSON says does not depend on how often it is made.
#[test]
fn the_same_run_prints_the_same() {
    let folder = checkpoint("planted-gpt2").display().to_string();
    let printed = || -> Value {
        let out = tempfile::tempdir().expect("a folder");
        let mut command = massact([
            "capture",
            "--json",
            "--quiet",
            "--token-ids",
            "3,4,5",
            "--pretrained",
        ]);
        command.arg(&folder).arg("--save-dir").arg(out.path());
        run(&mut command).succeeded().json()
    };
    assert_eq!(printed().to_string(), printed().to_string());
}
