//! Every command line of README and docs is understood, and what can run here runs and says what is
//! written there.

mod support;

use std::path::Path;

use support::program::{massact, run};

/// A fenced block: what follows the fence, and the lines.
#[derive(Debug)]
struct Block {
    place: String,
    language: String,
    lines: Vec<String>,
}

/// All fenced blocks of README.md and docs/.
fn blocks() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("docs");
    let mut files: Vec<_> = docs.map(|entry| entry.expect("an entry").path()).collect();
    files.push(root.join("README.md"));
    files.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    files.sort();
    files.iter().flat_map(|path| blocks_of(path)).collect()
}

fn blocks_of(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).expect("a text");
    let name = path.file_name().expect("a name").to_string_lossy();
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                found.push(Block {
                    place: format!("{name}:{}", number + 2),
                    language: language.to_owned(),
                    lines: Vec::new(),
                });
            }
            None if inside => found
                .last_mut()
                .expect("an open block")
                .lines
                .push(line.trim_start().to_owned()),
            None => {}
        }
    }
    found
}

/// The arguments of a line that calls massact, without its comment; none of other lines.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("$ ").unwrap_or(line);
    let call = line
        .strip_prefix("massact ")
        .or_else(|| line.strip_prefix("cargo run --release -- "))?;
    // What comes behind it is the shell's.
    let call = call.split(" && ").next().unwrap_or(call);
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in call.chars() {
        match letter {
            '"' => quoted = !quoted,
            '#' if !quoted && words.last().is_some_and(String::is_empty) => break,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().expect("one").push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    Some(words)
}

/// All calls, continued lines joined.
fn calls() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for block in blocks() {
        if block.language == "python" {
            continue;
        }
        let text = block.lines.join("\n").replace("\\\n", " ");
        let all = text.lines().filter_map(arguments);
        found.extend(all.map(|call| (block.place.clone(), call)));
    }
    found
}

#[test]
fn every_command_line_is_understood() {
    let calls = calls();
    assert!(calls.len() >= 20, "{} calls", calls.len());
    for (place, call) in calls {
        // Help, asked for at the end, comes after every complaint about what is before it.
        let done = run(massact(&call).arg("--help"));
        assert_eq!(done.code, Some(0), "{place}: {call:?}: {}", done.stderr);
    }
}

/// What needs a model or a text that is not built in, or a card.
fn needs_more(call: &[String]) -> bool {
    let names = |word: &String| {
        word.contains(['/', '='])
            || [".gguf", ".txt", ".jsonl", ".toml"]
                .iter()
                .any(|end| word.ends_with(end))
    };
    let placeholders = ["DIR", "out", "FOLDER"];
    call.iter().any(names)
        || call
            .iter()
            .any(|word| placeholders.contains(&word.as_str()))
        || ["selftest", "sweep", "reproduce", "bench"].contains(&call[0].as_str())
}

#[test]
fn what_needs_nothing_runs() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut ran = 0;
    for (place, call) in calls() {
        if needs_more(&call) {
            continue;
        }
        let mut command = massact(&call);
        // Where a command writes nothing, the variable has no effect.
        command.env("MASSACT_SAVE_DIR", temp.path());
        let done = run(&mut command);
        assert_eq!(done.code, Some(0), "{place}: {call:?}: {}", done.stderr);
        ran += 1;
    }
    assert!(ran >= 5, "{ran} ran");
}

/// In the README a block with one call, and then one with what it prints.
#[test]
fn the_readme_shows_what_is_printed() {
    let temp = tempfile::tempdir().expect("a folder");
    let all = blocks_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let mut compared = 0;
    for pair in all.windows(2) {
        let [asked, shown] = pair else { continue };
        let calls: Vec<_> = asked
            .lines
            .iter()
            .filter_map(|line| arguments(line))
            .collect();
        let [call] = calls.as_slice() else { continue };
        if needs_more(call) || arguments(&shown.lines[0]).is_some() {
            continue;
        }
        let mut command = massact(call);
        let printed = run(command.env("MASSACT_SAVE_DIR", temp.path()))
            .succeeded()
            .stdout;
        let printed: Vec<&str> = printed.lines().map(str::trim).collect();
        let shown_lines: Vec<&str> = shown.lines.iter().map(|line| line.trim()).collect();
        assert_eq!(shown_lines, printed, "{}", shown.place);
        compared += 1;
    }
    assert_eq!(compared, 3, "outputs that were compared");
}
