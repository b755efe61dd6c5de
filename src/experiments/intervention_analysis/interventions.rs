//! Which values an intervention writes, and where.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{super::corpus::FirstMassive, noise::Noise};
use crate::{
    backend::Change,
    engine::{self, Overwrite},
};

/// What is written, by dimension; the starting position and the others have their own.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Intervention {
    /// Name in the results: `set_to_zero`, `set_to_mean_2`, `set_to_7.5`, `noise_0.1`.
    pub(super) name: String,
    /// (dimension, rule) for position 0, in the order of writing.
    pub(super) starting: Vec<(usize, Rule)>,
    /// (dimension, rule) for the later positions.
    pub(super) nonstarting: Vec<(usize, Rule)>,
    /// (layer, head) that it switches off.
    pub(super) heads: Vec<(usize, usize)>,
    /// Write at as many other positions instead, drawn with this seed.
    pub(super) elsewhere: Option<u64>,
}

/// How an intervention finds what it writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    /// This value.
    Value(f64),
    /// The value that is there, times 1 + this times a sample of the noise.
    Noise(f64),
    /// The value that is there, its magnitude at most this.
    Clip(f32),
    /// The value that another token has there.
    Shuffle,
}

/// One dimension that is overwritten at positions of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Written {
    /// Whether at position 0.
    pub(super) starting: bool,
    pub(super) dimension: usize,
    pub(super) what: What,
    pub(super) positions: Vec<usize>,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    /// This value.
    Value(f64),
    /// The value that is there times this.
    Factor(f32),
    /// The value that is there, its magnitude at most this.
    Clip(f32),
    /// The value at this position.
    Take(usize),
}

impl Intervention {
    /// The same rule in all dimensions, at all positions.
    pub(super) fn everywhere(name: String, dimensions: &[usize], rule: Rule) -> Self {
        let rules: Vec<(usize, Rule)> = dimensions.iter().map(|d| (*d, rule)).collect();
        Self {
            name,
            starting: rules.clone(),
            nonstarting: rules,
            ..Self::default()
        }
    }

    /// Whether it writes at this (position, dimension) of a sequence that it overwrites at
    /// `positions`.
    pub(super) fn reaches(
        &self,
        positions: &[usize],
        (position, dimension): (usize, usize),
    ) -> bool {
        let rules = match position {
            0 => &self.starting,
            _ => &self.nonstarting,
        };
        self.elsewhere.is_none()
            && positions.contains(&position)
            && rules.iter().any(|(written, _)| *written == dimension)
    }

    /// What it writes at the output of a layer of a sequence whose massive positions are these.
    pub(super) fn written(&self, positions: &[usize], layer: usize, noise: &Noise) -> Vec<Written> {
        let other = self.elsewhere.map(|seed| noise.elsewhere(positions, seed));
        let positions = other.as_deref().unwrap_or(positions);
        let (starting, later): (Vec<usize>, Vec<usize>) =
            positions.iter().partition(|position| **position == 0);
        let groups = [
            (true, &self.starting, starting),
            (false, &self.nonstarting, later),
        ];
        let mut written = Vec::new();
        for (starting, rules, positions) in groups {
            if positions.is_empty() {
                continue;
            }
            for &(dimension, rule) in rules {
                let at = |positions: Vec<usize>, what| Written {
                    starting,
                    dimension,
                    what,
                    positions,
                };
                match rule {
                    Rule::Value(value) => {
                        written.push(at(positions.clone(), What::Value(value)));
                    }
                    Rule::Clip(most) => written.push(at(positions.clone(), What::Clip(most))),
                    Rule::Shuffle => written.extend(positions.iter().filter_map(|&position| {
                        let source = noise.another(layer, position, dimension)?;
                        Some(at(vec![position], What::Take(source)))
                    })),
                    Rule::Noise(deviation) => written.extend(positions.iter().map(|&position| {
                        let sample = noise.sample(layer, position, dimension);
                        at(
                            vec![position],
                            What::Factor((1.0 + deviation * sample) as f32),
                        )
                    })),
                }
            }
        }
        written
    }
}

impl Written {
    /// Its cells, in order, as far as they need no value that is there.
    pub(super) fn cells(&self) -> impl Iterator<Item = Overwrite> {
        self.rules()
            .filter_map(|(position, dimension, rule)| match rule {
                engine::Rule::Change(change) => Some(Overwrite {
                    position,
                    dimension,
                    change,
                }),
                engine::Rule::Clip(_) | engine::Rule::Take(_) => None,
            })
    }

