//! What the command line names: `[LABEL=]CHECKPOINT[@REVISION]`.

use std::{collections::HashSet, path::Path};

use super::super::args;
use crate::{
    error::{Error, Result},
    report::visible::visible,
};

/// A checkpoint to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) label: String,
    pub(super) name: String,
    pub(super) revision: Option<String>,
}

/// All of them, with labels that differ.
pub(super) fn parse(arguments: &[String]) -> Result<Vec<Target>> {
    let targets = arguments
        .iter()
        .map(|argument| target(argument))
        .collect::<Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    for target in &targets {
        if !seen.insert(&target.label) {
            return Err(Error::usage(
                format!("label `{}`", target.label),
                "two checkpoints have it",
            )
            .remedy("give them labels of their own: NAME=CHECKPOINT"));
        }
    }
    Ok(targets)
}

fn target(argument: &str) -> Result<Target> {
    // A folder may have any character in its name.
    let (label, place) = match argument.split_once('=') {
        Some((label, place)) if !Path::new(argument).exists() => (Some(label), place),
        _ => (None, argument),
    };
    let (name, revision) = match place.rsplit_once('@') {
        Some((name, revision)) if !Path::new(place).exists() => (name, Some(revision)),
        _ => (place, None),
    };
    if name.is_empty() || label == Some("") || revision == Some("") {
        return Err(
            Error::usage(format!("checkpoint `{argument}`"), "a part of it is empty")
                .remedy("write [LABEL=]CHECKPOINT[@REVISION]"),
        );
    }
    let label = match label {
        Some(label) => args::label(label)
            .map_err(|why| Error::usage(format!("checkpoint `{argument}`"), why))?,
        None => {
            let last = place.trim_end_matches('/');
            let last = last.rsplit('/').next().unwrap_or(last);
            visible(last).into_owned()
        }
    };
    Ok(Target {
        label,
        name: name.to_owned(),
        revision: revision.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(argument: &str) -> (String, String, Option<String>) {
        let target = target(argument).expect(argument);
        (target.label, target.name, target.revision)
    }

    #[test]
    fn reads_labels_and_revisions() {
        let text = |text: &str| text.to_owned();
        for (argument, label, name, revision) in [
            ("runs/a/", "a", "runs/a/", None),
            ("baseline=runs/a", "baseline", "runs/a", None),
            (
                "openai-community/gpt2",
                "gpt2",
                "openai-community/gpt2",
                None,
            ),
            (
                "EleutherAI/pythia-70m@step1000",
                "pythia-70m@step1000",
                "EleutherAI/pythia-70m",
                Some("step1000"),
            ),
            (
                "early=EleutherAI/pythia-70m@step1",
                "early",
                "EleutherAI/pythia-70m",
                Some("step1"),
            ),
        ] {
            assert_eq!(
                of(argument),
                (text(label), text(name), revision.map(text)),
                "{argument}"
            );
        }
        let place = tempfile::tempdir().expect("a folder");
        let odd = place.path().join("a=b@c");
        std::fs::create_dir(&odd).expect("made");
        let odd = odd.to_str().expect("UTF-8");
        assert_eq!(of(odd), (text("a=b@c"), text(odd), None));
    }

    #[test]
    fn refuses_empty_parts_and_equal_labels() {
        for argument in ["=a", "x=", "a@", "x=@y", ""] {
            assert!(target(argument).is_err(), "{argument}");
        }
        assert!(parse(&["a/x".into(), "b/x".into()]).is_err());
        assert!(parse(&["a/x".into(), "y=b/x".into()]).is_ok());
    }
}
