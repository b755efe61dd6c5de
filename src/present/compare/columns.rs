//! The table of a comparison, and the same in full as CSV.

use super::{
    entries::{Entry, measured},
    figures::OfIntervention,
};
use crate::{
    experiments::compare::{Intervened, Profile},
    report::{
        csv::line,
        number::{ranges, significant},
        table::{Align, Row, Table},
    },
};

/// A column: title, and a profile's value in full and as the table shows it.
struct Column {
    title: &'static str,
    /// Name in the CSV.
    name: &'static str,
    value: fn(&Profile) -> Option<Cell>,
}

enum Cell {
    Number(f64),
    Indices(Vec<usize>),
}

impl Cell {
    /// What double precision cannot hold is as good as infinite.
    fn perplexity(found: Intervened) -> Self {
        Self::Number(found.perplexity.unwrap_or(f64::INFINITY))
    }

    fn ratio(found: Intervened) -> Self {
        Self::Number(found.ratio.ratio.unwrap_or(f64::INFINITY))
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(value) => significant(*value),
            Self::Indices(indices) => ranges(indices),
        }
    }

    fn in_full(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Indices(indices) => indices
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        }
    }
}

const COLUMNS: [Column; 16] = [
    Column {
        title: "top-1",
        name: "top1",
        value: |profile| Some(Cell::Number(profile.existence.as_ref()?.top1)),
    },
    Column {
        title: "in layer",
        name: "top1_layer",
        value: |profile| Some(Cell::Indices(vec![profile.existence.as_ref()?.layer])),
    },
    Column {
        title: "median",
        name: "median",
        value: |profile| Some(Cell::Number(profile.existence.as_ref()?.median)),
    },
    Column {
        title: "ratio",
        name: "ratio",
        value: |profile| profile.existence.as_ref()?.ratio.map(Cell::Number),
    },
    Column {
        title: "massive layers",
        name: "massive_layers",
        value: |profile| {
            Some(Cell::Indices(
                profile.existence.as_ref()?.massive_layers.clone(),
            ))
        },
    },
    Column {
        title: "first layer",
        name: "first_layer",
        value: |profile| {
            Some(Cell::Indices(
                profile.tokens.as_ref()?.first_layer.into_iter().collect(),
            ))
        },
    },
    Column {
        title: "dimensions",
        name: "dimensions",
        value: |profile| Some(Cell::Indices(profile.tokens.as_ref()?.dimensions.clone())),
    },
    Column {
        title: "perplexity",
        name: "perplexity",
        value: |profile| {
            let original = || profile.interventions.as_ref()?.original;
            profile.perplexity.or_else(original).map(Cell::Number)
        },
    },
    Column {
        title: "with zeros",
        name: "perplexity_set_to_zero",
        value: |profile| intervened(profile, |found| found.set_to_zero).map(Cell::perplexity),
    },
    Column {
        title: "/ original",
        name: "ratio_set_to_zero",
        value: |profile| intervened(profile, |found| found.set_to_zero).map(Cell::ratio),
    },
    Column {
        title: "with means",
        name: "perplexity_set_to_mean",
        value: |profile| intervened(profile, |found| found.set_to_mean).map(Cell::perplexity),
    },
    Column {
        title: "/ original",
        name: "ratio_set_to_mean",
        value: |profile| intervened(profile, |found| found.set_to_mean).map(Cell::ratio),
    },
    Column {
        title: "attention to first",
        name: "attention_first_token",
        value: |profile| Some(Cell::Number(profile.attention.as_ref()?.first_token)),
    },
    Column {
        title: "to massive",
        name: "attention_massive_tokens",
        value: |profile| Some(Cell::Number(profile.attention.as_ref()?.massive_tokens)),
    },
    Column {
        title: "to KV bias",
        name: "attention_kv_bias",
        value: |profile| profile.attention.as_ref()?.kv_bias.map(Cell::Number),
    },
    Column {
        title: "weight std",
        name: "weight_std",
        value: |profile| Some(Cell::Number(profile.weights.as_ref()?.std)),
    },
];

fn intervened(profile: &Profile, of: OfIntervention) -> Option<Intervened> {
    profile.interventions.as_ref().and_then(of)
}

/// A row a checkpoint; columns that no checkpoint has a value for are left out.
pub(super) fn table(entries: &[Entry]) -> Table {
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| {
            measured(entries).any(|(_, found)| (column.value)(&found.profile).is_some())
        })
        .collect();
    let mut titles = vec![("checkpoint", Align::Left)];
    titles.extend(columns.iter().map(|column| (column.title, Align::Right)));
    if entries.iter().any(|entry| entry.outcome.is_err()) {
        titles.push(("error", Align::Left));
    }
    let mut table = Table::new(titles);
    for entry in entries {
        let profile = entry
            .outcome
            .as_ref()
            .ok()
            .map(|measured| &measured.profile);
        let mut cells = vec![entry.label.clone()];
        cells.extend(columns.iter().map(|column| {
            let cell = profile.and_then(|profile| (column.value)(profile));
            cell.map_or_else(|| "-".to_owned(), |cell| cell.shown())
        }));
        cells.extend(entry.outcome.as_ref().err().map(ToString::to_string));
        let massive = profile.and_then(|profile| profile.existence.as_ref());
        let massive = massive.is_some_and(|found| found.has_massive_activations);
        table.push(Row::new(cells).emphasised(massive));
    }
    table
}

/// The table in full digits and with every column.
pub(super) fn csv(entries: &[Entry]) -> String {
    let names = COLUMNS.iter().map(|column| column.name);
    let mut text = line(
        ["label", "name", "revision", "commit", "error"]
            .into_iter()
            .chain(names),
    );
    for entry in entries {
        let measured = entry.outcome.as_ref().ok();
        let commit = measured.and_then(|measured| measured.model.commit.clone());
        let mut cells = vec![
            entry.label.clone(),
            entry.name.clone(),
            entry.revision.clone().unwrap_or_default(),
            commit.unwrap_or_default(),
            entry
                .outcome
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ];
        cells.extend(COLUMNS.iter().map(|column| {
            let cell = measured.and_then(|measured| (column.value)(&measured.profile));
            cell.map_or_else(String::new, |cell| cell.in_full())
        }));
        text.push_str(&line(cells));
    }
    text
}
