//! Folders of results that cannot be used, or go away.

use std::process::Command;

use super::supervised::{COMMANDS, Calls, Place, assert_said};
use super::support::program::{offline, run};

/// Every call that makes or writes something is refused, as in a folder that may only be read: this holds for
/// the superuser, too, whom permissions do not stop.
#[test]
fn a_folder_that_may_only_be_read() {
    for words in COMMANDS {
        let place = Place::new();
        std::fs::create_dir(place.path("out")).expect("made");
        let faulty = place.faulty(words, Calls::Change, "out", 1, "EACCES");
        assert_said(words[0], &faulty, 1, &place.path("out"));
        let stderr = &faulty.done.stderr;
        assert!(stderr.contains("choose another --"), "{stderr}");
        assert_eq!(place.content("out").len(), 1, "{}", words[0]);
    }
}

#[test]
fn a_file_where_the_folder_should_be() {
    for words in COMMANDS {
        let place = Place::new();
        std::fs::write(place.path("out"), "mine").expect("written");
        let faulty = place.faulty(words, Calls::Change, "model", 0, "EIO");
        let out = place.path("out");
        // What names a folder that cannot be is a wrong argument.
        let code = faulty.done.code.unwrap_or(0);
        assert!([1, 2].contains(&code), "{}: {code}", words[0]);
        assert_said(words[0], &faulty, code, &out);
        assert_eq!(std::fs::read(&out).expect("there"), b"mine");
    }
}

/// Somebody removes the folder of results at any moment of the run.
#[test]
fn a_folder_that_goes_away() {
    for words in [COMMANDS[0], COMMANDS[3], COMMANDS[6]] {
        let place = Place::new();
        place
            .faulty(words, Calls::Change, "out", 0, "EIO")
            .done
            .succeeded();
        let whole: Vec<_> = place.content("out").into_keys().collect();
        std::fs::remove_dir_all(place.path("out")).expect("removed");
        let shell = format!("sh:rm -rf {}", place.path("out").display());
        let mut number = 1;
        loop {
            let faulty = place.faulty(words, Calls::Change, "out", number, &shell);
            let Some(met) = &faulty.met else {
                faulty.done.succeeded();
                break;
            };
            match faulty.done.code {
                // Before anything was written, or when all was done.
                Some(0) => {
                    let left: Vec<_> = place.content("out").into_keys().collect();
                    assert!(
                        left.is_empty() || left == whole,
                        "{} {met}: {left:?}",
                        words[0]
                    );
                }
                _ => {
                    assert_said(words[0], &faulty, 1, &place.path("out"));
                    let left = place.content("out");
                    assert!(left.is_empty(), "{} {met}: {:?}", words[0], left.keys());
                }
            }
            let _ = std::fs::remove_dir_all(place.path("out"));
            number += 1;
        }
        println!("{}: {} calls", words[0], number - 1);
    }
}

/// Results may be read by whom the umask lets read, as any other new file: neither more nor fewer.
#[test]
fn permissions_follow_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    for (umask, file, folder) in [
        ("022", 0o644, 0o755),
        ("027", 0o640, 0o750),
        ("077", 0o600, 0o700),
    ] {
        for words in [COMMANDS[0], COMMANDS[3], COMMANDS[6]] {
            let place = Place::new();
            let inner = place.command(words);
            let mut command = Command::new("sh");
            offline(&mut command);
            command
                .arg("-c")
                .arg(format!("umask {umask}; exec \"$0\" \"$@\""))
                .arg(inner.get_program())
                .args(inner.get_args());
            run(&mut command).succeeded();
            for (path, content) in place.content("out") {
                let mode = path.metadata().expect("there").permissions().mode() & 0o777;
                let wanted = if content.is_some() { file } else { folder };
                assert_eq!(mode, wanted, "{} {umask}: {mode:o}", path.display());
            }
        }
    }
}
