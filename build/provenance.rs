//! Commit, compiler and target, for run.json.

use std::{env, path::Path, process::Command};

/// Hands them to the crate as environment variables of its compilation.
pub(crate) fn record() {
    // Where they lie in this checkout; a file that is not there would mean another build every time.
    for part in ["HEAD", "refs/heads"] {
        let path = output("git", &["rev-parse", "--git-path", part]);
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = output(&rustc, &["--version"]);
    let target = env::var("TARGET").unwrap_or_default();
    for (name, value) in [
        ("MASSACT_GIT_COMMIT", commit),
        ("MASSACT_RUSTC", version),
        ("MASSACT_TARGET", target),
    ] {
        println!("cargo:rustc-env={name}={value}");
    }
}

/// The first line a program prints; empty when it is not there or fails, as in a source archive.
fn output(program: &str, arguments: &[&str]) -> String {
    Command::new(program)
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_default()
}
