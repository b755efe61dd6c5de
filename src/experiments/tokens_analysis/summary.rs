//! What the massive activations of several sequences have in common.
//!
//! [`Summary::clean`] is the definition: every sequence and every layer counts alike.
//! [`Summary::reference`] is what the program of arXiv 2503.22329 computes while it reads the
//! sequences one after another, which depends on their order in two ways:
//!
//! - Dimensions: the first sequence with a hit adds only the dimensions of its own first massive
//!   layer; every later one adds those of all its massive layers.
//! - Magnitudes "in the first layer": collected from the smallest layer seen *so far*, so values of
//!   deeper layers, collected before that smallest layer dropped, stay mixed in.
//!
//! The two agree when all sequences have the same first layer and that layer shows all dimensions.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::detections::Detections;
use crate::backend::Entry;

/// First layer, dimensions and magnitudes over all sequences.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The first layer in which any sequence has a massive activation.
    pub first_layer: Option<usize>,
    /// Dimensions with massive activations, ascending.
    pub dimensions: Vec<usize>,
    /// Magnitudes in the first layer. Clean: ascending by position, then dimension. Reference: by
    /// position, then dimension, each in the order of first appearance.
    pub magnitudes: Vec<Magnitude>,
}

/// The magnitudes at one place over the sequences that are massive there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Magnitude {
    /// Token position.
    pub position: usize,
    /// Index in the hidden state.
    pub dimension: usize,
    /// Mean of |h|.
    pub mean: f64,
    /// Standard deviation of |h| without Bessel's correction (numpy's default), 0 for one value.
    pub std: f64,
    /// How many values.
    pub count: usize,
}

impl Summary {
    /// The definition: the plain union over sequences and layers; magnitudes of the first layer.
    pub fn clean(sequences: &[Detections]) -> Self {
        let first_layer = first_layers(sequences).min();
        let all_layers = || sequences.iter().flat_map(|sequence| &sequence.layers);
        let dimensions: BTreeSet<usize> =
            all_layers().flat_map(|found| found.dimensions()).collect();
        let mut values: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        let in_first = all_layers().filter(|found| Some(found.layer) == first_layer);
        for entry in in_first.flat_map(|found| &found.massive) {
            let place = (entry.position, entry.dimension);
            values.entry(place).or_default().push(magnitude(entry));
        }
        Self {
            first_layer,
            dimensions: dimensions.into_iter().collect(),
            magnitudes: values
                .iter()
                .map(|(&(position, dimension), values)| Magnitude::of(position, dimension, values))
                .collect(),
        }
    }

    /// What the reference program reports for the sequences in this order.
    pub fn reference(sequences: &[Detections]) -> Self {
        let mut first_layer = None;
        let mut dimensions = BTreeSet::new();
        let mut values = Collected::default();
        for sequence in sequences {
            let Some(own_first) = sequence.first() else {
                continue;
            };
            let smallest = first_layer.map_or(own_first.layer, |seen| own_first.layer.min(seen));
            first_layer = Some(smallest);
            if dimensions.is_empty() {
                dimensions = own_first.dimensions();
            } else {
                dimensions.extend(sequence.layers.iter().flat_map(|found| found.dimensions()));
            }
            let counted = sequence.layers.iter().find(|found| found.layer == smallest);
            for entry in counted.iter().flat_map(|found| &found.massive) {
                values.push(entry);
            }
        }
        Self {
            first_layer,
            dimensions: dimensions.into_iter().collect(),
            magnitudes: values.summarise(),
        }
    }

    /// Whether the magnitudes are those of `other`, in whatever order.
    pub(super) fn same_magnitudes(&self, other: &Self) -> bool {
        let mut own = self.magnitudes.clone();
        own.sort_by_key(|magnitude| (magnitude.position, magnitude.dimension));
        own == other.magnitudes
    }
}

