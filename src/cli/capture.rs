//! `massact capture`

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    args::{ModelArgs, OutputArgs, ThresholdArgs, listed},
    input::InputArgs,
    run::{Done, Run},
    settings::{self, InputSettings},
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
pub(super) struct CaptureArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Entries of largest magnitude to list.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = listed)]
    top_k: usize,
    /// Tensors to look at: embedding, layer_input, attention_input, q, k, v, attention_gate,
    /// attention_output, mixer_output, residual_mid, mlp_input, router_logits, gate, mlp_inner,
    /// expert_inner, expert_output, mlp_output, stream_sum, layer_output, final_norm; or all.
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
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = listed)]
    last_logits: usize,
    /// Report the N most likely tokens after the last position, with their probabilities.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = listed)]
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
                moments: true,
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
        Settings {
            input: InputSettings::of(sequences, self.model.source.revision.as_deref()),
            sites: sites.to_vec(),
            top_k: self.top_k,
            raw: self.raw,
            attention: self.attention,
            nll: self.nll,
            last_logits: self.last_logits,
            top_tokens: self.top_tokens,
            thresholds: self.thresholds,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    #[serde(flatten)]
    input: InputSettings<'a>,
    sites: Vec<Site>,
    top_k: usize,
    raw: bool,
    attention: Option<AttentionArg>,
    nll: bool,
    last_logits: usize,
    top_tokens: usize,
    #[serde(flatten)]
    thresholds: ThresholdArgs,
}

pub(super) fn run(args: &CaptureArgs, shared: &Shared) -> Result<Done> {
    let sites = args.sites()?;
    let run = Run::open(
        shared,
        "capture",
        &args.model,
        &args.output,
        args.input.seed,
    )?;
    let model = run.model();
    let all = || {
        let sites = Site::ALL.into_iter();
        sites.filter(|site| site.exists_in(&model.spec)).collect()
    };
    let plan = args.plan(sites.unwrap_or_else(all));
    let sequences = args.input.load(&run)?;
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
