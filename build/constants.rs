//! The numbers of `kernels/constants.cuh`, as Rust source that the crate includes.

use std::{env, fmt::Write, fs, path::PathBuf};

const FILE: &str = "kernels/constants.cuh";

/// Writes `constants.rs` into cargo's output folder.
pub(crate) fn hand_over() {
    println!("cargo:rerun-if-changed={FILE}");
    let text = fs::read_to_string(FILE).expect("the kernels are part of the crate");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    fs::write(out.join("constants.rs"), translated(&text)).expect("OUT_DIR is writable");
}

fn translated(text: &str) -> String {
    // A macro's lines belong together.
    let text = text.replace("\\\n", " ");
    let mut rust = String::new();
    for line in text.lines() {
        let Some(definition) = line.strip_prefix("#define ") else {
            continue;
        };
        if let Some((name, rows)) = definition.split_once("(ROW, type, name)") {
            let rows: Vec<String> = rows
                .split("ROW(type, name,")
                .skip(1)
                .map(|row| format!("[{}]", row.trim().trim_end_matches(')')))
                .collect();
            let columns = rows[0].split(',').count();
            let (count, rows) = (rows.len(), rows.join(", "));
            writeln!(
                rust,
                "pub(super) const {name}: [[usize; {columns}]; {count}] = [{rows}];"
            )
            .expect("memory");
        } else {
            let (name, value) = definition.split_once(' ').expect("a name and a number");
            let value: u32 = value.trim().parse().expect("a number");
            writeln!(rust, "pub(super) const {name}: usize = {value};").expect("memory");
        }
    }
    rust
}
