//! existence-validation: are there massive activations, in which layers, how large?
//!
//! Definition (section 2 of arXiv 2503.22329 and its program): per layer the largest magnitude and
//! the median magnitude of each sequence's hidden state are averaged over the sequences; a layer
//! is massive if the mean maximum is above `abs_threshold` and at least `rel_threshold` times the
//! mean median.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{
    Thresholds, TokenEntry,
    corpus::CorpusWalk,
    summary::{TOP_K, mean, top_over_sequences},
};
use crate::{backend::Statistics, engine::Session};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/existence-validation/1";

/// The verdict and the evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExistenceValidation {
    /// Whether any layer is massive.
    pub has_massive_activations: bool,
    /// Threshold on the mean maximum.
    pub abs_threshold: f64,
    /// Threshold on its ratio to the mean median.
    pub rel_threshold: f64,
    /// Sequences that were run.
    pub nsamples: usize,
    /// One report a layer, first to last.
    pub layers: Vec<LayerReport>,
}

/// What was found in one layer's output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerReport {
    /// 0-based index.
    pub layer: usize,
    /// Mean over sequences of max |h|.
    pub top1_mean: f64,
    /// Mean over sequences of the median of |h|.
    pub median_mean: f64,
    /// `top1_mean / median_mean`; null when the median is 0.
    pub ratio: Option<f64>,
    /// Whether this layer is massive.
    pub massive: bool,
    /// The same of the sum of the layer's residual streams, where it hands on several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_sum: Option<Means>,
    /// The largest entries over all sequences.
    pub top: Vec<TokenEntry>,
    /// The two averaged quantities of each sequence.
    pub sequences: Vec<SequenceReport>,
}

/// The two means, and what follows of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Means {
    /// Mean over sequences of max |x|.
    pub top1_mean: f64,
    /// Mean over sequences of the median of |x|.
    pub median_mean: f64,
    /// `top1_mean / median_mean`; null when the median is 0.
    pub ratio: Option<f64>,
    /// Whether both thresholds are met.
    pub massive: bool,
}

/// One sequence's part in a layer's means.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SequenceReport {
    /// max |h|
    pub top1: f32,
    /// median of |h|
    pub median: f32,
}

/// Summarises the corpus's first sequences, which these are.
pub fn summarise(
    session: &Session,
    sequences: &[Vec<u32>],
    walk: &CorpusWalk,
    thresholds: Thresholds,
) -> ExistenceValidation {
    let layers: Vec<LayerReport> = walk
        .layers(sequences.len())
        .into_iter()
        .enumerate()
        .map(|(layer, found)| {
            let sum = walk.sums(layer, sequences.len());
            LayerReport {
                stream_sum: sum.map(|found| Means::of(found, thresholds)),
                ..report(session, sequences, layer, found, thresholds)
            }
        })
        .collect();
    ExistenceValidation {
        has_massive_activations: layers.iter().any(|layer| layer.massive),
        abs_threshold: thresholds.abs,
        rel_threshold: thresholds.rel,
        nsamples: sequences.len(),
        layers,
    }
}

fn report(
    session: &Session,
    sequences: &[Vec<u32>],
    layer: usize,
    found: &[Statistics],
    thresholds: Thresholds,
) -> LayerReport {
    let Means {
        top1_mean,
        median_mean,
        ratio,
        massive,
    } = Means::of(found, thresholds);
    LayerReport {
        layer,
        top1_mean,
        median_mean,
        ratio,
        massive,
        stream_sum: None,
        top: top_over_sequences(session, sequences, found, TOP_K),
        sequences: found
            .iter()
            .map(|sequence| SequenceReport {
                top1: sequence.max,
                median: sequence.median,
            })
            .collect(),
    }
}

impl Means {
    fn of(found: &[Statistics], thresholds: Thresholds) -> Self {
        let top1_mean = mean(found.iter().map(|sequence| sequence.max));
        let median_mean = mean(found.iter().map(|sequence| sequence.median));
        Self {
            top1_mean,
            median_mean,
            ratio: (median_mean > 0.0).then(|| top1_mean / median_mean),
            massive: is_massive(top1_mean, median_mean, thresholds),
        }
    }
}

/// Strict for the absolute threshold, not strict for the ratio: as the reference program.
fn is_massive(top1: f64, median: f64, thresholds: Thresholds) -> bool {
    top1 > thresholds.abs && top1 >= thresholds.rel * median
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_above_the_value_but_not_the_ratio() {
        let thresholds = Thresholds {
            abs: 100.0,
            rel: 1000.0,
        };
        assert!(!is_massive(100.0, 0.01, thresholds));
        assert!(is_massive(100.5, 0.1005, thresholds));
        assert!(!is_massive(100.5, 0.100_6, thresholds));
        assert!(is_massive(2400.0, 0.0, thresholds));
    }
}