/// The first massive layer of each sequence that has one.
fn first_layers(sequences: &[Detections]) -> impl Iterator<Item = usize> {
    sequences
        .iter()
        .filter_map(|sequence| sequence.first().map(|found| found.layer))
}

fn magnitude(entry: &Entry) -> f64 {
    f64::from(entry.value).abs()
}

/// Pairs in the order in which their keys first appeared.
type InOrder<T> = Vec<(usize, T)>;

/// Magnitudes by position, then dimension.
#[derive(Default)]
struct Collected {
    positions: InOrder<InOrder<Vec<f64>>>,
}

impl Collected {
    fn push(&mut self, entry: &Entry) {
        let dimensions = at_key(&mut self.positions, entry.position);
        at_key(dimensions, entry.dimension).push(magnitude(entry));
    }

    fn summarise(&self) -> Vec<Magnitude> {
        self.positions
            .iter()
            .flat_map(|(position, dimensions)| {
                dimensions
                    .iter()
                    .map(|(dimension, values)| Magnitude::of(*position, *dimension, values))
            })
            .collect()
    }
}

/// The value of `key`, added at the end if it is new. The lists are short.
fn at_key<T: Default>(pairs: &mut InOrder<T>, key: usize) -> &mut T {
    let index = pairs.iter().position(|(own, _)| *own == key);
    let index = index.unwrap_or_else(|| {
        pairs.push((key, T::default()));
        pairs.len() - 1
    });
    &mut pairs[index].1
}

