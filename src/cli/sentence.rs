//! The one sequence that a picture shows.

use clap::Args;
use serde::Serialize;

use super::{
    args::{TextArgs, TokenIds, token_ids},
    run::Run,
    settings::{TextSettings, ids_hash},
};
use crate::{
    data::Sequences,
    error::{Error, Result},
};

/// The reference program's.
const DEFAULT: &str = "Summer is warm. Winter is cold.";

/// Which sequence.
#[derive(Debug, Clone, Args)]
pub(super) struct SentenceArgs {
    /// The sequence is this text. Default: "Summer is warm. Winter is cold."
    #[arg(long, value_name = "S", conflicts_with_all = ["token_ids", "dataset", "text_file", "context_length"])]
    sentence: Option<String>,
    /// The sentence is what a user says, in the checkpoint's chat template, which has its own BOS.
    #[arg(long, conflicts_with_all = ["token_ids", "dataset", "text_file"])]
    chat: bool,
    /// The sequence is these ids, used as they are.
    #[arg(long, value_name = "1,2,3", value_parser = token_ids, conflicts_with_all = ["dataset", "text_file", "context_length"])]
    token_ids: Option<TokenIds>,
    #[command(flatten)]
    pub(super) text: TextArgs,
}

/// The sequence among a run's settings.
#[derive(Serialize)]
pub(super) struct SentenceSettings {
    #[serde(flatten)]
    text: TextSettings,
    /// Identifies its ids.
    input: String,
}

impl SentenceArgs {
    /// The sequence: ids, a sentence, or the first window of a text.
    pub(super) fn load(&self, run: &Run<'_>) -> Result<Sequences> {
        self.load_some(run, 1)
    }

    /// The same; of a text its first `nsamples` windows.
    pub(super) fn load_some(&self, run: &Run<'_>, nsamples: usize) -> Result<Sequences> {
        if let Some(ids) = &self.token_ids {
            return Ok(Sequences::of_ids(vec![ids.0.clone()]));
        }
        if self.text.dataset.is_some() || self.text.text_file.is_some() {
            return run.windows(&self.text, nsamples);
        }
        if self.text.context_length.is_some() {
            return Err(
                Error::usage("--context-length", "it cuts a text, and there is none")
                    .remedy("give --dataset or --text-file too"),
            );
        }
        if nsamples > 1 {
            return Err(
                Error::usage("--nsamples", "it cuts a text, and there is none")
                    .remedy("give --dataset or --text-file too"),
            );
        }
        let sentence = self.sentence.as_deref().unwrap_or(DEFAULT);
        run.texts(&[sentence], self.text.add_bos_token, self.chat)
    }

    pub(super) fn settings(
        &self,
        sequences: &Sequences,
        revision: Option<&str>,
    ) -> SentenceSettings {
        SentenceSettings {
            text: TextSettings::of(sequences, self.text.seed, revision),
            input: ids_hash(&sequences.ids),
        }
    }
}
