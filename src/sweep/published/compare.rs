//! A row a quantity that was published.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::{
    super::runs::{Existence, Found, Interventions, Layer, MeasuredRun, Tokens},
    tolerance::{self, Scale},
};
use crate::{
    experiments::published::{self, PublishedRun},
    report::number::{listed, significant},
};

/// Where the paper's printed Table 1 and its published logs differ.
const PRINTED: [(&str, &str); 4] = [
    ("meta-llama/Llama-2-7b-hf", "set_to_zero on c4"),
    ("google/gemma-7b", "set_to_zero on c4"),
    ("google/gemma-3-1b-pt", "pg19"),
    ("google/gemma-3-4b-pt", "set_to_mean"),
];

/// Everything that was measured of the paper's checkpoints, beside what was published.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// By checkpoint, without BOS and with, then quantity.
    pub rows: Vec<Row>,
    /// One a checkpoint and BOS.
    pub verdicts: Vec<Verdict>,
    /// What a reader should know of the published numbers.
    pub notes: Vec<String>,
}

/// One quantity.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Id on the hub.
    pub model: String,
    /// Whether sequences begin with BOS.
    pub add_bos_token: bool,
    /// What is compared.
    pub quantity: String,
    /// None where it was not found.
    pub measured: Option<Value>,
    /// None where it was not published.
    pub published: Option<Value>,
    /// Difference up to which the two agree; none where they must be equal.
    pub tolerance: Option<String>,
    /// None where the two cannot be compared.
    pub agrees: Option<bool>,
    /// Why not.
    pub note: Option<String>,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A verdict.
    Flag(bool),
    /// A layer.
    Layer(usize),
    /// Dimensions.
    List(Vec<usize>),
    /// A magnitude, a ratio or a perplexity.
    Number(f64),
    /// `none`: there is no such layer.
    Nothing(&'static str),
}

impl Value {
    fn layer(layer: Option<usize>) -> Self {
        layer.map_or(Self::Nothing("none"), Self::Layer)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(true) => f.write_str("yes"),
            Self::Flag(false) => f.write_str("no"),
            Self::Layer(layer) => write!(f, "{layer}"),
            Self::List(list) if list.is_empty() => f.write_str("none"),
            Self::List(list) => f.write_str(&listed(list)),
            Self::Number(value) => f.write_str(&significant(*value)),
            Self::Nothing(text) => f.write_str(text),
        }
    }
}

/// What the rows of a checkpoint say together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Id on the hub.
    pub model: String,
    /// Whether sequences begin with BOS.
    pub add_bos_token: bool,
    /// Rows that were compared.
    pub compared: usize,
    /// Rows of these that agree.
    pub agree: usize,
    /// The quantities of the others.
    pub differ: Vec<String>,
}

/// Sets the runs of the paper's checkpoints beside the published ones. Of several runs of one
/// experiment with the same BOS the first counts that has the published context length, or the first.
pub fn compare(runs: &[MeasuredRun]) -> Comparison {
    let mut comparison = Comparison::default();
    for published in published::all() {
        let own = Own::of(runs, &published);
        let mut rows = Rows {
            published: &published,
            note: own.other_length(&published),
            rows: Vec::new(),
        };
        if let Some((_, existence)) = own.existence {
            rows.existence(existence);
        }
        rows.first_layer(&own);
        if let Some((_, tokens)) = own.tokens {
            rows.dimensions(tokens);
        }
        if let Some((_, interventions)) = own.interventions {
            rows.perplexities(interventions);
        }
        let rows = rows.rows;
        if !rows.is_empty() {
            comparison.verdicts.push(Verdict::of(&published, &rows));
            comparison.rows.extend(rows);
        }
    }
    let models: BTreeSet<&str> = comparison.rows.iter().map(|row| &*row.model).collect();
    let printed = PRINTED.iter().filter(|(model, _)| models.contains(model));
    comparison.notes = printed
        .map(|(model, what)| {
            format!("{model}: the paper's printed Table 1 and its published logs differ in {what}; the logs are shown")
        })
        .collect();
    comparison
}

