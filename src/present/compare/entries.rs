//! The checkpoints of a comparison.

use serde_json::Value;

use crate::{
    error::Result,
    experiments::compare::Profile,
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
    pub(crate) record: RunRecord,
    /// JSON files of the experiments.
    pub(crate) documents: Vec<(&'static str, Value)>,
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
