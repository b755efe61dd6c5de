//! From tasks to rows: the experiments on one model with the same settings are one row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Map, Value};

use super::Item;
use crate::{
    report::{
        html::overview::{self, Changed, Link, OverviewRow},
        visible::token_label,
    },
    sweep::{
        State,
        runs::{Existence, Found, Interventions, Layer},
    },
};

/// The rows, in the order of the manifest.
pub(super) fn rows(root: &Path, items: &[Item]) -> Vec<OverviewRow> {
    let varying = varying(items);
    let mut rows: Vec<OverviewRow> = Vec::new();
    for item in items {
        let settings: Vec<(String, String)> = varying
            .iter()
            .filter_map(|key| Some((key.clone(), setting(item, key)?)))
            .collect();
        let label = label(item, &settings);
        let known = rows.iter().position(|row| row.label == label);
        let index = known.unwrap_or_else(|| {
            rows.push(OverviewRow {
                label,
                revision: item.task.revision.clone(),
                settings,
                state: overview::State::Done,
                ..OverviewRow::default()
            });
            rows.len() - 1
        });
        add(&mut rows[index], root, item);
    }
    rows
}

/// The settings that differ between tasks of one command on one model.
fn varying(items: &[Item]) -> BTreeSet<String> {
    type Values<'a> = BTreeMap<&'a str, BTreeSet<String>>;
    let mut found: BTreeMap<_, Values<'_>> = BTreeMap::new();
    for Item { task, .. } in items {
        let of = (&task.model, &task.revision, &task.command);
        let keys = found.entry(of).or_default();
        for (key, value) in &task.settings {
            keys.entry(key).or_default().insert(text(value));
        }
    }
    let keys = found.into_values().flatten();
    keys.filter(|(_, values)| values.len() > 1)
        .map(|(key, _)| key.to_owned())
        .collect()
}

/// A setting as the plan has it, or as the run took it.
fn setting(item: &Item, key: &str) -> Option<String> {
    if let Some(value) = item.task.settings.get(key) {
        return Some(text(value));
    }
    let settings = item.run.as_ref().map(|run| &*run.settings)?;
    let settings: Map<String, Value> = serde_json::from_str(settings).ok()?;
    settings.get(key).map(text)
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn label(item: &Item, settings: &[(String, String)]) -> String {
    let mut label = item.task.model.clone();
    if let Some(revision) = &item.task.revision {
        label.push('@');
        label.push_str(revision);
    }
    for (key, value) in settings {
        label.push_str(&format!(", {key} {value}"));
    }
    label
}

fn add(row: &mut OverviewRow, root: &Path, item: &Item) {
    // Id or path, where the plan has another name for it.
    if let Some(run) = item.run.as_ref().filter(|run| run.name != item.task.model) {
        row.model.clone_from(&run.name);
    }
    match &item.state {
        State::Done(folder) => {
            let inside = folder.strip_prefix(root).unwrap_or(folder);
            let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
            row.links.push(Link {
                text: item.task.command.clone(),
                path: format!("{}/report.html", parts.join("/")),
            });
        }
        // The worst of a row's tasks is the row's.
        State::Failed(failure) => row.state = overview::State::Failed(failure.error.clone()),
        State::Running { .. } if row.state == overview::State::Done => {
            row.state = overview::State::Running;
        }
        State::Waiting { .. } if row.state == overview::State::Done => {
            row.state = overview::State::Waiting;
        }
        State::Running { .. } | State::Waiting { .. } => {}
    }
    match item.run.as_ref().map(|run| &run.found) {
        Some(Found::Existence(found)) => existence(row, found),
        Some(Found::Tokens(found, _)) => {
            row.first_layer = found.first_layer;
            row.dimensions.clone_from(&found.dimensions);
            row.massive.get_or_insert(found.first_layer.is_some());
        }
        Some(Found::Interventions(found)) => interventions(row, found),
        None => {}
    }
}

fn existence(row: &mut OverviewRow, found: &Existence) {
    row.massive = Some(found.has_massive_activations);
    row.first_layer = row.first_layer.or_else(|| {
        found
            .layers
            .iter()
            .find(|layer| layer.massive)
            .map(|layer| layer.layer)
    });
    row.ratio = found
        .layers
        .iter()
        .filter_map(|layer| layer.ratio)
        .reduce(f64::max);
    row.top1 = found.layers.iter().map(|layer| layer.top1_mean).collect();
    row.median = found.layers.iter().map(|layer| layer.median_mean).collect();
    row.places = found.layers.iter().map(place).collect();
}

/// Where a layer's largest value is.
fn place(layer: &Layer) -> String {
    layer.top.first().map_or_else(String::new, |top| {
        let token = token_label(&top.token);
        format!("{token} at {}, dimension {}", top.position, top.dimension)
    })
}

/// Perplexities of the first evaluation set; the page has a table of all of them.
fn interventions(row: &mut OverviewRow, found: &Interventions) {
    let Some(set) = found.evaluation.first() else {
        return;
    };
    let changed = |name: &str| {
        let ratio = found.ratio_of(name, set)?;
        Some(Changed {
            perplexity: found.perplexity_of(name, set),
            ratio: ratio.ratio,
            interval: ratio.low.zip(ratio.high),
        })
    };
    row.original = found.perplexity_of("original", set);
    row.zeroed = changed("set_to_zero");
    let mean = found
        .interventions
        .iter()
        .find(|name| name.starts_with("set_to_mean_"));
    row.mean = mean.and_then(|name| changed(name));
}
