//! Any text or token ids as a command's sequences.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{
    args::{TextArgs, TokenIds, positive, token_ids},
    run::Run,
};
use crate::{data::Sequences, error::Result};

/// Which sequences.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("input").args(["text", "text_file", "token_ids", "dataset"]))]
pub(super) struct InputArgs {
    /// One sequence: this text. Repeatable.
    #[arg(long, value_name = "S")]
    text: Vec<String>,
    /// A file that is the joined text, or - for standard input: windows are cut from its start.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// A dataset by name, or a local file of documents; the built-in text when no input is named.
    #[arg(long, value_name = "NAME_OR_FILE")]
    dataset: Option<String>,
    /// The field or column of --dataset that holds the text. Default: text, or the known dataset's own.
    #[arg(long, value_name = "NAME", requires = "dataset")]
    text_field: Option<String>,
    /// Each --text is what a user says, in the checkpoint's chat template, which has its own BOS.
    #[arg(long, requires = "text")]
    chat: bool,
    /// One sequence: these ids, used as they are. Repeatable.
    #[arg(long, value_name = "1,2,3", value_parser = token_ids)]
    token_ids: Vec<TokenIds>,
    /// Tokens in a window of a text file or dataset, BOS included.
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    /// Windows taken from a text file or dataset.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    nsamples: usize,
    /// Start every text with the BOS token (EOS if the tokenizer has no BOS).
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true,
        num_args = 0..=1, default_missing_value = "true")]
    add_bos_token: bool,
    /// Seed of the random choice of documents.
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    pub(super) seed: u64,
}

impl InputArgs {
    /// The ids, the text, or the windows.
    pub(super) fn load(&self, run: &Run<'_>) -> Result<Sequences> {
        if !self.token_ids.is_empty() {
            let ids = self.token_ids.iter().map(|ids| ids.0.clone());
            return Ok(Sequences::of_ids(ids.collect()));
        }
        if !self.text.is_empty() {
            return run.texts(&self.text, self.add_bos_token, self.chat);
        }
        let text = TextArgs {
            dataset: self.dataset.clone().or_else(|| Some("builtin".to_owned())),
            text_file: self.text_file.clone(),
            text_field: self.text_field.clone(),
            context_length: self.context_length,
            add_bos_token: self.add_bos_token,
            seed: self.seed,
        };
        run.windows(&text, self.nsamples)
    }
}
