//! `massact bench`: what it times, and what it says about it.

mod support;

use std::process::Command;

use serde_json::Value;
use support::program::{massact, run};

/// The command at small sizes, with one repetition.
fn quick(tokens: usize, more: &[&str]) -> Command {
    let mut command = massact(["bench", "--quiet", "--repetitions=1"]);
    command.arg(format!("--tokens={tokens}")).args(more);
    command
}

fn bench(tokens: usize, more: &[&str]) -> Value {
    let mut command = quick(tokens, more);
    let document = run(command.arg("--json")).succeeded().json();
    support::schema::assert_valid("bench", &document);
    document
}

fn named<'d>(document: &'d Value, name: &str) -> Vec<&'d Value> {
    let all = document["measurements"].as_array().expect("measurements");
    all.iter().filter(|one| one["name"] == name).collect()
}

#[test]
fn times_the_operations_of_a_shape_and_passes_of_the_demo() {
    let document = bench(8, &["--shape=tiny", "--pretrained=demo"]);
    assert_eq!(document["shape"], "tiny");
    assert_eq!(document["model"]["name"], "demo");
    assert_eq!(document["compute_dtype"], "float32");

    // [16, 256] float32, read and written.
    let copy = named(&document, "copy")[0];
    assert_eq!(copy["work"], 2 * 16 * 256 * 4);
    // [16, 256] x [256, 688].
    let product = named(&document, "product")[1];
    assert_eq!(product["work"], 2 * 16 * 256 * 688);
    // Four heads; 8 x 9 / 2 visible keys in each sequence.
    let attention = named(&document, "attention")[0];
    assert_eq!(attention["shape"]["heads"], 4);
    assert_eq!(attention["work"], 4 * 4 * 64 * 2 * 36);
    let maps = named(&document, "attention_mean_maps")[2];
    assert_eq!(maps["shape"]["head_dim"], 256);
    assert_eq!(maps["shape"]["sequences"], 1);
    let forward = named(&document, "forward")[0];
    assert_eq!(forward["work"], 16);
    assert_eq!(named(&document, "forward_with_statistics").len(), 1);

    for one in document["measurements"].as_array().expect("measurements") {
        let number = |field: &str| one[field].as_f64().expect("a number");
        let units = match one["unit"].as_str() {
            Some("GB/s") => 1e9,
            Some("TFLOP/s") => 1e12,
            _ => 1.0,
        };
        let rate = number("work") / units / number("best_seconds");
        assert!((number("rate") / rate - 1.0).abs() < 1e-9, "{one}");
        assert!(number("best_seconds") <= number("median_seconds"), "{one}");
    }
}

#[test]
fn a_pass_that_observes_nothing_still_runs_the_layers() {
    let document = bench(200, &["--parts=model"]);
    let seconds = |name| named(&document, name)[0]["best_seconds"].as_f64();
    let (bare, observed) = (seconds("forward"), seconds("forward_with_statistics"));
    // Statistics are a small part of a pass; the embedding alone would be a hundredth of it.
    assert!(bare > observed.map(|observed| observed / 5.0), "{document}");
}

#[test]
fn only_the_parts_asked_for() {
    let document = bench(
        8,
        &["--parts=copy,attention", "--head-dims=80", "--shape=tiny"],
    );
    assert_eq!(document["model"], Value::Null);
    let names: Vec<&Value> = document["measurements"]
        .as_array()
        .expect("measurements")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(
        names,
        ["copy", "attention", "attention_sink", "attention_mean_maps"]
    );
    assert_eq!(named(&document, "attention")[0]["shape"]["head_dim"], 80);
    let document = bench(8, &["--parts=model"]);
    assert_eq!(document["shape"], Value::Null);
    assert!(named(&document, "copy").is_empty());
}

#[test]
fn prints_a_table() {
    let table = run(&mut quick(8, &["--parts=model"])).succeeded().stdout;
    assert!(table.contains("forward with statistics"), "{table}");
    assert!(table.contains("tokens/s"), "{table}");
}

