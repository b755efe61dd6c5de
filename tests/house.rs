//! The order of the house: rooms import only what lies below them, files of a room have no circles,
//! no file is too long, and what is generic over a backend stays where backends are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src/`, from the bottom to the top: each may import those before it.
const ROOMS: [&[&str]; 12] = [
    &["files", "nearest", "visible"],
    &["error"],
    &["allocator", "mapped"],
    &["interrupt", "lfs", "panics", "progress"],
    &["model", "hub"],
    &["report"],
    &["backend", "checkpoint", "data"],
    &["engine"],
    &["experiments", "tvr", "bench", "selftest"],
    &["sweep"],
    &["present"],
    &["cli"],
];

/// Rooms of one level that may import each other, in this direction only.
const BESIDE: [(&str, &str); 2] = [("interrupt", "panics"), ("data", "backend")];

/// Where types may be generic over the backend.
const GENERIC: [&str; 4] = ["backend", "engine", "bench", "selftest"];

const LONGEST: usize = 600;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let paths = sources(&root).into_iter();
    paths
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a text");
            let name = path.strip_prefix(&root).expect("inside").to_owned();
            (name, text)
        })
        .collect()
}

/// The code without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names of what the code imports under `prefix` (`crate::`, `super::`): of `crate::a::b`
/// and of `crate::{a::b, c}`.
fn imported(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = code;
    while let Some(at) = rest.find(prefix) {
        let before = rest[..at].chars().next_back();
        rest = &rest[at + prefix.len()..];
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(name(&std::mem::take(&mut item)));
                    continue;
                }
                _ => {}
            }
            item.push(c);
        }
        found.insert(name(&item));
    }
    found.remove("");
    found
}

fn name(path: &str) -> String {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    path[..end.unwrap_or(path.len())].to_owned()
}

fn room(path: &Path) -> String {
    let first = path.iter().next().expect("not empty").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn rooms_import_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let own = room(&path);
        if ["lib", "main"].contains(&own.as_str()) {
            continue;
        }
        let level_of_own = level(&own).unwrap_or_else(|| panic!("{own} is in no level"));
        for other in imported(&code(&text), "crate::") {
            // What is no room is an item of the crate's root.
            let Some(level_of_other) = level(&other) else {
                continue;
            };
            let beside = BESIDE.contains(&(own.as_str(), other.as_str()));
            if other != own && level_of_other >= level_of_own && !beside {
                wrong.push(format!("{} imports {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_of_a_room_have_no_circle() {
    for room in ["engine", "data", "experiments", "sweep", "present"] {
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, text) in all() {
            let parts: Vec<String> = path
                .iter()
                .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned())
                .collect();
            if parts.len() == 2 && parts[0] == room && parts[1] != "mod" {
                imports.insert(parts[1].clone(), imported(&code(&text), "super::"));
            }
        }
        // Files that import nothing that is left can be taken away, until none is left.
        while !imports.is_empty() {
            let left: BTreeSet<String> = imports.keys().cloned().collect();
            let free = |found: &BTreeSet<String>| found.is_disjoint(&left);
            let before = imports.len();
            imports.retain(|_, found| !free(found));
            assert!(imports.len() < before, "{room}: a circle among {left:?}");
        }
    }
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = all()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{}: {lines}", path.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn only_the_rooms_of_backends_are_generic_over_them() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let generic = code(&text).lines().any(|line| {
            let bound = line.split("Backend").collect::<Vec<_>>();
            bound[..bound.len() - 1].iter().any(|before| {
                before.ends_with(": ") || before.ends_with("+ ") || before.ends_with("dyn ")
            })
        });
        if generic && !GENERIC.contains(&room(&path).as_str()) {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn reads_imports() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n};\nuse crate::e::f;\nlet x = crate::g::h();";
    let found: Vec<String> = imported(code, "crate::").into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "g"]);
    assert!(imported("xcrate::a", "crate::").is_empty());
}
