//! Commit, compiler and target, for run.json.

use std::{env, process::Command};

/// Hands them to the crate as environment variables of its compilation.
pub(crate) fn record() {
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs/heads");
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
