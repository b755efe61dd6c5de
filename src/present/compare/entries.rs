//! The checkpoints of a comparison.

use serde_json::Value;

use crate::{
    error::Result,
    experiments::{
        changes::{Changes, Massive, Side},
        compare::Profile,
        places::Values,
    },
    report::{RunRecord, run::ModelRecord},
};

/// One checkpoint's part.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) label: String,
    /// As given, without label and revision.
    pub(crate) name: String,
    pub(crate) revision: Option<String>,
    /// Folder of its own files, within the comparison's.
    pub(crate) place: String,
    pub(crate) outcome: Result<Measured>,
}

/// What was found in one checkpoint.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) model: ModelRecord,
    pub(crate) nsamples: usize,
    /// Identifies the token ids that were run.
    pub(crate) tokens: String,
    pub(crate) profile: Profile,
    /// What is massive, if tokens-analysis ran.
    pub(crate) massive: Option<Massive>,
    /// Values where only another checkpoint's are massive.
    pub(crate) elsewhere: Values,
    pub(crate) record: RunRecord,
    /// JSON files of the experiments.
    pub(crate) documents: Vec<(&'static str, Value)>,
}

impl Entry {
    /// How its weights are stored; none where it could not be measured.
    pub(super) fn format(&self) -> Option<&str> {
        let measured = self.outcome.as_ref().ok()?;
        Some(&measured.record.weights.format)
    }
}

/// Whether all checkpoints ran the same token ids.
pub(crate) fn same_tokens(entries: &[Entry]) -> bool {
    let mut tokens = entries
        .iter()
        .filter_map(|entry| entry.outcome.as_ref().ok());
    let first = tokens.next().map(|measured| &measured.tokens);
    tokens.all(|measured| Some(&measured.tokens) == first)
}

/// Those that could be measured.
pub(super) fn measured(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &Measured)> {
    entries
        .iter()
        .filter_map(|entry| Some((entry, entry.outcome.as_ref().ok()?)))
}

impl Measured {
    /// Why no value of the other is the same value as one of this, if that is so.
    pub(crate) fn unmatched(&self, tokens: &str, model: &ModelRecord) -> Option<&'static str> {
        let shape = |model: &ModelRecord| (model.layers, model.hidden_size);
        if self.tokens != tokens {
            Some("its tokens are others")
        } else if shape(&self.model) != shape(model) {
            Some("it has other layers or another width")
        } else {
            None
        }
    }

    /// As one of the two that changes lie between.
    fn side(&self) -> Side<'_> {
        Side {
            profile: &self.profile,
            massive: self.massive.as_ref(),
            elsewhere: &self.elsewhere,
        }
    }
}

/// What a checkpoint has become, seen from the first one.
#[derive(Debug)]
pub(super) struct Since<'a> {
    /// The first one's label.
    pub(super) from: &'a str,
    /// Why there is nothing to match, or what became of what.
    pub(super) found: Result<Changes, &'static str>,
}

/// For each checkpoint, what it has become since the first that was measured; none for that one and
/// for those that failed.
pub(super) fn since_first(entries: &[Entry]) -> Vec<Option<Since<'_>>> {
    let mut first: Option<(&str, &Measured)> = None;
    let since = entries.iter().map(|entry| {
        let measured = entry.outcome.as_ref().ok()?;
        let (from, first) = match first {
            Some(first) => first,
            None => {
                first = Some((&entry.label, measured));
                return None;
            }
        };
        let found = match first.unmatched(&measured.tokens, &measured.model) {
            Some(why) => Err(why),
            None => Ok(Changes::between(
                first.model.layers,
                first.side(),
                measured.side(),
            )),
        };
        Some(Since { from, found })
    });
    since.collect()
}
