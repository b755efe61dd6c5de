//! The massive dimensions of each layer, as quantisation and ablation tools want them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::SequenceTokens;

/// Value of the `schema` field of massive_dimensions.json.
pub const DIMENSIONS_SCHEMA: &str = "massact/massive-dimensions/1";

/// One dimension that is massive in one layer's output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MassiveDimension {
    /// 0-based index of the layer.
    pub layer: usize,
    /// Index in the hidden state.
    pub dimension: usize,
    /// Token positions at which it is massive in some sequence, ascending.
    pub positions: Vec<usize>,
    /// The tokens there.
    pub tokens: BTreeSet<String>,
    /// Mean of |h| over the massive values.
    pub mean: f64,
    /// Largest |h|.
    pub max: f64,
    /// The massive values' sign.
    pub sign: Sign,
    /// How many massive values, over all sequences.
    pub count: usize,
    /// Share of the sequences that have at least one, in 0..=1.
    pub sequence_share: f64,
    /// Consecutive layers, this one and the following, in which the dimension is massive.
    pub persists: usize,
}

/// Sign of several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// All above zero.
    Positive,
    /// All below zero.
    Negative,
    /// Both occur.
    Mixed,
}

/// What is gathered about one (layer, dimension).
#[derive(Default)]
struct Gathered {
    positions: BTreeSet<usize>,
    tokens: BTreeSet<String>,
    sequences: BTreeSet<usize>,
    values: Vec<f64>,
}

/// All massive (layer, dimension) pairs, ascending.
pub fn massive_dimensions(sequences: &[SequenceTokens]) -> Vec<MassiveDimension> {
    let mut gathered: BTreeMap<(usize, usize), Gathered> = BTreeMap::new();
    for sequence in sequences {
        for found in &sequence.detections.layers {
            for entry in &found.massive {
                let place = gathered.entry((found.layer, entry.dimension)).or_default();
                place.positions.insert(entry.position);
                place
                    .tokens
                    .extend(sequence.tokens.get(&entry.position).cloned());
                place.sequences.insert(sequence.sequence);
                place.values.push(f64::from(entry.value));
            }
        }
    }
    let persists = |layer: usize, dimension: usize| {
        (layer..)
            .take_while(|layer| gathered.contains_key(&(*layer, dimension)))
            .count()
    };
    gathered
        .iter()
        .map(|(&(layer, dimension), found)| {
            let magnitudes = || found.values.iter().map(|value| value.abs());
            MassiveDimension {
                layer,
                dimension,
                positions: found.positions.iter().copied().collect(),
                tokens: found.tokens.clone(),
                mean: magnitudes().sum::<f64>() / found.values.len() as f64,
                max: magnitudes().fold(0.0, f64::max),
                sign: Sign::of(&found.values),
                count: found.values.len(),
                sequence_share: found.sequences.len() as f64 / sequences.len() as f64,
                persists: persists(layer, dimension),
            }
        })
        .collect()
}

impl Sign {
    /// Massive values are never zero.
    fn of(values: &[f64]) -> Self {
        if values.iter().all(|value| *value > 0.0) {
            Self::Positive
        } else if values.iter().all(|value| *value < 0.0) {
            Self::Negative
        } else {
            Self::Mixed
        }
    }

    /// As a table shows it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Positive => "+",
            Self::Negative => "-",
            Self::Mixed => "+/-",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Detections, LayerDetections};
    use super::*;
    use crate::backend::Entry;

    /// (layer, position, dimension, value)
    fn sequence(sequence: usize, massive: &[(usize, usize, usize, f32)]) -> SequenceTokens {
        let mut layers: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
        for &(layer, position, dimension, value) in massive {
            let entry = Entry {
                position,
                dimension,
                value,
            };
            layers.entry(layer).or_default().push(entry);
        }
        SequenceTokens {
            sequence,
            first_layer: layers.keys().next().copied(),
            tokens: massive
                .iter()
                .map(|&(_, position, ..)| (position, format!("t{position}")))
                .collect(),
            detections: Detections {
                layers: layers
                    .into_iter()
                    .map(|(layer, massive)| LayerDetections { layer, massive })
                    .collect(),
            },
        }
    }

    #[test]
    fn gathers_by_layer_and_dimension() {
        let sequences = [
            sequence(
                0,
                &[(1, 0, 7, -300.0), (2, 0, 7, -400.0), (4, 0, 7, -200.0)],
            ),
            sequence(1, &[(1, 0, 7, -500.0), (1, 5, 7, -100.0), (2, 0, 9, 150.0)]),
            sequence(2, &[]),
            sequence(3, &[(2, 5, 9, -250.0)]),
        ];
        let found = massive_dimensions(&sequences);
        let places: Vec<_> = found
            .iter()
            .map(|d| (d.layer, d.dimension, d.count, d.persists, d.sign.symbol()))
            .collect();
        assert_eq!(
            places,
            [
                (1, 7, 3, 2, "-"),
                (2, 7, 1, 1, "-"),
                (2, 9, 2, 1, "+/-"),
                (4, 7, 1, 1, "-")
            ]
        );
        let first = &found[0];
        assert_eq!(first.positions, [0, 5]);
        assert!(first.tokens.iter().eq(["t0", "t5"]));
        assert_eq!((first.mean, first.max), (300.0, 500.0));
        assert_eq!(first.sequence_share, 0.5);
        assert_eq!(found[2].mean, 200.0);
    }

    #[test]
    fn nothing_found() {
        assert!(massive_dimensions(&[]).is_empty());
        assert!(massive_dimensions(&[sequence(0, &[])]).is_empty());
    }
}
