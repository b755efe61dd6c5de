//! `massact self-attention`

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    args::{ModelArgs, OutputArgs, ThresholdArgs},
    run::{Done, Run},
    sentence::{SentenceArgs, SentenceSettings},
    settings,
    shared::Shared,
};
use crate::{
    data::Sequences,
    error::{Error, Result},
    experiments::{
        Finding,
        self_attention::{self, HeadLayers, Request},
    },
    present::{
        FileRecorder,
        self_attention::{MapRecorder, artifacts},
    },
    report::RunFolder,
};

/// Largest maps of all heads of a layer that are held in memory.
const MOST_HEAD_BYTES: usize = 1 << 29;

/// Who attends to the tokens with massive activations, and what they add to the output?
#[derive(Debug, Args)]
pub(super) struct SelfAttentionArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    sentence: SentenceArgs,
    /// Show logits in the picture; false: probabilities. The files hold both.
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    show_logits: bool,
    /// Maps and pictures of every head of these layers too: `all`, or numbers such as 0,5.
    #[arg(long, value_name = "LAYERS", value_parser = layers)]
    heads: Option<HeadLayers>,
    /// Follow the tokens at these positions instead of those with massive activations.
    #[arg(long, value_name = "0,4", value_delimiter = ',')]
    positions: Option<Vec<usize>>,
    /// Write the two parts of the attention output whole to attention_output.safetensors.
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

fn layers(text: &str) -> Result<HeadLayers, String> {
    if text == "all" {
        return Ok(HeadLayers::All);
    }
    let layers = text.split(',').map(|layer| layer.trim().parse());
    let mut layers: Vec<usize> = layers
        .collect::<Result<_, _>>()
        .map_err(|_| "expected `all` or layer numbers separated by commas, such as 0,5")?;
    layers.sort_unstable();
    layers.dedup();
    Ok(HeadLayers::Some(layers))
}

#[derive(Serialize)]
pub(super) struct Settings<'a> {
    #[serde(flatten)]
    sentence: SentenceSettings,
    show_logits: bool,
    heads: Value,
    positions: Option<&'a [usize]>,
    raw: bool,
    #[serde(flatten)]
    thresholds: ThresholdArgs,
}

impl SelfAttentionArgs {
    pub(super) fn settings(&self, sequences: &Sequences) -> Settings<'_> {
        let revision = self.model.source.revision.as_deref();
        Settings {
            sentence: self.sentence.settings(sequences, revision),
            show_logits: self.show_logits,
            heads: match &self.heads {
                None | Some(HeadLayers::None) => Value::Null,
                Some(HeadLayers::All) => json!("all"),
                Some(HeadLayers::Some(layers)) => json!(layers),
            },
            positions: self.positions.as_deref(),
            raw: self.raw,
            thresholds: self.thresholds,
        }
    }

    fn request(&self) -> Request {
        Request {
            abs_threshold: self.thresholds.abs_threshold as f32,
            rel_threshold: self.thresholds.rel_threshold as f32,
            positions: self.positions.clone(),
            head_layers: self.heads.clone().unwrap_or_default(),
        }
    }
}

pub(super) fn run(args: &SelfAttentionArgs, shared: &Shared) -> Result<Done> {
    let run = Run::open(
        shared,
        "self-attention",
        &args.model,
        &args.output,
        args.sentence.text.seed,
    )?;
    let model = run.model();
    let sequences = args.sentence.load(&run)?;
    let request = args.request();
    let settings = settings::value(&args.settings(&sequences))?;
    let experiment = |folder: &RunFolder| {
        self_attention::check(run.session(), &sequences.ids, &request)?;
        check_heads(args, &run, sequences.context_length)?;
        let plan = self_attention::plan(&request);
        let mut files = FileRecorder::create(folder, &plan, model, &sequences.ids)?;
        if args.raw {
            files.take_parts(folder, model, &sequences.ids)?;
        }
        let mut recorder = MapRecorder::new(files, args.show_logits);
        let finding = self_attention::run(run.session(), &sequences.ids, &request, &mut recorder)?;
        Ok(Finding {
            result: (finding.result, recorder.finish()?),
            timings: finding.timings,
        })
    };
    run.conduct(
        (&sequences).into(),
        &settings,
        experiment,
        |(result, maps), context| artifacts(&result, maps, context),
    )
}

/// Every head has a map of T x T; that of long sequences is refused before the work.
fn check_heads(args: &SelfAttentionArgs, run: &Run<'_>, tokens: usize) -> Result<()> {
    let layers = &run.model().spec.layers;
    let heads = layers.iter().map(|layer| layer.attention.heads).max();
    let bytes = 2 * 4 * heads.unwrap_or(0) * tokens * tokens;
    if args.heads.is_none() || bytes <= MOST_HEAD_BYTES {
        return Ok(());
    }
    Err(Error::usage(
        "--heads",
        format!(
            "the maps of a layer's heads over {tokens} tokens need {:.1} GiB",
            bytes as f64 / f64::from(1 << 30)
        ),
    )
    .remedy("leave it out (sink_mass is per head in any case), or take fewer tokens"))
}
