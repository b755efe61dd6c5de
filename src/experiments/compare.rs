//! compare: several checkpoints by the numbers of the same experiments (table 2 and figures 7 to 10
//! of arXiv 2503.22329, for one's own models).
//!
//! A profile collects what the experiments found; only the perplexity of the text has no experiment of
//! its own.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    Finding,
    attention_share::AttentionShare,
    capture,
    existence_validation::ExistenceValidation,
    intervention_analysis::{InterventionAnalysis, Ratio},
    tokens_analysis::TokensAnalysis,
};
use crate::{
    backend::StatisticsRequest,
    engine::{Discard, Plan, Session, Site},
    error::Result,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/compare/1";

/// What the chosen experiments found in one checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// From existence-validation.
    pub existence: Option<ExistenceProfile>,
    /// From tokens-analysis.
    pub tokens: Option<TokensProfile>,
    /// Of the text, by the model as it is.
    pub perplexity: Option<f64>,
    /// From intervention-analysis.
    pub interventions: Option<InterventionsProfile>,
    /// From attention-share.
    pub attention: Option<AttentionShare>,
    /// Spread of the weights.
    pub weights: Option<WeightProfile>,
}

/// Magnitudes of the layer with the largest, and by layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExistenceProfile {
    /// Whether any layer is massive.
    pub has_massive_activations: bool,
    /// The largest mean top-1 of any layer.
    pub top1: f64,
    /// That layer.
    pub layer: usize,
    /// Its mean median.
    pub median: f64,
    /// `top1 / median`; null when the median is 0.
    pub ratio: Option<f64>,
    /// The layers with massive activations.
    pub massive_layers: Vec<usize>,
    /// First to last.
    pub layers: Vec<LayerMagnitudes>,
}

/// Means over sequences of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerMagnitudes {
    /// 0-based index.
    pub layer: usize,
    /// Mean of the largest magnitude.
    pub top1_mean: f64,
    /// Mean of the median magnitude.
    pub median_mean: f64,
}

/// Where single sequences have massive activations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokensProfile {
    /// Sequences with a massive activation in some layer.
    pub nsamples_massive: usize,
    /// The first layer with one.
    pub first_layer: Option<usize>,
    /// Their dimensions.
    pub dimensions: Vec<usize>,
    /// Their token positions.
    pub positions: Vec<usize>,
    /// The tokens there.
    pub tokens: BTreeSet<String>,
}

/// Perplexity of the text with the massive activations of the first massive layer overwritten.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InterventionsProfile {
    /// First massive layer of the calibration windows; null if there is none, and then there is
    /// nothing to overwrite.
    pub first_layer: Option<usize>,
    /// The dimensions that are overwritten.
    pub dimensions: Vec<usize>,
    /// Windows that layer, dimensions and means come from.
    pub calibration_windows: usize,
    /// Windows that perplexity is measured on.
    pub windows: usize,
    /// Those with massive activations.
    pub windows_massive: usize,
    /// Those in which zeroing overwrites a massive activation.
    pub windows_treated: usize,
    /// Perplexity with nothing overwritten; null beyond the range of double precision.
    pub original: Option<f64>,
    /// With zeros.
    pub set_to_zero: Option<Intervened>,
    /// With the means of the calibration windows whose first massive layer is `first_layer`.
    pub set_to_mean: Option<Intervened>,
}

/// What an intervention makes of perplexity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Intervened {
    /// The perplexity; null beyond the range of double precision.
    pub perplexity: Option<f64>,
    /// Over the original's.
    #[serde(flatten)]
    pub ratio: Ratio,
}

/// Standard deviations of the layers' weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightProfile {
    /// Mean over layers.
    pub std: f64,
    /// By layer, the mean over its 2-D weights.
    pub layers: Vec<f64>,
}

impl ExistenceProfile {
    /// Of a model with at least one layer.
    pub fn of(found: &ExistenceValidation) -> Option<Self> {
        let largest = found.layers.iter().reduce(|largest, layer| {
            if layer.top1_mean > largest.top1_mean {
                layer
            } else {
                largest
            }
        })?;
        Some(Self {
            has_massive_activations: found.has_massive_activations,
            top1: largest.top1_mean,
            layer: largest.layer,
            median: largest.median_mean,
            ratio: largest.ratio,
            massive_layers: found
                .layers
                .iter()
                .filter(|layer| layer.massive)
                .map(|layer| layer.layer)
                .collect(),
            layers: found
                .layers
                .iter()
                .map(|layer| LayerMagnitudes {
                    layer: layer.layer,
                    top1_mean: layer.top1_mean,
                    median_mean: layer.median_mean,
                })
                .collect(),
        })
    }
}

impl From<&TokensAnalysis> for TokensProfile {
    fn from(found: &TokensAnalysis) -> Self {
        Self {
            nsamples_massive: found.nsamples_massive,
            first_layer: found.summary.first_layer,
            dimensions: found.summary.dimensions.clone(),
            positions: found.unique_tokens.keys().copied().collect(),
            tokens: found.unique_tokens.values().flatten().cloned().collect(),
        }
    }
}

impl InterventionsProfile {
    /// Of an analysis of one evaluation set.
    pub fn of(found: &InterventionAnalysis, calibration_windows: usize) -> Option<Self> {
        let set = found.evaluation.first()?;
        let perplexity = |intervention: &str| {
            let sets = found.perplexity.get(intervention)?;
            sets.get(&set.name).copied().flatten()
        };
        let intervened = |intervention: &str| {
            Some(Intervened {
                perplexity: perplexity(intervention),
                ratio: *found.ratios.get(intervention)?.get(&set.name)?,
            })
        };
        let mean = found
            .first_layer
            .map(|layer| format!("set_to_mean_{layer}"));
        Some(Self {
            first_layer: found.first_layer,
            dimensions: found.dimensions.clone(),
            calibration_windows,
            windows: set.windows,
            windows_massive: set.windows_massive,
            windows_treated: found
                .windows_treated
                .get("set_to_zero")
                .and_then(|sets| sets.get(&set.name).copied())
                .unwrap_or(0),
            original: perplexity("original"),
            set_to_zero: intervened("set_to_zero"),
            set_to_mean: mean.and_then(|name| intervened(&name)),
        })
    }
}

/// Perplexity of the sequences: `exp` of the mean over sequences of each one's mean NLL; none if they
/// have one token each.
pub fn perplexity(session: &Session, sequences: &[Vec<u32>]) -> Result<Finding<Option<f64>>> {
    let nothing = StatisticsRequest {
        top_k: 0,
        abs_threshold: 0.0,
        rel_threshold: 0.0,
        moments: false,
    };
    let plan = Plan {
        sites: Vec::new(),
        nll: true,
        ..Plan::magnitudes(Site::LayerOutput, nothing)
    };
    let found = capture::run(session, sequences, &plan, 0, &mut Discard)?;
    let sequences = found.result.sequences.iter();
    let nll: Vec<f64> = sequences.filter_map(|sequence| sequence.nll).collect();
    Ok(Finding {
        result: (!nll.is_empty()).then(|| (nll.iter().sum::<f64>() / nll.len() as f64).exp()),
        timings: found.timings,
    })
}

impl WeightProfile {
    /// Of standard deviations by layer.
    pub fn of(layers: Vec<f64>) -> Self {
        Self {
            std: layers.iter().sum::<f64>() / layers.len().max(1) as f64,
            layers,
        }
    }
}