    /// All its cells, in order.
    pub(super) fn rules(&self) -> impl Iterator<Item = (usize, usize, engine::Rule)> {
        let rule = match self.what {
            What::Value(value) => engine::Rule::Change(Change::Set(value as f32)),
            What::Factor(factor) => engine::Rule::Change(Change::Scale(factor)),
            What::Clip(most) => engine::Rule::Clip(most),
            What::Take(source) => engine::Rule::Take(source),
        };
        let positions = self.positions.iter();
        positions.map(move |position| (*position, self.dimension, rule))
    }

    /// The value that it leaves where this one was.
    pub(super) fn value(&self, original: f32) -> f64 {
        match self.what {
            What::Value(value) => value,
            What::Factor(factor) => f64::from(original * factor),
            What::Clip(most) => f64::from(original.clamp(-most, most)),
            What::Take(_) => f64::from(original),
        }
    }
}

/// A mean of signed values over the calibration sequences whose first massive layer is `layer`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mean {
    /// The sequences' first massive layer, in whose output the values are.
    pub layer: usize,
    /// Whether over position 0 or over the later massive positions.
    pub starting: bool,
    /// The dimension.
    pub dimension: usize,
    /// The mean.
    pub mean: f64,
    /// How many values.
    pub count: usize,
}

/// The means of all layers, starting positions first, dimensions in the order of `dimensions`.
/// A sequence counts, of the dimensions in `dimensions`, with those that are massive in its first
/// massive layer, at all of that layer's massive positions.
pub(super) fn means(calibration: &[Option<FirstMassive>], dimensions: &[usize]) -> Vec<Mean> {
    let mut values: BTreeMap<(usize, bool, usize), Vec<f64>> = BTreeMap::new();
    for first in calibration.iter().flatten() {
        let rows = first.values.chunks_exact(first.dimensions.len());
        for (position, row) in first.positions.iter().zip(rows) {
            for (dimension, value) in first.dimensions.iter().zip(row) {
                if let Some(place) = dimensions.iter().position(|other| other == dimension) {
                    let key = (first.layer, *position != 0, place);
                    values.entry(key).or_default().push(f64::from(*value));
                }
            }
        }
    }
    values
        .into_iter()
        .map(|((layer, later, place), values)| Mean {
            layer,
            starting: !later,
            dimension: dimensions[place],
            mean: values.iter().sum::<f64>() / values.len() as f64,
            count: values.len(),
        })
        .collect()
}

/// A `set_to_mean_L` for every layer L that is some calibration sequence's first, ascending.
pub(super) fn set_to_means(
    calibration: &[Option<FirstMassive>],
    means: &[Mean],
) -> Vec<Intervention> {
    let layers: BTreeSet<usize> = calibration
        .iter()
        .flatten()
        .map(|first| first.layer)
        .collect();
    let values = |layer: usize, starting: bool| {
        means
            .iter()
            .filter(|mean| mean.layer == layer && mean.starting == starting)
            .map(|mean| (mean.dimension, Rule::Value(mean.mean)))
            .collect()
    };
    layers
        .into_iter()
        .map(|layer| Intervention {
            name: format!("set_to_mean_{layer}"),
            starting: values(layer, true),
            nonstarting: values(layer, false),
            ..Intervention::default()
        })
        .collect()
}

