//! The evaluation sets, from `--eval` to windows.

use std::path::Path;

use super::super::args::TextArgs;
use crate::{
    data::{self, Provenance, Role, Sequences, Wanted, sequences},
    error::{Error, Result},
    experiments::intervention_analysis::EvaluationSet,
    hub::Hub,
    model::Model,
    progress::Progress,
};

/// The published program's sets.
const DEFAULT: [&str; 3] = ["wikitext", "c4", "pg19"];

/// The demo's set, which needs no network.
const BUILT_IN: &str = "builtin";

/// The name of a set that is the corpus's file.
const CORPUS_FILE: &str = "text";

/// `NAME=FILE` or `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetArg {
    name: String,
    file: Option<String>,
}

/// Reads `--eval`.
pub(super) fn set_arg(text: &str) -> Result<SetArg, String> {
    let (name, file) = match text.split_once('=') {
        Some((name, file)) => (name, Some(file)),
        None => (text, None),
    };
    if name.is_empty() || file.is_some_and(str::is_empty) {
        return Err("expected NAME=FILE, or the NAME of a dataset".into());
    }
    if name.contains(['\\', '\0']) || name.split('/').any(|part| part == ".." || part == ".") {
        return Err("the name becomes part of file names and may not be a path".into());
    }
    Ok(SetArg {
        name: name.to_owned(),
        file: file.map(str::to_owned),
    })
}

/// The sets that are asked for. Without `--eval` a corpus that needs no network is evaluated, too.
pub(super) fn wanted(
    args: &[SetArg],
    text: &TextArgs,
    built_in_model: bool,
    progress: Progress,
) -> Result<Vec<SetArg>> {
    let named = |name: &str| SetArg {
        name: name.to_owned(),
        file: None,
    };
    if args.is_empty() {
        let dataset = text.dataset.as_deref();
        let local = dataset.filter(|name| Path::new(name).is_file());
        let file = text.text_file.as_deref().or(local.map(Path::new));
        if let Some(file) = file {
            progress.notice(&format!(
                "no --eval: perplexity is measured on {}, as evaluation set {CORPUS_FILE}",
                file.display()
            ));
            return Ok(vec![SetArg {
                name: CORPUS_FILE.to_owned(),
                file: Some(file.display().to_string()),
            }]);
        }
        return Ok(match dataset {
            Some(BUILT_IN) => vec![named(BUILT_IN)],
            None if built_in_model => vec![named(BUILT_IN)],
            _ => DEFAULT.map(named).to_vec(),
        });
    }
    for (index, set) in args.iter().enumerate() {
        if args[..index].iter().any(|other| other.name == set.name) {
            return Err(Error::usage(
                format!("--eval {}", set.name),
                "two evaluation sets have this name",
            )
            .remedy("give each its own name"));
        }
    }
    Ok(args.to_vec())
}

/// Loads a set and cuts it into windows, as the corpus was cut and by the rule of its name.
pub(super) fn load(
    set: &SetArg,
    model: &Model,
    corpus: &Sequences,
    text: &TextArgs,
    progress: Progress,
) -> Result<(EvaluationSet, Provenance)> {
    let joined = match &set.file {
        Some(file) if !has_rows(file) => data::read_text_file(Path::new(file))?,
        file => {
            let source = file.as_deref().unwrap_or(&set.name);
            let hub = || Hub::from_env(progress);
            // The corpus' own file has its field.
            let corpus = text.dataset.as_deref() == Some(source);
            let wanted = Wanted {
                field: text.text_field.as_deref().filter(|_| corpus),
                role: Role::Evaluation,
                seed: text.seed,
            };
            data::load(source, wanted, &hub, progress)?
        }
    };
    let windows = sequences::evaluation_windows(
        &set.name,
        &joined.text,
        model,
        corpus.context_length,
        corpus.add_bos_token,
        progress,
    )
    .map_err(|error| error.within(format!("evaluation set {}", set.name)))?;
    let set = EvaluationSet {
        name: set.name.clone(),
        windows,
    };
    Ok((set, joined.source))
}

/// Whether the file holds documents rather than one text.
fn has_rows(file: &str) -> bool {
    let name = file.to_ascii_lowercase();
    [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files() {
        let set = |text: &str| set_arg(text).map(|set| (set.name, set.file));
        assert_eq!(set("c4=a=b.txt"), Ok(("c4".into(), Some("a=b.txt".into()))));
        assert_eq!(set("wikitext"), Ok(("wikitext".into(), None)));
        assert_eq!(set("owner/name"), Ok(("owner/name".into(), None)));
        for bad in ["", "=x", "c4=", "../x=y", "a/../b", ".=x"] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn defaults_and_doubles() {
        let names =
            |sets: Vec<SetArg>| -> Vec<String> { sets.into_iter().map(|s| s.name).collect() };
        let text = |dataset: Option<&str>, file: Option<&str>| TextArgs {
            dataset: dataset.map(str::to_owned),
            text_file: file.map(Into::into),
            text_field: None,
            context_length: None,
            add_bos_token: true,
            seed: 0,
        };
        let wanted = |args: &[SetArg], text: TextArgs, built_in_model| {
            wanted(args, &text, built_in_model, Progress::silent())
        };
        for (dataset, file, built_in_model, expected) in [
            (None, None, false, &DEFAULT[..]),
            (None, None, true, &[BUILT_IN]),
            (Some("redpajama"), None, true, &DEFAULT),
            (Some("builtin"), None, false, &[BUILT_IN]),
            (None, Some("a.txt"), false, &[CORPUS_FILE]),
            (None, Some("a.txt"), true, &[CORPUS_FILE]),
            (Some("Cargo.toml"), None, false, &[CORPUS_FILE]),
        ] {
            let found = wanted(&[], text(dataset, file), built_in_model).expect("fine");
            assert_eq!(names(found), expected, "{dataset:?} {file:?}");
        }
        let twice = [set_arg("c4=x").expect("fine"), set_arg("c4").expect("fine")];
        let error = wanted(&twice, text(None, None), false).expect_err("twice");
        assert_eq!(error.exit_code(), 2);
    }
}
