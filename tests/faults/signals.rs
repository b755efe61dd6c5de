//! Signals at every moment of a run, counted by its writes.

use super::supervised::{COMMANDS, Calls, Place};

/// Ctrl-C and SIGTERM: exit code 3 and nothing left, unless the run was done already. Every second write, or
/// this would take minutes.
#[test]
fn stopped_at_every_write() {
    for words in COMMANDS {
        let place = Place::new();
        let mut number = 1;
        let mut stopped = 0;
        loop {
            let signal = if number % 4 == 1 { "INT" } else { "TERM" };
            let faulty = place.faulty(words, Calls::Change, "out", number, signal);
            let Some(met) = &faulty.met else {
                faulty.done.succeeded();
                break;
            };
            match faulty.done.code {
                Some(3) => {
                    assert_eq!(faulty.done.stderr, "massact: interrupted\n", "{met}");
                    assert!(!place.path("out").exists(), "{} {met}", words[0]);
                    stopped += 1;
                }
                // Its results are whole; another test looks at what they are.
                Some(0) => {
                    let hidden =
                        |path: &std::path::Path| path.to_string_lossy().contains("/.massact-");
                    let content = place.content("out");
                    assert!(
                        !content.keys().any(|path| hidden(path)),
                        "{} {met}",
                        words[0]
                    );
                    std::fs::remove_dir_all(place.path("out")).expect("removed");
                }
                other => panic!("{} {met}: {other:?} {}", words[0], faulty.done.stderr),
            }
            number += 2;
        }
        let all = number / 2;
        // The very last writes are behind the point where a run still asks.
        println!("{}: {stopped} of {all}", words[0]);
        assert!(stopped + 4 >= all, "{}: {stopped} of {all}", words[0]);
    }
}

/// kill -9: earlier results stay as they are, or the new ones are whole, and the next run succeeds.
#[test]
fn killed_at_every_write() {
    for words in [COMMANDS[0], COMMANDS[3]] {
        let place = Place::new();
        place
            .faulty(words, Calls::Change, "out", 0, "KILL")
            .done
            .succeeded();
        let mut before = place.content("out");
        let names: Vec<_> = before.keys().cloned().collect();
        let mut number = 1;
        loop {
            let faulty = place.faulty(words, Calls::Change, "out", number, "KILL");
            if faulty.met.is_none() {
                faulty.done.succeeded();
                break;
            }
            assert_eq!(faulty.done.code, Some(128 + 9), "{:?}", faulty.met);
            let mut content = place.content("out");
            content.retain(|path, _| !path.to_string_lossy().contains("/.massact-"));
            if content != before {
                // It came as far as to take its place.
                let found: Vec<_> = content.keys().cloned().collect();
                assert_eq!(found, names, "{:?}", faulty.met);
                before = content;
            }
            number += 1;
        }
        println!("{}: {} calls", words[0], number - 1);
    }
}
