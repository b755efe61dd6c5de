//! What was measured in every layer of every checkpoint.

use serde_json::{Value, json};

use super::entries::{Entry, measured};
use crate::{
    experiments::compare::Profile,
    report::{
        number::significant,
        records::Records,
        table::{Align, Row, Table},
    },
};

/// A value of a layer: what the table and the records call it, and where it is.
type Column = (
    &'static str,
    &'static str,
    fn(&Profile, usize) -> Option<f64>,
);

const COLUMNS: [Column; 7] = [
    ("top-1 mean", "top1_mean", |profile, layer| {
        Some(profile.existence.as_ref()?.layers.get(layer)?.top1_mean)
    }),
    ("median mean", "median_mean", |profile, layer| {
        Some(profile.existence.as_ref()?.layers.get(layer)?.median_mean)
    }),
    ("ratio", "ratio", |profile, layer| {
        let found = profile.existence.as_ref()?.layers.get(layer)?;
        (found.median_mean > 0.0).then(|| found.top1_mean / found.median_mean)
    }),
    (
        "attention to first",
        "attention_first_token",
        |profile, layer| profile.attention.as_ref()?.layers.get(layer)?.first_token,
    ),
    (
        "to massive",
        "attention_massive_tokens",
        |profile, layer| {
            let layers = &profile.attention.as_ref()?.layers;
            layers.get(layer)?.massive_tokens
        },
    ),
    ("to KV bias", "attention_kv_bias", |profile, layer| {
        profile.attention.as_ref()?.layers.get(layer)?.kv_bias
    }),
    ("weight std", "weight_std", |profile, layer| {
        profile.weights.as_ref()?.layers.get(layer).copied()
    }),
];

/// As a table for people.
pub(super) fn table(entries: &[Entry]) -> Table {
    let mut titles = vec![("checkpoint", Align::Left), ("layer", Align::Right)];
    titles.extend(COLUMNS.iter().map(|(title, ..)| (*title, Align::Right)));
    let mut table = Table::new(titles);
    for (label, layer, massive, values) in rows(entries) {
        let mut cells = vec![label.to_owned(), layer.to_string()];
        let shown = values
            .iter()
            .map(|v| v.map_or_else(|| "-".to_owned(), significant));
        cells.extend(shown);
        table.push(Row::new(cells).emphasised(massive));
    }
    table
}

/// In full.
pub(super) fn records(entries: &[Entry]) -> Records {
    let names = COLUMNS.iter().map(|(_, name, _)| *name);
    let mut records = Records::new(["label", "layer", "massive"].into_iter().chain(names));
    for (label, layer, massive, values) in rows(entries) {
        let mut record: Vec<Value> = vec![json!(label), json!(layer), json!(massive)];
        record.extend(values.iter().map(|value| json!(value)));
        records.push(record.into());
    }
    records
}

/// Checkpoint, layer, whether it is massive, and the values.
fn rows(entries: &[Entry]) -> impl Iterator<Item = (&str, usize, bool, Vec<Option<f64>>)> {
    measured(entries).flat_map(|(entry, found)| {
        let profile = &found.profile;
        (0..found.model.layers).map(move |layer| {
            let existence = profile.existence.as_ref();
            let massive = existence.is_some_and(|found| found.massive_layers.contains(&layer));
            let values = COLUMNS.iter().map(|(.., value)| value(profile, layer));
            (entry.label.as_str(), layer, massive, values.collect())
        })
    })
}
