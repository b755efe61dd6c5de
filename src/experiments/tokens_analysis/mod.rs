//! tokens-analysis: on which tokens and in which dimensions are the massive activations, and in
//! which layer do they first appear?
//!
//! Definition (arXiv 2402.17762, section 2; arXiv 2503.22329 and its program): in one sequence's hidden state H of
//! a layer, h is massive if |h| > `abs_threshold` and |h| > `rel_threshold` x median(|H|), both
//! strict. Every sequence is looked at on its own; [`Summary`] says what they have in common.
#![forbid(unsafe_code)]

mod detections;
mod dimensions;
mod summary;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub use detections::{Detections, LayerDetections};
pub use dimensions::{DIMENSIONS_SCHEMA, MassiveDimension, Sign, massive_dimensions};
pub use summary::{Magnitude, Summary};

use super::{Thresholds, corpus::CorpusWalk};
use crate::engine::Session;

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/tokens-analysis/1";

/// Where the massive activations are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokensAnalysis {
    /// Threshold on |h|.
    pub abs_threshold: f64,
    /// Threshold on |h| as a multiple of the layer's median.
    pub rel_threshold: f64,
    /// Sequences that were run.
    pub nsamples: usize,
    /// Sequences that have a massive activation in some layer.
    pub nsamples_massive: usize,
    /// What the sequences have in common, by the definition.
    #[serde(flatten)]
    pub summary: Summary,
    /// `dimensions` as the reference program reports them for this order of the sequences.
    pub dimensions_reference: Vec<usize>,
    /// `magnitudes` as the reference program reports them.
    pub magnitudes_reference: Vec<Magnitude>,
    /// Which of `dimensions` and `magnitudes` the reference program reports differently.
    pub reference_differs: Vec<&'static str>,
    /// The tokens with massive activations in any layer, by position.
    pub unique_tokens: BTreeMap<usize, BTreeSet<String>>,
    /// One report a sequence, in order.
    pub sequences: Vec<SequenceTokens>,
}

/// One sequence's massive activations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SequenceTokens {
    /// Index of the sequence.
    pub sequence: usize,
    /// Its first massive layer.
    pub first_layer: Option<usize>,
    /// The tokens with massive activations in any layer, by position.
    pub tokens: BTreeMap<usize, String>,
    /// Its layers with massive activations.
    #[serde(flatten)]
    pub detections: Detections,
}

/// Summarises the corpus's first sequences, which these are.
pub fn summarise(
    session: &Session,
    sequences: &[Vec<u32>],
    walk: &CorpusWalk,
    thresholds: Thresholds,
) -> TokensAnalysis {
    let detections = Detections::collect(&walk.layers(sequences.len()));
    let token = |sequence: usize, position: usize| -> String {
        session.token(sequences[sequence][position])
    };
    TokensAnalysis::of(detections, thresholds, token)
}

impl TokensAnalysis {
    /// Summarises; `token(sequence, position)` is a token's text.
    fn of(
        detections: Vec<Detections>,
        thresholds: Thresholds,
        token: impl Fn(usize, usize) -> String,
    ) -> Self {
        let summary = Summary::clean(&detections);
        let reference = Summary::reference(&detections);
        let mut unique_tokens: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let sequences: Vec<SequenceTokens> = detections
            .into_iter()
            .enumerate()
            .map(|(sequence, detections)| SequenceTokens {
                sequence,
                first_layer: detections.first().map(|found| found.layer),
                tokens: detections
                    .positions()
                    .into_iter()
                    .map(|position| (position, token(sequence, position)))
                    .collect(),
                detections,
            })
            .collect();
        for (position, token) in sequences.iter().flat_map(|sequence| &sequence.tokens) {
            let tokens = unique_tokens.entry(*position).or_default();
            tokens.insert(token.clone());
        }
        let mut reference_differs = Vec::new();
        if summary.dimensions != reference.dimensions {
            reference_differs.push("dimensions");
        }
        if !reference.same_magnitudes(&summary) {
            reference_differs.push("magnitudes");
        }
        Self {
            abs_threshold: thresholds.abs,
            rel_threshold: thresholds.rel,
            nsamples: sequences.len(),
            nsamples_massive: sequences
                .iter()
                .filter(|sequence| sequence.first_layer.is_some())
                .count(),
            summary,
            dimensions_reference: reference.dimensions,
            magnitudes_reference: reference.magnitudes,
            reference_differs,
            unique_tokens,
            sequences,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Entry;

    fn layer(layer: usize, places: &[(usize, usize)]) -> LayerDetections {
        let entry = |&(position, dimension): &(usize, usize)| Entry {
            position,
            dimension,
            value: -500.0,
        };
        LayerDetections {
            layer,
            massive: places.iter().map(entry).collect(),
        }
    }

    #[test]
    fn tokens_by_position_and_where_the_reference_differs() {
        let sequences = vec![
            Detections::default(),
            Detections {
                layers: vec![layer(1, &[(0, 7)]), layer(2, &[(0, 7), (3, 9)])],
            },
            Detections {
                layers: vec![layer(2, &[(3, 7)])],
            },
        ];
        let thresholds = Thresholds {
            abs: 100.0,
            rel: 1000.0,
        };
        let token = |sequence: usize, position: usize| format!("{sequence}:{position}");
        let found = TokensAnalysis::of(sequences, thresholds, token);
        assert_eq!((found.nsamples, found.nsamples_massive), (3, 2));
        let tokens: Vec<(usize, Vec<&str>)> = found
            .unique_tokens
            .iter()
            .map(|(position, tokens)| (*position, tokens.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(tokens, [(0, vec!["1:0"]), (3, vec!["1:3", "2:3"])]);
        assert_eq!(found.summary.dimensions, [7, 9]);
        assert_eq!(found.dimensions_reference, [7]);
        assert_eq!(found.reference_differs, ["dimensions"]);
        let first: Vec<Option<usize>> = found.sequences.iter().map(|s| s.first_layer).collect();
        assert_eq!(first, [None, Some(1), Some(2)]);
        let document = serde_json::to_value(&found).expect("JSON");
        assert_eq!(document["first_layer"], 1);
        assert_eq!(document["unique_tokens"]["3"][1], "2:3");
        assert_eq!(document["sequences"][1]["tokens"]["3"], "1:3");
        let entry = &document["sequences"][1]["layers"][1]["massive"][1];
        assert_eq!(
            *entry,
            serde_json::json!({"position": 3, "dimension": 9, "value": -500.0})
        );
    }
}
