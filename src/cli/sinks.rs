//! `massact sinks`

use clap::Args;
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, TextArgs, TokenIds, positive, token_ids},
    run::{Done, Run},
    settings::{self, TextSettings, ids_hash},
    shared::Shared,
};
use crate::{
    data::Sequences,
    error::Result,
    experiments::sinks::{self, Request},
    present,
};

/// Tokens of a sequence in arXiv 2410.10781.
const CONTEXT_LENGTH: usize = 64;

/// Which heads attend to which tokens alone, how often, and how far hidden states are compressed?
#[derive(Debug, Args)]
pub(super) struct SinksArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// A sequence of these ids, used as they are. Repeatable.
    #[arg(long, value_name = "1,2,3", value_parser = token_ids, conflicts_with_all = ["dataset", "text_file", "context_length", "nsamples"])]
    token_ids: Vec<TokenIds>,
    /// Sequences; they have 64 tokens unless --context-length says otherwise.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    nsamples: usize,
    /// A key is a sink of a head if it receives more than this of the attention.
    #[arg(long, value_name = "X", default_value_t = 0.3)]
    epsilon: f64,
    /// A token points where the first one does if the cosine of their hidden states is above this...
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    cosine: f64,
    /// ...and is a secondary sink if it does in more than so many layers.
    #[arg(long, value_name = "N", default_value_t = 4)]
    secondary_layers: usize,
    /// A gate on attention is nearly closed below this.
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    closed_gate: f64,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Serialize)]
pub(super) struct Settings {
    #[serde(flatten)]
    text: TextSettings,
    nsamples: usize,
    /// Identifies the ids.
    input: String,
    epsilon: f64,
    cosine: f64,
    secondary_layers: usize,
    closed_gate: f64,
}

impl SinksArgs {
    pub(super) fn settings(&self, sequences: &Sequences) -> Settings {
        let revision = self.model.source.revision.as_deref();
        Settings {
            text: TextSettings::of(sequences, self.text.seed, revision),
            nsamples: sequences.ids.len(),
            input: ids_hash(&sequences.ids),
            epsilon: self.epsilon,
            cosine: self.cosine,
            secondary_layers: self.secondary_layers,
            closed_gate: self.closed_gate,
        }
    }

    fn load(&self, run: &Run<'_>) -> Result<Sequences> {
        if !self.token_ids.is_empty() {
            let ids = self.token_ids.iter().map(|ids| ids.0.clone());
            return Ok(Sequences::of_ids(ids.collect()));
        }
        let context_length = self.text.context_length.or(Some(CONTEXT_LENGTH));
        let text = TextArgs {
            context_length,
            ..self.text.clone()
        };
        run.windows(&text, self.nsamples)
    }
}

pub(super) fn run(args: &SinksArgs, shared: &Shared) -> Result<Done> {
    let run = Run::open(shared, "sinks", &args.model, &args.output, args.text.seed)?;
    let sequences = args.load(&run)?;
    let request = Request {
        epsilon: args.epsilon,
        cosine: args.cosine,
        more_than_layers: args.secondary_layers,
        closed_below: args.closed_gate,
    };
    run.conduct(
        (&sequences).into(),
        &settings::value(&args.settings(&sequences))?,
        |_| sinks::run(run.session(), &sequences.ids, &request),
        |result, context| present::sinks::artifacts(&result, request.epsilon, context),
    )
}
