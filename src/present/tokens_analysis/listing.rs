//! The tokens and their massive activations one by one, for the page's reader to sort and search.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    backend::Entry,
    experiments::tokens_analysis::TokensAnalysis,
    present::page,
    report::{
        html::Section,
        number::{ranges, significant},
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// Massive activations that the page lists; the JSON has all.
const MOST: usize = 1000;

/// A massive activation with its place.
struct Found<'a> {
    sequence: usize,
    layer: usize,
    token: &'a str,
    entry: &'a Entry,
}

/// Tokens, and massive activations one by one; none where nothing is massive.
pub(super) fn sections(result: &TokensAnalysis) -> Vec<Section> {
    let mut all: Vec<Found<'_>> = found(result).collect();
    if all.is_empty() {
        return Vec::new();
    }
    let tokens = page::table("Tokens", &tokens(&all));
    let total = all.len();
    // The largest, in the order of the text.
    all.sort_by(|a, b| b.entry.value.abs().total_cmp(&a.entry.value.abs()));
    all.truncate(MOST);
    all.sort_by_key(|it| (it.sequence, it.layer, it.entry.position, it.entry.dimension));
    let heading = if total > MOST {
        format!("Massive activations, the largest {MOST} of {total}")
    } else {
        "Massive activations".to_owned()
    };
    vec![tokens, page::table(&heading, &one_by_one(&all))]
}

fn found(result: &TokensAnalysis) -> impl Iterator<Item = Found<'_>> {
    result.sequences.iter().flat_map(|sequence| {
        sequence.detections.layers.iter().flat_map(|layer| {
            layer.massive.iter().map(|entry| Found {
                sequence: sequence.sequence,
                layer: layer.layer,
                token: sequence
                    .tokens
                    .get(&entry.position)
                    .map_or("", String::as_str),
                entry,
            })
        })
    })
}

/// What is known of one token, at the first position or at later ones.
#[derive(Default)]
struct OfToken {
    sequences: BTreeSet<usize>,
    positions: BTreeSet<usize>,
    layers: BTreeSet<usize>,
    dimensions: BTreeSet<usize>,
    largest: f32,
}

fn tokens(all: &[Found<'_>]) -> Table {
    let mut by_token: BTreeMap<(bool, &str), OfToken> = BTreeMap::new();
    for found in all {
        let later = found.entry.position > 0;
        let token = by_token.entry((later, found.token)).or_default();
        token.sequences.insert(found.sequence);
        token.positions.insert(found.entry.position);
        token.layers.insert(found.layer);
        token.dimensions.insert(found.entry.dimension);
        if found.entry.value.abs() > token.largest.abs() {
            token.largest = found.entry.value;
        }
    }
    let mut table = Table::new([
        ("token", Align::Left),
        ("place", Align::Left),
        ("sequences", Align::Right),
        ("positions", Align::Right),
        ("layers", Align::Left),
        ("dimensions", Align::Left),
        ("largest h", Align::Right),
    ]);
    let listed = |numbers: BTreeSet<usize>| ranges(&numbers.into_iter().collect::<Vec<_>>());
    for ((later, token), it) in by_token {
        table.push(Row::new([
            token_label(token),
            if later { "later" } else { "first" }.to_owned(),
            it.sequences.len().to_string(),
            it.positions.len().to_string(),
            listed(it.layers),
            listed(it.dimensions),
            significant(f64::from(it.largest)),
        ]));
    }
    table
}

fn one_by_one(all: &[Found<'_>]) -> Table {
    let mut table = Table::new([
        ("sequence", Align::Right),
        ("layer", Align::Right),
        ("position", Align::Right),
        ("token", Align::Left),
        ("dimension", Align::Right),
        ("h", Align::Right),
    ]);
    for found in all {
        table.push(Row::new([
            found.sequence.to_string(),
            found.layer.to_string(),
            found.entry.position.to_string(),
            token_label(found.token),
            found.entry.dimension.to_string(),
            significant(f64::from(found.entry.value)),
        ]));
    }
    table
}
