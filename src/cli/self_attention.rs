//! `massact self-attention`

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    args::{LayerArgs, ModelArgs, OutputArgs, ScaleArgs, ThresholdArgs},
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
        self_attention::{Look, MapRecorder, artifacts},
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
    drawn: LayerArgs,
    /// One colour scale for all maps of a picture.
    #[arg(long)]
    shared_scale: bool,
    #[command(flatten)]
    draw: ScaleArgs,
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
    layers: Option<&'a BTreeSet<usize>>,
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
            layers: self.drawn.listed(),
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
    let drawn = args.drawn.of(model.spec.layers.len())?;
    if let Some(drawn) = &drawn {
        let drawn: Vec<usize> = drawn.iter().copied().collect();
        self_attention::check_layers("--layers", &model.spec.layers, &drawn)?;
    }
    let sequences = args.sentence.load(&run)?;
    let request = args.request();
    let settings = settings::value(&args.settings(&sequences))?;
    let experiment = |folder: &RunFolder| {
        self_attention::check(run.session(), &sequences.ids, &request)?;
        check_heads(args, &run, sequences.context_length)?;
        let plan = self_attention::plan(&request);
        let mut files = FileRecorder::create(folder, &plan, model, &sequences.ids, drawn.as_ref())?;
        if args.raw {
            files.take_parts(folder, model, &sequences.ids)?;
        }
        let mut recorder = MapRecorder::new(files, &model.spec, args.show_logits, drawn.clone());
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
        |(result, maps), context| {
            let look = Look {
                scale: args.draw.scale,
                shared_scale: args.shared_scale,
            };
            artifacts(&result, maps, look, context)
        },
    )
}

/// Every head has a map of T x T; that of long sequences is refused before the work.
fn check_heads(args: &SelfAttentionArgs, run: &Run<'_>, tokens: usize) -> Result<()> {
    let layers = &run.model().spec.layers;
    let heads = layers
        .iter()
        .flat_map(|layer| &layer.attention)
        .map(|attention| attention.heads)
        .max();
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
