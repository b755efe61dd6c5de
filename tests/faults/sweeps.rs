//! Sweeps on a disk that fills up: what is left of an attempt does no harm to the next one.

use std::fs;

use serde_json::Value;

use super::supervised::{Calls, Place};
use super::support::program::{files, run};

const PLAN: &str = r#"
[defaults]
context_length = 12
text_file = "text.txt"
nsamples = 2
no_figures = true

[[model]]
pretrained = "model"

[[experiment]]
name = "existence-validation"

[[experiment]]
name = "tokens_analysis"
"#;

/// A place with a planned sweep in `out`.
fn planned() -> Place {
    let place = Place::new();
    fs::write(place.path("plan.toml"), PLAN).expect("written");
    let plan = place.path("plan.toml").display().to_string();
    run(&mut place.command(&["sweep", "plan", &plan, "--dir", "{out}"])).succeeded();
    place
}

fn status(place: &Place) -> Value {
    run(&mut place.command(&["sweep", "status", "--json", "{out}"]))
        .succeeded()
        .json()
}

/// No file that was being written is left, but the locks of attempts.
#[track_caller]
fn assert_nothing_half(place: &Place, what: &str) {
    let half: Vec<String> = files(&place.path("out"))
        .into_iter()
        .filter(|name| name.contains(".massact-") || name.ends_with(".tmp"))
        .collect();
    assert!(half.is_empty(), "{what}: {half:?}");
}

#[test]
fn a_full_disk_under_a_sweep() {
    let words = ["sweep", "run", "{out}", "--quiet"];
    let mut number = 1;
    loop {
        let place = planned();
        let faulty = place.faulty(&words, Calls::Change, "out", number, "ENOSPC");
        let Some(met) = faulty.met.clone() else {
            faulty.done.succeeded();
            break;
        };
        println!(
            "{met}: {:?} {}",
            faulty.done.code,
            faulty.done.stderr.trim_end()
        );
        assert_eq!(faulty.done.code, Some(1), "{met}: {}", faulty.done.stderr);
        assert!(
            faulty.done.stderr.contains("massact: "),
            "{}",
            faulty.done.stderr
        );
        assert_nothing_half(&place, &met);
        run(&mut place.command(&["sweep", "retry", "{out}", "--failed"])).succeeded();
        run(&mut place.command(&words)).succeeded();
        let status = status(&place);
        assert_eq!(status["done"], 2, "{met}: {status}");
        // Every call would take minutes; the step is no divisor of what a task writes.
        number += 7;
    }
    println!("{number} calls");
}

#[test]
fn a_full_disk_under_what_is_made_of_a_sweep() {
    let place = planned();
    run(&mut place.command(&["sweep", "run", "{out}", "--quiet"])).succeeded();
    for command in ["merge", "report"] {
        let words = ["sweep", command, "{out}"];
        let before = place.content("out");
        let mut number = 1;
        loop {
            let faulty = place.faulty(&words, Calls::Change, "out", number, "ENOSPC");
            let Some(met) = &faulty.met else {
                faulty.done.succeeded();
                break;
            };
            assert_eq!(faulty.done.code, Some(1), "{met}: {}", faulty.done.stderr);
            assert_eq!(
                faulty.done.stderr.lines().count(),
                1,
                "{}",
                faulty.done.stderr
            );
            assert_nothing_half(&place, met);
            // What is there of earlier runs stays; a table or more may be new.
            let after = place.content("out");
            let kept = before
                .iter()
                .all(|(path, bytes)| after.get(path) == Some(bytes));
            assert!(kept, "{command} {met}");
            number += 1;
        }
        println!("{command}: {} calls", number - 1);
        assert!(number > 1);
    }
}