/// Puts layers and dimensions in the order in which the published program meets them: by the
/// first calibration sequence that has them.
pub(super) fn in_order_of_appearance(
    calibration: &[Option<FirstMassive>],
    interventions: &mut [Intervention],
) {
    let first = || calibration.iter().flatten();
    let place =
        |name: &str| first().position(|first| name == format!("set_to_mean_{}", first.layer));
    interventions.sort_by_key(|intervention| place(&intervention.name));
    for intervention in interventions {
        let own: Vec<&FirstMassive> = first()
            .filter(|first| intervention.name == format!("set_to_mean_{}", first.layer))
            .collect();
        let mut order: Vec<usize> = Vec::new();
        for dimension in own.iter().flat_map(|first| &first.dimensions) {
            if !order.contains(dimension) {
                order.push(*dimension);
            }
        }
        let place = |(dimension, _): &(usize, Rule)| order.iter().position(|d| d == dimension);
        intervention.starting.sort_by_key(place);
        intervention.nonstarting.sort_by_key(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(
        layer: usize,
        positions: &[usize],
        dimensions: &[usize],
        values: &[f32],
    ) -> Option<FirstMassive> {
        Some(FirstMassive {
            layer,
            positions: positions.to_vec(),
            dimensions: dimensions.to_vec(),
            values: values.to_vec(),
        })
    }

    fn calibration() -> Vec<Option<FirstMassive>> {
        vec![
            first(4, &[3], &[9], &[-50.0]),
            None,
            first(2, &[0, 5], &[7], &[100.0, -8.0]),
            first(2, &[0], &[1, 7], &[30.0, 200.0]),
            first(2, &[5], &[8], &[1.0]),
        ]
    }

    #[test]
    fn means_by_layer_group_and_dimension() {
        let found = means(&calibration(), &[1, 7, 9, 11]);
        let found: Vec<_> = found
            .iter()
            .map(|m| (m.layer, m.starting, m.dimension, m.mean, m.count))
            .collect();
        assert_eq!(
            found,
            [
                (2, true, 1, 30.0, 1),
                (2, true, 7, 150.0, 2),
                (2, false, 7, -8.0, 1),
                (4, false, 9, -50.0, 1),
            ]
        );
    }

    #[test]
    fn one_intervention_a_layer_in_either_order() {
        let calibration = calibration();
        let means = means(&calibration, &[1, 7, 9]);
        let mut found = set_to_means(&calibration, &means);
        let names = |found: &[Intervention]| -> Vec<String> {
            found.iter().map(|i| i.name.clone()).collect()
        };
        assert_eq!(names(&found), ["set_to_mean_2", "set_to_mean_4"]);
        let rules = |values: [(usize, f64); 2]| values.map(|(d, value)| (d, Rule::Value(value)));
        assert_eq!(found[0].starting, rules([(1, 30.0), (7, 150.0)]));
        assert_eq!(found[1].starting, []);
        in_order_of_appearance(&calibration, &mut found);
        assert_eq!(names(&found), ["set_to_mean_4", "set_to_mean_2"]);
        assert_eq!(found[1].starting, rules([(7, 150.0), (1, 30.0)]));
    }

    #[test]
    fn a_group_without_values_or_positions_is_left_alone() {
        let (name, noise) = ("set_to_zero".to_owned(), Noise::of(0, &[]));
        let mut intervention = Intervention::everywhere(name, &[3, 4], Rule::Value(0.0));
        let written = intervention.written(&[0, 2, 9], 1, &noise);
        let places: Vec<_> = written
            .iter()
            .map(|w| (w.starting, w.dimension, w.positions.clone()))
            .collect();
        assert_eq!(
            places,
            [
                (true, 3, vec![0]),
                (true, 4, vec![0]),
                (false, 3, vec![2, 9]),
                (false, 4, vec![2, 9]),
            ]
        );
        assert_eq!(intervention.written(&[2], 1, &noise).len(), 2);
        intervention.nonstarting.clear();
        assert!(intervention.written(&[2], 1, &noise).is_empty());
    }

    #[test]
    fn noise_multiplies_each_value_by_a_factor_of_its_own() {
        let noise = Noise::of(1, &[5, 6]);
        let intervention = Intervention::everywhere("noise".into(), &[3, 4], Rule::Noise(0.5));
        let written = intervention.written(&[0, 2, 9], 1, &noise);
        let places: Vec<_> = written
            .iter()
            .map(|w| (w.dimension, w.positions.clone()))
            .collect();
        let [a, b, c] = [0, 2, 9].map(|position| vec![position]);
        assert_eq!(
            places,
            [
                (3, a.clone()),
                (4, a),
                (3, b.clone()),
                (3, c.clone()),
                (4, b),
                (4, c),
            ]
        );
        let factor = (1.0 + 0.5 * noise.sample(1, 9, 4)) as f32;
        assert_eq!(written[5].what, What::Factor(factor));
        assert_eq!(written[5].value(100.0), f64::from(100.0 * factor));
        assert_ne!(
            intervention.written(&[9], 2, &noise)[1].what,
            written[5].what
        );
    }
}