impl Verdict {
    fn of(published: &PublishedRun, rows: &[Row]) -> Self {
        let compared = || rows.iter().filter(|row| row.agrees.is_some());
        let differ = compared().filter(|row| row.agrees == Some(false));
        let differ: Vec<String> = differ.map(|row| row.quantity.clone()).collect();
        Self {
            model: published.hub_id.clone(),
            add_bos_token: published.bos_token,
            compared: compared().count(),
            agree: compared().count() - differ.len(),
            differ,
        }
    }

    /// In words.
    pub fn text(&self) -> String {
        match (self.compared, self.differ.len()) {
            (0, _) => "not comparable".to_owned(),
            (_, 0) => "agrees".to_owned(),
            _ => format!("differs in {}", self.differ.join("; ")),
        }
    }
}

/// The runs of one checkpoint with or without BOS.
#[derive(Default)]
struct Own<'a> {
    existence: Option<(&'a MeasuredRun, &'a Existence)>,
    tokens: Option<(&'a MeasuredRun, &'a Tokens)>,
    interventions: Option<(&'a MeasuredRun, &'a Interventions)>,
}

impl<'a> Own<'a> {
    fn of(runs: &'a [MeasuredRun], published: &PublishedRun) -> Self {
        let same = |run: &&MeasuredRun| {
            let bos = run.add_bos_token;
            let bos = bos.filter(|_| !run.adapted);
            let known = bos.and_then(|bos| published::find(&run.name, bos));
            known.is_some_and(|known| {
                known.hub_id == published.hub_id && known.bos_token == published.bos_token
            })
        };
        let mut runs: Vec<&MeasuredRun> = runs.iter().filter(same).collect();
        // Stable: the order of the manifest within each.
        runs.sort_by_key(|run| run.context_length != Some(published.context_length));
        let mut own = Self::default();
        for run in runs {
            match &run.found {
                Found::Existence(found) => _ = own.existence.get_or_insert((run, found)),
                Found::Tokens(found, _) => _ = own.tokens.get_or_insert((run, found)),
                Found::Interventions(found) => _ = own.interventions.get_or_insert((run, found)),
            }
        }
        own
    }

    /// Why these runs cannot be compared.
    fn other_length(&self, published: &PublishedRun) -> Option<String> {
        let runs = [
            self.existence.map(|(run, _)| run),
            self.tokens.map(|(run, _)| run),
            self.interventions.map(|(run, _)| run),
        ];
        let mut lengths = runs.into_iter().flatten().map(|run| run.context_length);
        let other = lengths.find(|length| *length != Some(published.context_length))?;
        let own = other.map_or_else(|| "unknown".to_owned(), |length| length.to_string());
        Some(format!(
            "context length {own}, published {}",
            published.context_length
        ))
    }
}

/// Rows of one checkpoint with or without BOS.
struct Rows<'a> {
    published: &'a PublishedRun,
    note: Option<String>,
    rows: Vec<Row>,
}

