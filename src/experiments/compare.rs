//! compare: several checkpoints by the numbers of the same experiments (table 2 and figures 7 to 10
//! of arXiv 2503.22329, for one's own models).
//!
//! Nothing is measured here: a profile collects what the experiments found.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{attention_share::AttentionShare, existence_validation::ExistenceValidation};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/compare/1";

/// What the chosen experiments found in one checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Profile {
    /// From existence-validation.
    pub existence: Option<ExistenceProfile>,
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

impl WeightProfile {
    /// Of standard deviations by layer.
    pub fn of(layers: Vec<f64>) -> Self {
        Self {
            std: layers.iter().sum::<f64>() / layers.len().max(1) as f64,
            layers,
        }
    }
}
