//! The figures of a comparison.

use super::entries::{Entry, measured};
use crate::{
    experiments::compare::{Intervened, InterventionsProfile, Profile},
    present::intervention_analysis::Groups,
    report::plot::Scale,
};

/// By intervention, the checkpoints' ratios; those without massive activations have none.
pub(super) fn perplexity_ratios(entries: &[Entry]) -> Groups {
    INTERVENTIONS
        .into_iter()
        .map(|(name, of)| {
            let rows = measured(entries).filter_map(|(entry, found)| {
                let profile = found.profile.interventions.as_ref()?;
                Some((entry.label.clone(), of(profile)?.ratio))
            });
            (name.to_owned(), rows.collect::<Vec<_>>())
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
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

/// File name, heading, scale and values of the figures.
pub(super) const BY_LAYER: [(&str, &str, Scale, ByLayer); 7] = [
    (
        "top1_by_layer",
        "Largest magnitude (mean top-1)",
        Scale::Log,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.top1_mean).collect()
        },
    ),
    (
        "median_by_layer",
        "Median magnitude (mean median)",
        Scale::Log,
        |profile| {
            let layers = profile.existence.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.median_mean).collect()
        },
    ),
    (
        "ratio_by_layer",
        "Largest magnitude over the median",
        Scale::Log,
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
        Scale::Linear,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.first_token).collect()
        },
    ),
    (
        "attention_to_massive_tokens",
        "Share of attention to massive tokens",
        Scale::Linear,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            layers.map(|layer| layer.massive_tokens).collect()
        },
    ),
    (
        "attention_to_kv_bias",
        "Share of attention to the learned key",
        Scale::Linear,
        |profile| {
            let layers = profile.attention.iter().flat_map(|found| &found.layers);
            let shares: Option<Vec<f64>> = layers.map(|layer| layer.kv_bias).collect();
            shares.unwrap_or_default()
        },
    ),
    (
        "weight_std_by_layer",
        "Standard deviation of the weights",
        Scale::Log,
        |profile| {
            profile
                .weights
                .iter()
                .flat_map(|found| found.layers.clone())
                .collect()
        },
    ),
];
