//! The table of a comparison, and the same in full.

use serde_json::json;

use super::{
    entries::{Entry, measured},
    figures::OfIntervention,
};
use crate::{
    experiments::compare::{Intervened, Profile},
    report::{
        number::{ranges, significant},
        records::Records,
        table::{Align, Row, Table},
    },
};

/// A column: titles, and a profile's value in full and as the table shows it.
struct Column {
    /// In the table; none of what only the records have.
    title: Option<&'static str>,
    /// In the records.
    name: &'static str,
    value: fn(&Profile) -> Option<Cell>,
}

enum Cell {
    Number(f64),
    Indices(Vec<usize>),
    Name(&'static str),
}

impl Cell {
    /// What double precision cannot hold is as good as infinite.
    fn perplexity(found: Intervened) -> Self {
        Self::Number(found.perplexity.unwrap_or(f64::INFINITY))
    }

    fn ratio(found: Intervened) -> Self {
        Self::Number(found.ratio.ratio.unwrap_or(f64::INFINITY))
    }

    fn class(found: Intervened) -> Self {
        Self::Name(found.ratio.class.name())
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(value) => significant(*value),
            Self::Indices(indices) => ranges(indices),
            Self::Name(name) => (*name).to_owned(),
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
            Self::Name(name) => (*name).to_owned(),
        }
    }
}

const COLUMNS: [Column; 22] = [
    column(Some("top-1"), "top1", |profile| {
        Some(Cell::Number(profile.existence.as_ref()?.top1))
    }),
    column(Some("in layer"), "top1_layer", |profile| {
        Some(Cell::Indices(vec![profile.existence.as_ref()?.layer]))
    }),
    column(Some("median"), "median", |profile| {
        Some(Cell::Number(profile.existence.as_ref()?.median))
    }),
    column(Some("ratio"), "ratio", |profile| {
        profile.existence.as_ref()?.ratio.map(Cell::Number)
    }),
    column(Some("massive layers"), "massive_layers", |profile| {
        let found = profile.existence.as_ref()?;
        Some(Cell::Indices(found.massive_layers.clone()))
    }),
    column(Some("first layer"), "first_layer", |profile| {
        let first = profile.tokens.as_ref()?.first_layer;
        Some(Cell::Indices(first.into_iter().collect()))
    }),
    column(Some("dimensions"), "dimensions", |profile| {
        Some(Cell::Indices(profile.tokens.as_ref()?.dimensions.clone()))
    }),
    column(Some("perplexity"), "perplexity", |profile| {
        // Measured, and beyond double precision.
        let original = || {
            let found = profile.interventions.as_ref()?;
            Some(found.original.unwrap_or(f64::INFINITY))
        };
        profile.perplexity.or_else(original).map(Cell::Number)
    }),
    column(Some("with zeros"), "perplexity_set_to_zero", |profile| {
        intervened(profile, ZERO).map(Cell::perplexity)
    }),
    column(Some("zeros / original"), "ratio_set_to_zero", |profile| {
        intervened(profile, ZERO).map(Cell::ratio)
    }),
    column(None, "ratio_set_to_zero_low", |profile| {
        intervened(profile, ZERO)?.ratio.low.map(Cell::Number)
    }),
    column(None, "ratio_set_to_zero_high", |profile| {
        intervened(profile, ZERO)?.ratio.high.map(Cell::Number)
    }),
    column(None, "class_set_to_zero", |profile| {
        intervened(profile, ZERO).map(Cell::class)
    }),
    column(Some("with means"), "perplexity_set_to_mean", |profile| {
        intervened(profile, MEAN).map(Cell::perplexity)
    }),
    column(Some("means / original"), "ratio_set_to_mean", |profile| {
        intervened(profile, MEAN).map(Cell::ratio)
    }),
    column(None, "ratio_set_to_mean_low", |profile| {
        intervened(profile, MEAN)?.ratio.low.map(Cell::Number)
    }),
    column(None, "ratio_set_to_mean_high", |profile| {
        intervened(profile, MEAN)?.ratio.high.map(Cell::Number)
    }),
    column(None, "class_set_to_mean", |profile| {
        intervened(profile, MEAN).map(Cell::class)
    }),
    column(
        Some("attention to first"),
        "attention_first_token",
        |profile| Some(Cell::Number(profile.attention.as_ref()?.first_token)),
    ),
    column(Some("to massive"), "attention_massive_tokens", |profile| {
        Some(Cell::Number(profile.attention.as_ref()?.massive_tokens))
    }),
    column(Some("to KV bias"), "attention_kv_bias", |profile| {
        profile.attention.as_ref()?.kv_bias.map(Cell::Number)
    }),
    column(Some("weight std"), "weight_std", |profile| {
        Some(Cell::Number(profile.weights.as_ref()?.std))
    }),
];

const ZERO: OfIntervention = |found| found.set_to_zero;
const MEAN: OfIntervention = |found| found.set_to_mean;

const fn column(
    title: Option<&'static str>,
    name: &'static str,
    value: fn(&Profile) -> Option<Cell>,
) -> Column {
    Column { title, name, value }
}

fn intervened(profile: &Profile, of: OfIntervention) -> Option<Intervened> {
    profile.interventions.as_ref().and_then(of)
}

/// A row a checkpoint; columns that no checkpoint has a value for are left out.
pub(super) fn table(entries: &[Entry]) -> Table {
    let measured = |column: &&Column| {
        measured(entries).any(|(_, found)| (column.value)(&found.profile).is_some())
    };
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| column.title.is_some())
        .filter(measured)
        .collect();
    let mut titles = vec![("checkpoint", Align::Left), ("format", Align::Left)];
    let shown = columns.iter().filter_map(|column| column.title);
    titles.extend(shown.map(|title| (title, Align::Right)));
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
        let format = entry.format().filter(|format| !format.is_empty());
        let mut cells = vec![entry.label.clone(), format.unwrap_or("-").to_owned()];
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
pub(super) fn records(entries: &[Entry]) -> Records {
    let names = COLUMNS.iter().map(|column| column.name);
    let own = ["label", "name", "revision", "commit", "format", "error"];
    let mut records = Records::new(own.into_iter().chain(names));
    for entry in entries {
        let measured = entry.outcome.as_ref().ok();
        let mut record = vec![
            json!(entry.label),
            json!(entry.name),
            json!(entry.revision),
            json!(measured.and_then(|measured| measured.model.commit.as_ref())),
            json!(entry.format()),
            json!(entry.outcome.as_ref().err().map(ToString::to_string)),
        ];
        record.extend(COLUMNS.iter().map(|column| {
            let cell = measured.and_then(|measured| (column.value)(&measured.profile));
            json!(cell.map(|cell| cell.in_full()))
        }));
        records.push(record.into());
    }
    records
}
