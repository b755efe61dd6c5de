//! What became of the first checkpoint's massive activations, medians and perplexity in the others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{Artifacts, json_value, lines::Lines, page},
    entries::{Entry, Since},
};
use crate::{
    error::Result,
    experiments::changes::{Change, Changes, Counts, Fate, LayerChange},
    report::{
        html::{Chart, Section, chart},
        number::significant,
        plot::ScaleChoice,
        records::Records,
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// Massive activations that a terminal shows of each checkpoint, and the page of all.
const IN_TERMINAL: usize = 5;
const ON_PAGE: usize = 1000;

/// A checkpoint that can be matched with the first one.
struct Matched<'a> {
    index: usize,
    label: &'a str,
    from: &'a str,
    changes: &'a Changes,
}

fn matched<'a>(
    entries: &'a [Entry],
    since: &'a [Option<Since<'a>>],
) -> impl Iterator<Item = Matched<'a>> + Clone {
    let both = entries.iter().zip(since).enumerate();
    both.filter_map(|(index, (entry, since))| {
        let since = since.as_ref()?;
        Some(Matched {
            index,
            label: &entry.label,
            from: since.from,
            changes: since.found.as_ref().ok()?,
        })
    })
}

/// A checkpoint's part of compare.json; null for the first one and for those that failed.
pub(super) fn document(since: Option<&Since<'_>>) -> Result<Value> {
    let Some(since) = since else {
        return Ok(Value::Null);
    };
    let found = since.found.as_ref();
    Ok(json!({
        "from": since.from,
        "unmatched": found.err(),
        "found": found.ok().map(json_value).transpose()?,
    }))
}

/// Files, and what the terminal shows behind the table of the checkpoints.
pub(super) fn add(
    artifacts: &mut Artifacts,
    entries: &[Entry],
    since: &[Option<Since<'_>>],
) -> Result<Vec<Section>> {
    let all = matched(entries, since);
    for (entry, since) in entries.iter().zip(since) {
        if let Some(Since {
            from,
            found: Err(why),
        }) = since
        {
            let label = &entry.label;
            artifacts.notice(format!("{label}: nothing to match with {from}: {why}"));
        }
    }
    let mut sections = Vec::new();
    let Some(first) = all.clone().next() else {
        return Ok(sections);
    };
    let heading = format!("What became of {}", first.from);
    let summary = summary(all.clone());
    let largest = table(all.clone().flat_map(|it| largest(&it)));
    let (records, layers) = (records(all.clone()), layer_records(all.clone()));
    artifacts.file("massive_changes.csv", records.csv());
    artifacts.file("layer_changes.csv", layers.csv());
    artifacts.sheet("changes", summary.clone(), summary_records(all.clone()));
    artifacts.table(summary.clone());
    sections.push(page::table(&heading, &summary));
    for (name, heading, of) in FIGURES {
        let mut lines = Lines::default();
        for it in all.clone() {
            let values = it.changes.layers.iter().map(&of);
            let percent = values.map(|ratio| ratio.map_or(f64::NAN, |it| 100.0 * (it - 1.0)));
            let percent: Vec<f64> = percent.collect();
            if percent.iter().any(|value| value.is_finite()) {
                lines.push(it.index, it.label, percent);
            }
        }
        if !lines.is_empty() {
            let title = format!("{heading}, against {}", first.from);
            let chart = lines.chart(&title, "Change (%)", ScaleChoice::Linear);
            let svg = artifacts.figure(name, chart.to_svg())?;
            let explored = Chart::Lines(chart::Lines::from(&chart));
            sections.push(page::figure(title, svg).explored([explored]));
        }
    }
    let rows: Vec<(&str, &Change)> = all
        .flat_map(|it| {
            it.changes
                .massive
                .iter()
                .map(move |change| (it.label, change))
        })
        .collect();
    if !rows.is_empty() {
        artifacts.table(largest);
        let total = rows.len();
        let heading = match total > ON_PAGE {
            true => format!("Massive activations of both, the largest {ON_PAGE} of {total}"),
            false => "Massive activations of both".to_owned(),
        };
        sections.push(page::table(
            &heading,
            &table(largest_first(rows).take(ON_PAGE)),
        ));
    }
    Ok(sections)
}

type OfLayer = fn(&LayerChange) -> Option<f64>;

/// File, heading and ratio of a layer.
const FIGURES: [(&str, &str, OfLayer); 2] = [
    (
        "massive_change_by_layer",
        "Magnitude of the massive activations",
        |layer| layer.massive.and_then(|counts| counts.magnitude_ratio),
    ),
    ("median_change_by_layer", "Median magnitude", |layer| {
        layer.median.and_then(|median| median.ratio)
    }),
];

fn larger(change: &Change) -> f32 {
    change.before.abs().max(change.after.abs())
}

fn largest_first<'a>(
    mut rows: Vec<(&'a str, &'a Change)>,
) -> impl Iterator<Item = (&'a str, &'a Change)> {
    rows.sort_by(|(_, a), (_, b)| larger(b).total_cmp(&larger(a)));
    rows.into_iter()
}

/// The largest of each position and dimension with one fate: what differs only by layer and sequence
/// would fill the table with one thing.
fn largest<'a>(it: &Matched<'a>) -> Vec<(&'a str, &'a Change)> {
    let mut by: BTreeMap<(Fate, usize, usize), &Change> = BTreeMap::new();
    for change in &it.changes.massive {
        let key = (change.fate, change.place.position, change.place.dimension);
        let known = by.entry(key).or_insert(change);
        if larger(change) > larger(known) {
            *known = change;
        }
    }
    let rows = by.into_values().map(|change| (it.label, change)).collect();
    largest_first(rows).take(IN_TERMINAL).collect()
}

fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Kept => "kept",
        Fate::Lost => "lost",
        Fate::New => "new",
    }
}

fn table<'a>(rows: impl IntoIterator<Item = (&'a str, &'a Change)>) -> Table {
    let mut table = Table::new([
        ("checkpoint", Align::Left),
        ("fate", Align::Left),
        ("layer", Align::Right),
        ("sequence", Align::Right),
        ("position", Align::Right),
        ("token", Align::Left),
        ("dimension", Align::Right),
        ("before", Align::Right),
        ("after", Align::Right),
        ("after / before", Align::Right),
    ]);
    for (label, change) in rows {
        let (place, fate) = (change.place, change.fate);
        let (before, after) = (f64::from(change.before), f64::from(change.after));
        let row = Row::new([
            label.to_owned(),
            name(fate).to_owned(),
            place.layer.to_string(),
            place.sequence.to_string(),
            place.position.to_string(),
            token_label(&change.token),
            place.dimension.to_string(),
            significant(before),
            significant(after),
            shown(Some(after / before).filter(|ratio| ratio.is_finite())),
        ]);
        table.push(row.emphasised(fate != Fate::Kept));
    }
    table
}

fn records<'a>(all: impl Iterator<Item = Matched<'a>>) -> Records {
    let names = [
        "label",
        "layer",
        "sequence",
        "position",
        "token",
        "dimension",
        "fate",
        "before",
        "after",
    ];
    let mut records = Records::new(names);
    for it in all {
        for change in &it.changes.massive {
            let place = change.place;
            records.push(json!([
                it.label,
                place.layer,
                place.sequence,
                place.position,
                change.token,
                place.dimension,
                name(change.fate),
                change.before,
                change.after,
            ]));
        }
    }
    records
}

fn layer_records<'a>(all: impl Iterator<Item = Matched<'a>>) -> Records {
    let names = [
        "label",
        "layer",
        "kept",
        "lost",
        "new",
        "magnitude_ratio",
        "median_before",
        "median_after",
        "median_ratio",
    ];
    let mut records = Records::new(names);
    for it in all {
        for layer in &it.changes.layers {
            let (massive, median) = (layer.massive, layer.median);
            records.push(json!([
                it.label,
                layer.layer,
                massive.map(|counts| counts.kept),
                massive.map(|counts| counts.lost),
                massive.map(|counts| counts.new),
                massive.and_then(|counts| counts.magnitude_ratio),
                median.map(|median| median.before),
                median.map(|median| median.after),
                median.and_then(|median| median.ratio),
            ]));
        }
    }
    records
}

/// The least and the largest ratio of the layers' medians.
fn medians(changes: &Changes) -> Option<(f64, f64)> {
    let ratios = changes
        .layers
        .iter()
        .filter_map(|layer| layer.median?.ratio);
    let ratios: Vec<f64> = ratios.collect();
    let least = ratios.iter().copied().reduce(f64::min)?;
    Some((least, ratios.into_iter().fold(least, f64::max)))
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), significant)
}

/// A row a checkpoint.
fn summary<'a>(all: impl Iterator<Item = Matched<'a>>) -> Table {
    let mut table = Table::new([
        ("checkpoint", Align::Left),
        ("from", Align::Left),
        ("kept", Align::Right),
        ("lost", Align::Right),
        ("new", Align::Right),
        ("magnitudes, ratio", Align::Right),
        ("medians, ratio", Align::Right),
        ("perplexity", Align::Right),
        ("ratio", Align::Right),
    ]);
    for it in all {
        let (counts, perplexity) = (it.changes.counts, it.changes.perplexity);
        let count = |of: fn(&Counts) -> usize| {
            counts.map_or_else(|| "-".to_owned(), |counts| of(&counts).to_string())
        };
        let medians = medians(it.changes);
        table.push(Row::new([
            it.label.to_owned(),
            it.from.to_owned(),
            count(|counts| counts.kept),
            count(|counts| counts.lost),
            count(|counts| counts.new),
            shown(counts.and_then(|counts| counts.magnitude_ratio)),
            medians.map_or_else(
                || "-".to_owned(),
                |(least, most)| format!("{} to {}", significant(least), significant(most)),
            ),
            perplexity.map_or_else(
                || "-".to_owned(),
                |it| format!("{} to {}", significant(it.before), significant(it.after)),
            ),
            shown(perplexity.and_then(|it| it.ratio)),
        ]));
    }
    table
}

fn summary_records<'a>(all: impl Iterator<Item = Matched<'a>>) -> Records {
    let names = [
        "label",
        "from",
        "kept",
        "lost",
        "new",
        "magnitude_ratio",
        "median_ratio_least",
        "median_ratio_largest",
        "perplexity_before",
        "perplexity_after",
        "perplexity_ratio",
    ];
    let mut records = Records::new(names);
    for it in all {
        let (counts, perplexity) = (it.changes.counts, it.changes.perplexity);
        let medians = medians(it.changes);
        records.push(json!([
            it.label,
            it.from,
            counts.map(|counts| counts.kept),
            counts.map(|counts| counts.lost),
            counts.map(|counts| counts.new),
            counts.and_then(|counts| counts.magnitude_ratio),
            medians.map(|(least, _)| least),
            medians.map(|(_, most)| most),
            perplexity.map(|it| it.before),
            perplexity.map(|it| it.after),
            perplexity.and_then(|it| it.ratio),
        ]));
    }
    records
}
