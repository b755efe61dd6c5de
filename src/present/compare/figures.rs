//! The figures of a comparison.

use super::entries::Entry;
use crate::{
    experiments::{
        compare::{Intervened, InterventionsProfile, Profile},
        intervention_analysis::Ratio,
    },
    present::intervention_analysis::{Groups, RatioRow},
    report::plot::ScaleChoice,
};

/// By intervention, the checkpoints' ratios, if any has one. A checkpoint without keeps its row.
pub(super) fn perplexity_ratios(entries: &[Entry]) -> Groups {
    let groups = INTERVENTIONS.into_iter().map(|(name, of)| {
        let rows = entries.iter().enumerate().map(|(index, entry)| RatioRow {
            label: entry.label.clone(),
            index,
            ratio: ratio(entry, of),
        });
        (name.to_owned(), rows.collect::<Vec<_>>())
    });
    groups
        .filter(|(_, rows)| rows.iter().any(|row| row.ratio.is_ok()))
        .collect()
}

fn ratio(entry: &Entry, of: OfIntervention) -> Result<Ratio, &'static str> {
    let found = entry.outcome.as_ref().map_err(|_| "failed")?;
    let profile = found.profile.interventions.as_ref();
    let profile = profile.ok_or("not measured")?;
    let found = of(profile).ok_or("nothing massive to overwrite")?;
    Ok(found.ratio)
}

/// Names and results of the interventions that are shown.
const INTERVENTIONS: [(&str, OfIntervention); 2] = [
    ("set_to_zero", |profile| profile.set_to_zero),
    ("set_to_mean", |profile| profile.set_to_mean),
];

pub(super) type OfIntervention = fn(&InterventionsProfile) -> Option<Intervened>;

type ByLayer = fn(&Profile) -> Vec<f64>;

/// The figures of a layer's largest value, which has a place.
pub(super) const OF_LARGEST: [&str; 2] = ["top1_by_layer", "ratio_by_layer"];

/// What the values of a figure are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Magnitude,
    /// Read from zero, whatever they are.
    Share,
}

impl Kind {
    /// The scale, of the one that is asked for.
    pub(super) fn scale(self, asked: ScaleChoice) -> ScaleChoice {
        match self {
            Self::Magnitude => asked,
            Self::Share => ScaleChoice::Linear,
        }
    }
}

/// What a layer without attention has no share of is not a number.
fn known(share: Option<f64>) -> f64 {
    share.unwrap_or(f64::NAN)
}

/// File name, heading, label of the values, their kind and the values of the figures.
pub(super) const BY_LAYER: [(&str, &str, &str, Kind, ByLayer); 7] = [
    (
        "top1_by_layer",
        "Largest magnitude (mean top-1)",
        "Mean top-1",
        Kind::Magnitude,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.top1_mean).collect()
        },
    ),
    (
        "median_by_layer",
        "Median magnitude (mean median)",
        "Mean median",
        Kind::Magnitude,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.median_mean).collect()
        },
    ),
    (
        "ratio_by_layer",
        "Largest magnitude over the median",
        "Top-1 over median",
        Kind::Magnitude,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers
                .map(|layer| layer.top1_mean / layer.median_mean)
                .collect()
        },
    ),
    (
        "attention_to_first_token",
        "Share of attention to the first token",
        "Share of attention",
        Kind::Share,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| known(layer.first_token)).collect()
        },
    ),
    (
        "attention_to_massive_tokens",
        "Share of attention to massive tokens",
        "Share of attention",
        Kind::Share,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| known(layer.massive_tokens)).collect()
        },
    ),
    (
        "attention_to_kv_bias",
        "Share of attention to the learned key",
        "Share of attention",
        Kind::Share,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| known(layer.kv_bias)).collect()
        },
    ),
    (
        "weight_std_by_layer",
        "Standard deviation of the weights",
        "Mean std of the weights",
        Kind::Magnitude,
        |profile| {
            profile
                .weights
                .iter()
                .flat_map(|found| found.layers.clone())
                .collect()
        },
    ),
];
