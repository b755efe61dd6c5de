//! `massact bench`: what it times, and what it says about it.

mod support;

use std::process::Command;

use serde_json::Value;
use support::program::{massact, run};

/// The command at small sizes, with one repetition.
fn quick(tokens: usize, more: &[&str]) -> Command {
    let mut command = massact(["bench", "--quiet", "--repetitions=1", "--shape=tiny"]);
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
    let document = bench(8, &[]);
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
    let document = bench(8, &["--parts=copy,attention", "--head-dims=80"]);
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