fn walks(document: &Value) -> &Vec<Value> {
    document["looking"]["walks"].as_array().expect("walks")
}

/// A shape that is nowhere on disk: the bare walk first, and what each other one adds to it.
#[test]
fn says_what_looking_costs() {
    let out = tempfile::tempdir().expect("a folder");
    let folder = format!("--save-dir={}", out.path().display());
    let shape = ["--shape=tiny", "--layers=3", "--parts=looking", &folder];
    let document = bench(16, &shape);
    assert_eq!(document["model"]["source"], "random");
    assert_eq!(document["model"]["layers"], 3);
    let written = std::fs::read(out.path().join("bench.json")).expect("written");
    assert_eq!(
        serde_json::from_slice::<Value>(&written).ok(),
        Some(document.clone())
    );

    let walks = walks(&document);
    assert_eq!(walks.len(), 6);
    let number = |walk: &Value, field: &str| walk[field].as_f64().expect("a number");
    let bare = &walks[0];
    assert_eq!(
        (&bare["looks_at"], number(bare, "added_share")),
        (&"nothing".into(), 0.0)
    );
    for walk in walks {
        let seconds = number(walk, "median_seconds");
        let share = seconds / number(bare, "median_seconds") - 1.0;
        assert!((number(walk, "added_share") - share).abs() < 1e-9, "{walk}");
        assert!(
            (number(walk, "tokens_per_second") * seconds - 32.0).abs() < 1e-6,
            "{walk}"
        );
        let reached = number(walk, "flops") / seconds;
        let ceiling = number(&document["looking"]["ceilings"], "product_flops_per_second");
        assert!((number(walk, "of_product_ceiling") / (reached / ceiling) - 1.0).abs() < 1e-9);
    }
    // Three layers' outputs, read once.
    let more = |index: usize, field| number(&walks[index], field) - number(bare, field);
    assert_eq!(more(1, "bytes"), (3 * 32 * 256 * 4) as f64);
    assert!(more(2, "bytes") > 10.0 * more(1, "bytes"));
    // Maps are sums of the same logits, and two of 16 x 16 a sequence and layer are written.
    assert_eq!(more(4, "flops"), more(3, "flops"));
    assert_eq!(
        more(4, "bytes") - more(3, "bytes"),
        (3 * 2 * 16 * 16 * 8) as f64
    );
    // A variant of each sequence passes the last of three layers.
    assert!((more(5, "flops") * 3.0 / number(bare, "flops") - 1.0).abs() < 1e-9);
}

/// Maps of long sequences are T x T, and are left out.
#[test]
fn a_checkpoint_in_place_of_a_shape() {
    let document = bench(
        2000,
        &[
            "--parts=looking",
            "--shape=tiny",
            "--layers=1",
            "--sequences=1",
        ],
    );
    assert_eq!(walks(&document).len(), 5);
    let document = bench(8, &["--parts=looking"]);
    assert_eq!(document["model"]["name"], "demo");
    assert_eq!(walks(&document).len(), 6);
    let table = run(&mut quick(8, &["--parts=looking"])).succeeded().stdout;
    for part in ["copies reach", "one intervention", "added time"] {
        assert!(table.contains(part), "{table}");
    }
}

#[test]
fn refuses_what_does_not_fit() {
    for (arguments, reason) in [
        (&["--tokens=1000000000"][..], "memory"),
        (
            &["--tokens=18446744073709551615", "--sequences=3"],
            "memory",
        ),
        (&["--parts=model", "--tokens=513"], "512 positions"),
        (&["--shape=huge"], "llama-7b"),
        (&["--layers=3"], "--shape"),
        (&["--layers=3", "--shape=tiny", "demo"], "--layers"),
        (&["--repetitions=0"], "positive"),
        (&["--head-dims=64,0"], "positive"),
        (&["--head-dims=1000000000000"], "memory"),
    ] {
        let done = run(massact(["bench", "--quiet"]).args(arguments));
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(
            done.stderr.contains(reason),
            "{arguments:?}: {}",
            done.stderr
        );
    }
}
