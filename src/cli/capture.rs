//! `massact capture`

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use serde_json::json;

use super::{
    args::{ModelArgs, OutputArgs, TextArgs, ThresholdArgs, TokenIds, positive, token_ids},
    device::on_device,
    existence_validation::significant,
    recorder::FileRecorder,
    run::Run,
    sequences,
};
use crate::{
    backend::{AttentionCapture, StatisticsRequest},
    engine::{Plan, Site},
    error::Result,
    experiments::{
        Subject,
        capture::{self, Capture},
    },
    report::table::{Align, Row, Table},
};

/// Numbers, tensors and attention maps of any text or token ids.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("input").args(["text", "text_file", "token_ids", "dataset"]))]
pub(super) struct CaptureArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// One sequence: this text.
    #[arg(long, value_name = "S")]
    text: Option<String>,
    /// A file that is the joined text: tokenised whole and cut from its start.
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
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, default_value_t = true)]
    add_bos_token: bool,
    /// Seed of the random choice of documents.
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    seed: u64,
    /// Entries of largest magnitude to list.
    #[arg(long, value_name = "K", default_value_t = 5)]
    top_k: usize,
    /// Tensors to look at: embedding, layer_input, attention_input, q, k, v, attention_output,
    /// residual_mid, mlp_input, gate, mlp_inner, mlp_output, layer_output, final_norm.
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
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which attention maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AttentionArg {
    /// Probabilities and logits, mean over heads.
    Mean,
    /// Probabilities and logits of every head.
    Heads,
    /// What each key receives, per head.
    Sink,
}

impl CaptureArgs {
    fn text(&self) -> TextArgs {
        TextArgs {
            dataset: self.dataset.clone().or_else(|| Some("builtin".to_owned())),
            text_file: self.text_file.clone(),
            context_length: self.context_length,
            add_bos_token: self.add_bos_token,
            seed: self.seed,
        }
    }

    fn plan(&self) -> Result<Plan> {
        let sites = self
            .sites
            .iter()
            .map(|name| Site::parse(name.trim()))
            .collect::<Result<Vec<_>>>()?;
        Ok(Plan {
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
        })
    }
}

pub(super) fn run(args: &CaptureArgs) -> Result<()> {
    let plan = args.plan()?;
    let run = Run::open("capture", &args.model, &args.output, args.seed)?;
    let model = &run.checkpoint.model;
    let text = args.text();
    let sequences = if !args.token_ids.is_empty() {
        sequences::of_ids(args.token_ids.iter().map(|ids| ids.0.clone()).collect())
    } else if let Some(sentence) = &args.text {
        sequences::of_text(&text, model, sentence, run.progress)?
    } else {
        sequences::load(
            &text,
            model,
            run.built_in_model(),
            args.nsamples,
            run.progress,
        )?
    };
    let loaded = run.elapsed();
    let settings = json!({
        "context_length": sequences.context_length,
        "add_bos_token": sequences.add_bos_token,
        "sites": plan.sites,
        "top_k": args.top_k,
        "raw": args.raw,
        "attention": args.attention.map(|kind| format!("{kind:?}").to_lowercase()),
        "nll": args.nll,
        "last_logits": args.last_logits,
        "abs_threshold": args.thresholds.abs_threshold,
        "rel_threshold": args.thresholds.rel_threshold,
        "input": blake3::hash(bytemuck::cast_slice(&sequences.ids.concat())).to_hex().to_string(),
        "revision": args.model.revision,
    });
    let folder = run.folder(&settings)?;
    let mut recorder = FileRecorder::create(&folder, &plan, model, &sequences.ids)?;
    let finding = on_device!(&run.device, backend => capture::run(
        &Subject {
            backend,
            model,
            sequences: &sequences.ids,
            progress: run.progress,
        },
        &plan,
        &mut recorder,
    ))?;
    recorder.commit()?;
    let document = run.document(capture::SCHEMA, &settings, &finding.result)?;
    folder.write_json("capture.json", &document)?;
    run.finish(&folder, settings, &sequences, loaded, finding.timings)?;
    run.present(&folder, &document, || table(&finding.result).print())
}

fn table(capture: &Capture) -> Table {
    let mut table = Table::new([
        ("sequence", Align::Right),
        ("site", Align::Left),
        ("layer", Align::Right),
        ("max", Align::Right),
        ("median", Align::Right),
        ("massive", Align::Right),
        ("nll", Align::Right),
    ]);
    for (index, sequence) in capture.sequences.iter().enumerate() {
        let nll = sequence.nll.map_or_else(String::new, significant);
        let layers = sequence.layers.iter().map(|layer| ("layer_output", layer));
        let others = sequence
            .sites
            .iter()
            .flat_map(|(site, layers)| layers.iter().map(move |layer| (*site, layer)));
        for (site, layer) in layers.chain(others) {
            table.push(Row::new([
                index.to_string(),
                site.to_owned(),
                layer.layer.to_string(),
                significant(f64::from(layer.max)),
                significant(f64::from(layer.median)),
                layer.massive.len().to_string(),
                nll.clone(),
            ]));
        }
    }
    table
}