impl Magnitude {
    fn of(position: usize, dimension: usize, values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self {
            position,
            dimension,
            mean,
            std: (squares / count as f64).sqrt(),
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::detections::LayerDetections;
    use super::*;

    /// (position, dimension, value)
    type Place = (usize, usize, f32);

    /// From (layer, places).
    fn sequence(layers: &[(usize, &[Place])]) -> Detections {
        Detections {
            layers: layers
                .iter()
                .map(|&(layer, massive)| LayerDetections {
                    layer,
                    massive: massive
                        .iter()
                        .map(|&(position, dimension, value)| Entry {
                            position,
                            dimension,
                            value,
                        })
                        .collect(),
                })
                .collect(),
        }
    }

    fn places(summary: &Summary) -> Vec<(usize, usize, f64, f64, usize)> {
        summary
            .magnitudes
            .iter()
            .map(|m| (m.position, m.dimension, m.mean, m.std, m.count))
            .collect()
    }

    #[test]
    fn nothing_found() {
        let sequences = [Detections::default(), Detections::default()];
        for summary in [
            Summary::clean(&sequences),
            Summary::reference(&sequences),
            Summary::clean(&[]),
            Summary::reference(&[]),
        ] {
            assert_eq!(summary, Summary::default());
        }
    }

    #[test]
    fn one_sequence_adds_all_layers_or_only_its_first() {
        let sequences = [
            Detections::default(),
            sequence(&[
                (2, &[(0, 7, -300.0)]),
                (3, &[(0, 7, -310.0), (5, 9, 200.0)]),
            ]),
        ];
        let clean = Summary::clean(&sequences);
        assert_eq!(clean.first_layer, Some(2));
        assert_eq!(clean.dimensions, [7, 9]);
        assert_eq!(places(&clean), [(0, 7, 300.0, 0.0, 1)]);
        let reference = Summary::reference(&sequences);
        assert_eq!(reference.first_layer, Some(2));
        assert_eq!(
            reference.dimensions,
            [7],
            "a sequence without hits is not the first"
        );
        assert_eq!(places(&reference), [(0, 7, 300.0, 0.0, 1)]);
    }

    #[test]
    fn the_reference_keeps_magnitudes_of_layers_that_were_first_for_a_while() {
        let late = sequence(&[(4, &[(6, 9, 500.0), (8, 3, 150.0)])]);
        let early = sequence(&[(1, &[(0, 3, 200.0)]), (4, &[(0, 9, 900.0), (6, 9, 700.0)])]);
        let more = sequence(&[(1, &[(0, 3, -400.0), (6, 9, 600.0)])]);
        let sequences = [late.clone(), early.clone(), more.clone()];
        let clean = Summary::clean(&sequences);
        assert_eq!(clean.first_layer, Some(1));
        assert_eq!(
            places(&clean),
            [(0, 3, 300.0, 100.0, 2), (6, 9, 600.0, 0.0, 1)]
        );
        let reference = Summary::reference(&sequences);
        assert_eq!(reference.first_layer, Some(1));
        assert_eq!(
            places(&reference),
            [
                (6, 9, 550.0, 50.0, 2),
                (8, 3, 150.0, 0.0, 1),
                (0, 3, 300.0, 100.0, 2)
            ],
            "in the order of first appearance"
        );
        // With the early one in front nothing of layer 4 is collected.
        let sequences = [early, late, more];
        let reference = Summary::reference(&sequences);
        assert_eq!(
            places(&reference),
            [(0, 3, 300.0, 100.0, 2), (6, 9, 600.0, 0.0, 1)]
        );
        assert_eq!(reference.dimensions, [3, 9]);
    }

    /// Sequences as a run finds them: layers ascending, entries by position, then dimension.
    fn detections() -> impl Strategy<Value = Vec<Detections>> {
        let place = (0usize..4, 0usize..4, 0usize..5);
        let sequence = proptest::collection::btree_map(place, 100f32..3000.0, 0..6);
        proptest::collection::vec(sequence, 0..6).prop_map(|sequences| {
            let of = |places: BTreeMap<(usize, usize, usize), f32>| {
                let mut layers: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
                for ((layer, position, dimension), value) in places {
                    let entry = Entry {
                        position,
                        dimension,
                        value,
                    };
                    layers.entry(layer).or_default().push(entry);
                }
                Detections {
                    layers: layers
                        .into_iter()
                        .map(|(layer, massive)| LayerDetections { layer, massive })
                        .collect(),
                }
            };
            sequences.into_iter().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn the_clean_summary_does_not_depend_on_the_order(
            sequences in detections(),
            shift in 0usize..6,
        ) {
            let mut turned = sequences.clone();
            turned.rotate_left(shift.min(sequences.len()));
            let (one, other) = (Summary::clean(&sequences), Summary::clean(&turned));
            prop_assert_eq!(one.first_layer, other.first_layer);
            prop_assert_eq!(one.dimensions, other.dimensions);
            prop_assert_eq!(one.magnitudes.len(), other.magnitudes.len());
            for (a, b) in one.magnitudes.iter().zip(&other.magnitudes) {
                prop_assert_eq!((a.position, a.dimension, a.count), (b.position, b.dimension, b.count));
                prop_assert!((a.mean - b.mean).abs() < 1e-9 * a.mean);
                prop_assert!((a.std - b.std).abs() < 1e-9 * a.mean);
            }
        }

        #[test]
        fn the_reference_summary_finds_part_of_the_dimensions_and_at_least_the_first_layer(
            sequences in detections(),
        ) {
            let (clean, reference) = (Summary::clean(&sequences), Summary::reference(&sequences));
            prop_assert_eq!(clean.first_layer, reference.first_layer);
            for dimension in &reference.dimensions {
                prop_assert!(clean.dimensions.contains(dimension));
            }
            for own in &clean.magnitudes {
                let same = reference
                    .magnitudes
                    .iter()
                    .find(|m| (m.position, m.dimension) == (own.position, own.dimension));
                prop_assert!(same.is_some_and(|m| m.count >= own.count));
            }
            let total: usize = clean.magnitudes.iter().map(|m| m.count).sum();
            let entries: usize = sequences
                .iter()
                .flat_map(|s| &s.layers)
                .filter(|l| Some(l.layer) == clean.first_layer)
                .map(|l| l.massive.len())
                .sum();
            prop_assert_eq!(total, entries);
        }
    }
}