impl Rows<'_> {
    fn push(
        &mut self,
        quantity: impl Into<String>,
        (measured, published): (Option<Value>, Option<Value>),
        (tolerance, agrees): (Option<String>, Option<bool>),
    ) {
        self.rows.push(Row {
            model: self.published.hub_id.clone(),
            add_bos_token: self.published.bos_token,
            quantity: quantity.into(),
            measured,
            published,
            tolerance,
            agrees: agrees.filter(|_| self.note.is_none()),
            note: self.note.clone(),
        });
    }

    /// A row of two values that must be equal; a published one that is missing is no difference.
    fn equal(&mut self, quantity: &str, measured: Value, published: Option<Value>) {
        let agrees = published.as_ref().map(|published| *published == measured);
        self.push(quantity, (Some(measured), published), (None, agrees));
    }

    /// The verdict, and the largest layer mean.
    fn existence(&mut self, existence: &Existence) {
        let known = &self.published.existence_top1_mean_by_layer;
        let has = !known.is_empty();
        let published = known.values().copied().reduce(f64::max);
        self.equal(
            "has massive activations",
            Value::Flag(existence.has_massive_activations),
            Some(Value::Flag(has)),
        );
        let massive = existence.layers.iter().filter(|layer| layer.massive);
        let largest = massive.max_by(|a: &&Layer, b| a.top1_mean.total_cmp(&b.top1_mean));
        if largest.is_none() && published.is_none() {
            return;
        }
        let measured = largest.map(|layer| layer.top1_mean);
        let agrees = published.map(|published| {
            measured.is_some_and(|own| tolerance::relative(own, published, tolerance::MAGNITUDE))
        });
        self.push(
            "largest mean top-1",
            (measured.map(Value::Number), published.map(Value::Number)),
            (Some(tolerance::percent(tolerance::MAGNITUDE)), agrees),
        );
        // Medians were not published.
        if let Some(ratio) = largest.and_then(|layer| layer.ratio) {
            let ratio = Some(Value::Number(ratio));
            self.push(
                "ratio to the mean median there",
                (ratio, None),
                (None, None),
            );
        }
    }

    /// By single sequences; where these were not published, by the means.
    fn first_layer(&mut self, own: &Own<'_>) {
        if let (Some((_, tokens)), Some(_)) = (own.tokens, &self.published.dimensions) {
            let published = Value::layer(self.published.first_layer);
            self.equal(
                "first layer",
                Value::layer(tokens.first_layer),
                Some(published),
            );
        } else if let Some((_, existence)) = own.existence {
            let mut massive = existence.layers.iter().filter(|layer| layer.massive);
            let measured = Value::layer(massive.next().map(|layer| layer.layer));
            let known = self.published.existence_top1_mean_by_layer.keys();
            let published = Value::layer(known.min().copied());
            self.equal("first layer by means", measured, Some(published));
        }
    }

    /// The union, which is the definition, and what that program gathers in the order of the corpus.
    fn dimensions(&mut self, tokens: &Tokens) {
        let published = || self.published.dimensions.clone().map(Value::List);
        let (union, in_order) = (published(), published());
        self.equal("dimensions", Value::List(tokens.dimensions.clone()), union);
        self.equal(
            "dimensions in the order of the corpus",
            Value::List(tokens.dimensions_reference.clone()),
            in_order,
        );
    }

    fn perplexities(&mut self, found: &Interventions) {
        let published = self.published;
        let named = found.interventions.iter();
        let others = published.perplexity.keys();
        let others = others.filter(|name| !found.interventions.contains(name));
        for intervention in named.chain(others) {
            let known = published.perplexity.get(intervention);
            for set in &found.evaluation {
                let value = known.and_then(|sets| sets.get(&set.name)).copied();
                let original = published.perplexity.get("original");
                let original = original.and_then(|sets| sets.get(&set.name)).copied();
                let measured = found.perplexity.get(intervention);
                let measured = measured.and_then(|sets| sets.get(&set.name));
                // What double precision cannot hold is as good as infinite.
                let measured = measured.map(|value| value.unwrap_or(f64::INFINITY));
                if measured.is_none() && value.is_none() {
                    continue;
                }
                let scale = value.map(|value| Scale::of(value, original.unwrap_or(value)));
                let agrees = scale.zip(value).map(|(scale, value)| {
                    measured.is_some_and(|measured| scale.agrees(measured, value))
                });
                self.push(
                    format!("perplexity of {intervention} on {}", set.name),
                    (measured.map(Value::Number), value.map(Value::Number)),
                    (scale.map(Scale::text), agrees),
                );
            }
        }
    }
}
