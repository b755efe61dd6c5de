//! The one sequence that a picture shows.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    args::{TextArgs, TokenIds, token_ids},
    run::Run,
    sequences::{self, Sequences},
};
use crate::error::{Error, Result};

/// The reference program's.
const DEFAULT: &str = "Summer is warm. Winter is cold.";

/// Which sequence.
#[derive(Debug, Clone, Args)]
pub(super) struct SentenceArgs {
    /// The sequence is this text. Default: "Summer is warm. Winter is cold."
    #[arg(long, value_name = "S", conflicts_with_all = ["token_ids", "dataset", "text_file", "context_length"])]
    sentence: Option<String>,
    /// The sequence is these ids, used as they are.
    #[arg(long, value_name = "1,2,3", value_parser = token_ids, conflicts_with_all = ["dataset", "text_file", "context_length"])]
    token_ids: Option<TokenIds>,
    #[command(flatten)]
    pub(super) text: TextArgs,
}

impl SentenceArgs {
    /// The sequence: ids, a sentence, or the first window of a text.
    pub(super) fn load(&self, run: &Run) -> Result<Sequences> {
        let model = &run.checkpoint.model;
        if let Some(ids) = &self.token_ids {
            return Ok(sequences::of_ids(vec![ids.0.clone()]));
        }
        if self.text.dataset.is_some() || self.text.text_file.is_some() {
            return sequences::load(&self.text, model, run.built_in_model(), 1, run.progress);
        }
        if self.text.context_length.is_some() {
            return Err(
                Error::usage("--context-length", "it cuts a text, and there is none")
                    .remedy("give --dataset or --text-file too"),
            );
        }
        let sentence = self.sentence.as_deref().unwrap_or(DEFAULT);
        sequences::of_text(&self.text, model, sentence, run.progress)
    }

    /// What identifies the sequence among a run's settings.
    pub(super) fn settings(&self, sequences: &Sequences) -> Map<String, Value> {
        let ids = sequences.ids.concat();
        let mut settings = Map::new();
        let mut add = |name: &str, value: Value| settings.insert(name.to_owned(), value);
        add("context_length", json!(sequences.context_length));
        add("add_bos_token", json!(sequences.add_bos_token));
        let dataset = sequences.provenance.as_ref().map(|source| &source.name);
        add("dataset", json!(dataset));
        add("seed", json!(self.text.seed));
        let hash = blake3::hash(bytemuck::cast_slice(&ids));
        add("input", json!(hash.to_hex().to_string()));
        settings
    }
}
