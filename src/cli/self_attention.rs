//! `massact self-attention`

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::{
    args::{ModelArgs, OutputArgs, ThresholdArgs},
    attention_figures::{self, Labels, Pictures},
    existence_validation::significant,
    figures,
    recorder::FileRecorder,
    run::Run,
    sentence::SentenceArgs,
};
use crate::{
    error::{Error, Result},
    experiments::self_attention::{self, HeadLayers, Reason, Request, SelfAttention},
    report::{
        html::{Body, Section},
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// Largest maps of all heads of a layer that are held in memory.
const MOST_HEAD_BYTES: usize = 1 << 29;

/// Who attends to the tokens with massive activations, and what they add to the output?
#[derive(Debug, Args)]
pub(super) struct SelfAttentionArgs {
    #[command(flatten)]
    model: ModelArgs,
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
    output: OutputArgs,
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

pub(super) fn run(args: &SelfAttentionArgs) -> Result<()> {
    let run = Run::open(
        "self-attention",
        &args.model,
        &args.output,
        args.sentence.text.seed,
    )?;
    let model = run.model();
    let sequences = args.sentence.load(&run)?;
    let loaded = run.elapsed();
    let request = Request {
        abs_threshold: args.thresholds.abs_threshold as f32,
        rel_threshold: args.thresholds.rel_threshold as f32,
        positions: args.positions.clone(),
        head_layers: args.heads.clone().unwrap_or_default(),
    };
    self_attention::check(&run.session, &sequences.ids, &request)?;
    check_heads(args, &run, sequences.context_length)?;
    let mut settings = args.sentence.settings(&sequences);
    for (name, value) in [
        ("show_logits", json!(args.show_logits)),
        ("heads", heads_setting(&request.head_layers)),
        ("positions", json!(args.positions)),
        ("raw", json!(args.raw)),
        ("abs_threshold", json!(args.thresholds.abs_threshold)),
        ("rel_threshold", json!(args.thresholds.rel_threshold)),
        ("revision", json!(args.model.revision)),
    ] {
        settings.insert(name.to_owned(), value);
    }
    let settings = Value::Object(settings);
    let folder = run.folder(&settings)?;
    let plan = self_attention::plan(&request);
    let mut files = FileRecorder::create(&folder, &plan, model, &sequences.ids)?;
    if args.raw {
        files.take_parts(&folder, model, &sequences.ids)?;
    }
    let mut pictures = Pictures::new(&mut files, args.show_logits);
    let finding = self_attention::run(&run.session, &sequences.ids, &request, &mut pictures)?;
    let Pictures { means, heads, .. } = pictures;
    files.commit()?;
    let result = &finding.result;
    let document = run.document(self_attention::SCHEMA, &settings, result)?;
    folder.write_json("self_attention.json", &document)?;

    let name = run.model_name();
    let labels = Labels {
        tokens: result
            .tokens
            .iter()
            .map(|token| token_label(token))
            .collect(),
        emphasised: match result.followed_because {
            Reason::First => BTreeSet::new(),
            _ => result.followed.iter().copied().collect(),
        },
        show_logits: args.show_logits,
        given: result.followed_because == Reason::Given,
    };
    let mut sections = Vec::new();
    let mut add = |heading: &str, svg: String| {
        sections.push(Section::new(heading, Body::Figure(svg)));
    };
    add(
        "Attention, mean over heads",
        attention_figures::grid(
            &folder,
            "self_attention",
            format!("Self-attention of {name}, mean over heads"),
            &labels,
            means,
        )?,
    );
    add(
        "Attention to the followed tokens",
        attention_figures::trajectory(&folder, &name, result)?,
    );
    add(
        "Attention output in two parts",
        attention_figures::decomposition(&folder, &name, result)?,
    );
    for (layer, maps) in heads {
        // Written beside the page: the maps of all heads of all layers would make it unwieldy.
        let file = format!("self_attention_layer_{layer}_heads");
        let title = format!("Self-attention of {name}, heads of layer {layer}");
        attention_figures::grid(&folder, &file, title, &labels, maps)?;
    }
    let table = table(result);
    sections.push(figures::table_section("Layers", &table));
    sections.push(figures::settings_section(&settings));
    let verdict = verdict(&name, result);
    figures::page_of(
        &folder,
        &run,
        (&verdict, result.followed_because == Reason::Massive),
        "float32 on the CPU",
        sections,
    )?;
    run.finish(&folder, settings, &sequences, loaded, finding.timings)?;
    run.present(&folder, &document, || {
        table.print()?;
        super::print_line(&format!("\n{verdict}"))
    })
}

fn heads_setting(heads: &HeadLayers) -> Value {
    match heads {
        HeadLayers::None => Value::Null,
        HeadLayers::All => json!("all"),
        HeadLayers::Some(layers) => json!(layers),
    }
}

/// Every head has a map of T x T; that of long sequences is refused before the work.
fn check_heads(args: &SelfAttentionArgs, run: &Run, tokens: usize) -> Result<()> {
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

/// A token with its position.
fn token(result: &SelfAttention, position: usize) -> String {
    format!("{} at {position}", token_label(&result.tokens[position]))
}

fn verdict(name: &str, result: &SelfAttention) -> String {
    let tokens: Vec<String> = result
        .followed
        .iter()
        .take(5)
        .map(|position| token(result, *position))
        .collect();
    let mut tokens = tokens.join(", ");
    if result.followed.len() > 5 {
        tokens.push_str(&format!(" and {} more", result.followed.len() - 5));
    }
    let strongest = result
        .layers
        .iter()
        .filter_map(|layer| Some((layer.layer, layer.attention_to_followed?)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let share = match strongest {
        None => "no other token sees them".to_owned(),
        Some((layer, share)) => format!(
            "they receive up to {:.0} % of the other tokens' attention (layer {layer})",
            100.0 * share
        ),
    };
    match result.followed_because {
        Reason::Massive => format!("{name} has massive activations on {tokens}; {share}"),
        Reason::Given => format!("{name}, following {tokens}: {share}"),
        Reason::First => {
            format!("{name} has no massive activations here; following {tokens}: {share}")
        }
    }
}

fn table(result: &SelfAttention) -> Table {
    let mut table = Table::new([
        ("layer", Align::Right),
        ("massive", Align::Left),
        ("attention to followed", Align::Right),
        ("even share", Align::Right),
        ("|followed part|", Align::Right),
        ("|rest|", Align::Right),
        ("cosine", Align::Right),
        ("similarity of followed part", Align::Right),
    ]);
    let number = |value: Option<f64>| value.map_or_else(|| "-".into(), significant);
    for layer in &result.layers {
        let parts = &layer.decomposition;
        let massive = !layer.massive.is_empty();
        table.push(
            Row::new([
                layer.layer.to_string(),
                if massive { "yes" } else { "" }.to_owned(),
                number(layer.attention_to_followed),
                number(layer.even_share),
                number(parts.norm_followed),
                number(parts.norm_rest),
                number(parts.cosine),
                number(parts.similarity_followed),
            ])
            .emphasised(massive),
        );
    }
    table
}
