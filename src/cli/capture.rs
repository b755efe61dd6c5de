//! `massact capture`

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, TextArgs, ThresholdArgs, TokenIds, positive, token_ids},
    run::{Done, Run},
    settings::{self, ids_hash},
    shared::Shared,
};
use crate::{
    backend::{AttentionCapture, StatisticsRequest},
    data::Sequences,
    engine::{Plan, Site},
    error::Result,
    experiments::capture,
    present::{self, FileRecorder},
    report::RunFolder,
};

/// Numbers, tensors and attention maps of any text or token ids.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").args(["text", "text_file", "token_ids", "dataset"]))]
pub(super) struct CaptureArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    /// One sequence: this text. Repeatable.
    #[arg(long, value_name = "S")]
    text: Vec<String>,
    /// A file that is the joined text, or - for standard input: windows are cut from its start.
    #[arg(long, value_name = "FILE")]
    text_file: Option<PathBuf>,
    /// A dataset by name, or a local file of documents; the built-in text when no input is named.
    #[arg(long, value_name = "NAME_OR_FILE")]
    dataset: Option<String>,
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
    seed: u64,
    /// Entries of largest magnitude to list.
    #[arg(long, value_name = "K", default_value_t = 5)]
    top_k: usize,
    /// Tensors to look at: embedding, layer_input, attention_input, q, k, v, attention_gate,
    /// attention_output, mixer_output, residual_mid, mlp_input, router_logits, gate, mlp_inner,
    /// mlp_output, layer_output, final_norm; or all.
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        default_value = "layer_output"
    )]
    sites: Vec<String>,
    /// Write those tensors whole to capture.safetensors.
    #[arg(long)]
    raw: bool,
    /// Write attention maps to attention.safetensors.
    #[arg(long, value_enum)]
    attention: Option<AttentionArg>,
    /// Compute the next-token negative log-likelihood.
    #[arg(long)]
    nll: bool,
    /// Report the first N logits of the last position.
    #[arg(long, value_name = "N", default_value_t = 0)]
    last_logits: usize,
    /// Report the N most likely tokens after the last position, with their probabilities.
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_tokens: usize,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which attention maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum AttentionArg {
    /// Probabilities and logits, mean over heads.
    Mean,
    /// Probabilities and logits of every head.
    Heads,
    /// What each key receives, per head.
    Sink,
}

impl CaptureArgs {
    #[cfg(test)]
    pub(super) fn model_name(&self) -> Option<&str> {
        self.model.source.name()
    }

    fn text(&self) -> TextArgs {
        TextArgs {
            dataset: self.dataset.clone().or_else(|| Some("builtin".to_owned())),
            text_file: self.text_file.clone(),
            context_length: self.context_length,
            add_bos_token: self.add_bos_token,
            seed: self.seed,
        }
    }

    /// The sites that are asked for; none for all that the model has.
    fn sites(&self) -> Result<Option<Vec<Site>>> {
        if let [all] = self.sites.as_slice()
            && all.trim() == "all"
        {
            return Ok(None);
        }
        let sites = self.sites.iter().map(|name| Site::parse(name.trim()));
        sites.collect::<Result<_>>().map(Some)
    }

    fn plan(&self, sites: Vec<Site>) -> Plan {
        Plan {
            statistics: StatisticsRequest {
                top_k: self.top_k,
                abs_threshold: self.thresholds.abs_threshold as f32,
                rel_threshold: self.thresholds.rel_threshold as f32,
            },
            raw: if self.raw { sites.clone() } else { Vec::new() },
            sites,
            attention: AttentionCapture {
                mean: self.attention == Some(AttentionArg::Mean),
                heads: self.attention == Some(AttentionArg::Heads),
                sink: self.attention == Some(AttentionArg::Sink),
            },
            nll: self.nll,
            last_logits: self.last_logits,
            ..Plan::default()
        }
    }

    pub(super) fn settings(&self, sites: &[Site], sequences: &Sequences) -> Settings<'_> {
        let lengths: Vec<usize> = sequences.ids.iter().map(Vec::len).collect();
        Settings {
            context_length: sequences.context_length,
            add_bos_token: sequences.add_bos_token,
            sites: sites.to_vec(),
            top_k: self.top_k,
            raw: self.raw,
            attention: self.attention,
            nll: self.nll,
            last_logits: self.last_logits,
            top_tokens: self.top_tokens,
            thresholds: self.thresholds,
            input: ids_hash(&sequences.ids),
            lengths: lengths
                .iter()
                .any(|length| *length != sequences.context_length)
                .then_some(lengths),
            revision: self.model.source.revision.as_deref(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    context_length: usize,
    add_bos_token: bool,
    sites: Vec<Site>,
    top_k: usize,
    raw: bool,
    attention: Option<AttentionArg>,
    nll: bool,
    last_logits: usize,
    top_tokens: usize,
    #[serde(flatten)]
    thresholds: ThresholdArgs,
    input: String,
    /// Tokens of each sequence where they differ: the same ids may be cut elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    lengths: Option<Vec<usize>>,
    revision: Option<&'a str>,
}

pub(super) fn run(args: &CaptureArgs, shared: &Shared) -> Result<Done> {
    let sites = args.sites()?;
    let run = Run::open(shared, "capture", &args.model, &args.output, args.seed)?;
    let model = run.model();
    let all = || {
        let sites = Site::ALL.into_iter();
        sites.filter(|site| site.exists_in(&model.spec)).collect()
    };
    let plan = args.plan(sites.unwrap_or_else(all));
    let text = args.text();
    let sequences = if !args.token_ids.is_empty() {
        Sequences::of_ids(args.token_ids.iter().map(|ids| ids.0.clone()).collect())
    } else if !args.text.is_empty() {
        Sequences::of_texts(&args.text, text.add_bos_token, model, run.progress)?
    } else {
        run.windows(&text, args.nsamples)?
    };
    let settings = settings::value(&args.settings(&plan.sites, &sequences))?;
    let experiment = |folder: &RunFolder| {
        let mut recorder = FileRecorder::create(folder, &plan, model, &sequences.ids, None)?;
        let finding = capture::run(
            run.session(),
            &sequences.ids,
            &plan,
            args.top_tokens,
            &mut recorder,
        )?;
        recorder.commit()?;
        Ok(finding)
    };
    run.conduct(
        (&sequences).into(),
        &settings,
        experiment,
        |result, context| present::capture::artifacts(&result, context),
    )
}
