//! Inputs that cannot be read to their end, or are not what they were.

use super::supervised::{Calls, Place, assert_said};

const TEXT: &str = "--text-file={text}";

const RUN: [&str; 11] = [
    "existence-validation",
    "--quiet",
    "--no-figures",
    "--pretrained",
    "{model}",
    TEXT,
    "--context-length",
    "12",
    "--nsamples=2",
    "--save-dir",
    "{out}",
];

/// Every call that reads the checkpoint fails once, and then every one that reads the text, plain or as a dataset.
#[test]
fn a_disk_that_fails_under_what_is_read() {
    for (folder, text) in [
        ("model", "--text-file={text}"),
        ("text.txt", "--text-file={text}"),
        ("texts.jsonl", "--dataset={jsonl}"),
    ] {
        let run = RUN.map(|word| if word == TEXT { text } else { word });
        let place = Place::new();
        let document = || {
            let run = super::support::program::only_run(&place.path("out"));
            let found = std::fs::read(run.join("existence_validation.json"));
            std::fs::remove_dir_all(place.path("out")).expect("removed");
            found.expect("a document")
        };
        place
            .faulty(&run, Calls::Read, folder, 0, "EIO")
            .done
            .succeeded();
        let sound = document();
        let mut number = 1;
        loop {
            let faulty = place.faulty(&run, Calls::Read, folder, number, "EIO");
            let Some(met) = &faulty.met else {
                faulty.done.succeeded();
                break;
            };
            println!("{met}: {}", faulty.done.stderr.trim_end());
            if faulty.done.code == Some(0) {
                // A listing of what is beside the known files, or a first look at what a file is (a pointer of Git LFS?).
                let looks = ["open ", "getdents ", "read "].map(|call| met.starts_with(call));
                assert!(
                    looks[0] || looks[1] || looks[2] && folder == "texts.jsonl",
                    "{met}"
                );
                assert_eq!(document(), sound, "{met}");
                number += 1;
                continue;
            }
            assert_said(folder, &faulty, 1, &place.path(folder));
            assert!(!place.path("out").exists(), "{met}");
            number += 1;
        }
        assert!(number > 3, "{folder}: {number}");
    }
}

/// The weights become shorter at every moment between the first byte that is read of them and the end of the
/// run: in their middle, and in what remains of their last page, where no signal tells.
#[test]
fn weights_that_shrink_under_the_run() {
    for command in ["existence-validation", "tvr"] {
        let words: Vec<&str> = match command {
            "tvr" => vec![
                "tvr",
                "--quiet",
                "--no-figures",
                "--pretrained",
                "{model}",
                "--out",
                "{out}/rescaled",
                "--save-dir",
                "{out}",
            ],
            _ => RUN.to_vec(),
        };
        for cut in ["100", "20000", "-1"] {
            let place = Place::new();
            let weights = place.path("model/model.safetensors");
            let whole = std::fs::read(&weights).expect("weights");
            let size = match cut.parse::<i64>().expect("a number") {
                less if less < 0 => whole.len() as i64 + less,
                size => size,
            };
            let shell = format!("sh:truncate -s {size} {}", weights.display());
            let mut number = 1;
            loop {
                // At a read of the checkpoint at first, and then at each write of the results.
                let (calls, folder) = match number {
                    1..=30 => (Calls::Read, "model"),
                    _ => (Calls::Change, "out"),
                };
                let at = if number > 30 { number - 30 } else { number };
                let faulty = place.faulty(&words, calls, folder, at, &shell);
                let Some(met) = &faulty.met else {
                    faulty.done.succeeded();
                    if number > 30 {
                        break;
                    }
                    number = 31;
                    continue;
                };
                println!("{command} {cut} {met}: {}", faulty.done.stderr.trim_end());
                std::fs::write(&weights, &whole).expect("whole again");
                // What has all been read before may go.
                if faulty.done.code == Some(0) {
                    assert!(number > 30, "{met}");
                    std::fs::remove_dir_all(place.path("out")).expect("removed");
                } else {
                    assert_said(command, &faulty, 1, &weights);
                    assert!(!place.path("out").exists(), "{met}");
                }
                number += 1;
            }
        }
    }
}

/// The weights are written to, and keep their size, at every read of the checkpoint: before they are opened the
/// new ones count; afterwards the run fails, and writes nothing.
#[test]
fn weights_that_are_written_to_under_the_run() {
    let place = Place::new();
    let weights = place.path("model/model.safetensors");
    let shell = format!(
        "sh:printf x | dd of={} conv=notrunc bs=1 seek=20000 status=none",
        weights.display()
    );
    let mut failed = 0;
    for number in 1.. {
        let faulty = place.faulty(&RUN, Calls::Read, "model", number, &shell);
        if faulty.met.is_none() {
            faulty.done.succeeded();
            break;
        }
        if faulty.done.code == Some(0) {
            assert_eq!(failed, 0, "{number}: it was open before");
            std::fs::remove_dir_all(place.path("out")).expect("removed");
            continue;
        }
        failed += 1;
        assert_said("written to", &faulty, 1, &weights);
        assert!(
            faulty
                .done
                .stderr
                .contains("was written to while it was read")
        );
        assert!(!place.path("out").exists(), "{number}");
    }
    assert!(failed > 0);
}
