//! A disk that is full, and one that fails, at every call of a run that writes.

use super::supervised::{COMMANDS, Calls, Place, assert_said};

/// Results for the first time, on a disk that is full from any call on: nothing is there afterwards.
#[test]
fn a_full_disk_at_every_write() {
    for words in COMMANDS {
        let place = Place::new();
        let mut number = 1;
        loop {
            let faulty = place.faulty(words, Calls::Change, "out", number, "ENOSPC");
            if faulty.met.is_none() {
                faulty.done.succeeded();
                break;
            }
            assert_said(words[0], &faulty, 1, &place.path("out"));
            let remedy = "free space or choose another --";
            assert!(
                faulty.done.stderr.contains(remedy),
                "{}",
                faulty.done.stderr
            );
            let left = place.content("out");
            let left: Vec<_> = left.keys().collect();
            assert!(left.is_empty(), "{}, {:?}: {left:?}", words[0], faulty.met);
            number += 1;
        }
        println!("{}: {} calls", words[0], number - 1);
        assert!(number > 15, "{}: {number}", words[0]);
    }
}

/// Results of an earlier run that would be replaced, and any one call that fails: they stay, byte for byte.
#[test]
fn a_failing_disk_at_every_write() {
    for words in COMMANDS {
        let place = Place::new();
        // What is written beside the results must not be there yet.
        let words: Vec<&str> = match words[0] {
            "tvr" => [words, &["--dry-run"]].concat(),
            _ => words.to_vec(),
        };
        let words: Vec<&str> = match words.iter().position(|word| *word == "--out") {
            Some(at) => [&words[..at], &words[at + 2..]].concat(),
            None => words,
        };
        place
            .faulty(&words, Calls::Change, "out", 0, "EIO")
            .done
            .succeeded();
        let mut before = place.content("out");
        let mut number = 1;
        loop {
            let faulty = place.faulty(&words, Calls::Change, "out", number, "EIO");
            if faulty.met.is_none() {
                faulty.done.succeeded();
                break;
            }
            number += 1;
            if faulty.done.code == Some(0) {
                // The way that it takes where a file system cannot exchange two folders.
                let met = faulty.met.expect("met");
                assert!(met.starts_with("rename "), "{}, {met}", words[0]);
                let after = place.content("out");
                assert!(after.keys().eq(before.keys()), "{}, {met}", words[0]);
                before = after;
                continue;
            }
            assert_said(words[0], &faulty, 1, &place.path("out"));
            let same = place.content("out") == before;
            assert!(same, "{}, {:?}: changed", words[0], faulty.met);
        }
        println!("{}: {} calls", words[0], number - 1);
        assert!(place.content("out") != before, "{}: not replaced", words[0]);
    }
}
