//! What self-attention shows.

mod charts;
mod heads;
mod maps;
mod sinks;

pub(crate) use maps::{MapRecorder, Maps};

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use self::{
    charts::token,
    maps::{Labels, MapsOf},
};
use super::{
    Artifacts, Context,
    page::{self, Verdict},
};
use crate::{
    error::Result,
    experiments::self_attention::{Reason, SCHEMA, SelfAttention},
    report::{
        html::Chart,
        number::{ranges, significant},
        plot::ScaleChoice,
        records::Records,
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// Keys that are labelled because heads attend to them, at most.
const MOST_BRIGHT: usize = 6;

/// How the pictures look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Of the norms.
    pub(crate) scale: ScaleChoice,
    /// Whether all maps of a picture have one scale.
    pub(crate) shared_scale: bool,
}

/// Files, table and verdict. The maps themselves are in files that were written as they came.
pub(crate) fn artifacts(
    result: &SelfAttention,
    maps: Maps,
    look: Look,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let name = context.name();
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("self_attention.json", document)?;
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
        show_logits: maps.show_logits,
        given: result.followed_because == Reason::Given,
        bright: bright(result),
        shared_scale: look.shared_scale,
    };
    let explored = maps.explored(&labels);
    let title = format!("Self-attention of {name}, mean over heads");
    let means = maps::grid(
        title,
        &labels,
        MapsOf::Means,
        maps.means.into_values().collect(),
    )?;
    let trajectory = charts::trajectory(name, result);
    let decomposition = charts::decomposition(name, result, look.scale);
    let mut sections = Vec::new();
    let heading = match maps.heads.is_empty() {
        true => "Attention, mean over heads",
        false => "Attention",
    };
    let means = artifacts.figure("self_attention", means)?;
    sections.push(page::figure(heading, means).explored(explored));
    for (heading, file, panels) in [
        (
            "Attention to the followed tokens",
            "attention_trajec",
            trajectory,
        ),
        (
            "Attention output in two parts",
            "attention_output_decomposition",
            decomposition,
        ),
    ] {
        let svg = artifacts.figure(file, panels.to_svg())?;
        sections.push(page::figure(heading, svg).explored(panels.explored()));
    }
    let by_head = charts::decomposition_by_head(name, result);
    let svg = artifacts.figure("attention_output_by_head", by_head.to_svg()?)?;
    let section = page::figure("Attention output in two parts, by head", svg);
    sections.push(section.explored(Chart::grids(&by_head)));
    sections.extend(sinks::section(result, &labels.tokens));
    for (layer, heads) in maps.heads {
        // Written beside the page: the maps of all heads of all layers would make it unwieldy.
        let title = format!("Self-attention of {name}, heads of layer {layer}");
        let svg = maps::grid(title, &labels, MapsOf::Heads, heads)?;
        artifacts.figure(&format!("self_attention_layer_{layer}_heads"), svg)?;
    }
    let table = table(result);
    sections.push(page::table("Layers", &table));
    sections.push(page::sequence(&result.tokens));
    let verdict = Verdict {
        text: verdict(name, result),
        highlight: result.followed_because == Reason::Massive,
    };
    artifacts.sheet("layers", table.clone(), records(result));
    let (heads, in_full) = heads::sheet(result);
    artifacts.sheet("heads", heads, in_full);
    artifacts.table(table);
    artifacts.line(format!("\n{}", verdict.text));
    artifacts.page(context, verdict, sections);
    Ok(artifacts)
}

/// The keys with the largest sink mass in most heads of all layers.
fn bright(result: &SelfAttention) -> BTreeSet<usize> {
    let mut heads: BTreeMap<usize, usize> = BTreeMap::new();
    let sinks = result.layers.iter().flat_map(|layer| &layer.sinks);
    for position in sinks.filter_map(|sink| sink.position) {
        *heads.entry(position).or_default() += 1;
    }
    let mut keys: Vec<(usize, usize)> = heads.into_iter().collect();
    // A single head's favourite is no bright key of the mean.
    let layers = result.layers.len() - result.layers_without_attention.len();
    keys.retain(|(_, heads)| *heads > layers / 2);
    keys.sort_by_key(|(position, heads)| (usize::MAX - heads, *position));
    let keys = keys.into_iter().take(MOST_BRIGHT);
    keys.map(|(position, _)| position).collect()
}

/// The table in full, and what it leaves out.
fn records(result: &SelfAttention) -> Records {
    let mut records = Records::new([
        "layer",
        "massive",
        "attention_to_followed",
        "share_of_followed",
        "even_share",
        "logit_of_others",
        "norm_attention",
        "norm_followed",
        "norm_rest",
        "cosine",
        "similarity_followed",
        "similarity_rest",
    ]);
    for layer in &result.layers {
        let parts = layer.decomposition.as_ref();
        records.push(json!([
            layer.layer,
            !layer.massive.is_empty(),
            layer.attention_to_followed,
            layer.share_of_followed,
            layer.even_share,
            layer.logit_of_others,
            parts.map(|parts| parts.norm_attention),
            parts.map(|parts| parts.norm_followed),
            parts.map(|parts| parts.norm_rest),
            parts.map(|parts| parts.cosine),
            parts.map(|parts| parts.similarity_followed),
            parts.map(|parts| parts.similarity_rest),
        ]));
    }
    records
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
    let without = match result.layers_without_attention.as_slice() {
        [] => String::new(),
        [layer] => format!("; layer {layer} has no attention"),
        layers => format!("; layers {} have no attention", ranges(layers)),
    };
    let verdict = match result.followed_because {
        Reason::Massive => format!("{name} has massive activations on {tokens}; {share}"),
        Reason::Given => format!("{name}, following {tokens}: {share}"),
        Reason::First => {
            format!("{name} has no massive activations here; following {tokens}: {share}")
        }
    };
    verdict + &without
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
        let parts = layer.decomposition.as_ref();
        let massive = !layer.massive.is_empty();
        table.push(
            Row::new([
                layer.layer.to_string(),
                if massive { "yes" } else { "" }.to_owned(),
                number(layer.attention_to_followed),
                number(layer.even_share),
                number(parts.and_then(|parts| parts.norm_followed)),
                number(parts.and_then(|parts| parts.norm_rest)),
                number(parts.and_then(|parts| parts.cosine)),
                number(parts.and_then(|parts| parts.similarity_followed)),
            ])
            .emphasised(massive),
        );
    }
    table
}
