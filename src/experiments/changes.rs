//! What became of one checkpoint's massive activations, medians and perplexity in another form of it: the
//! same model in fewer bits, say, or after more training.
//!
//! Both ran the same token ids, so that a value is the same value where layer, sequence, position and
//! dimension are the same. Each side lists what is massive by its own median; what the other has
//! in that place is read from its layers' outputs, massive or not.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    compare::Profile,
    places::{Place, Values},
    tokens_analysis::TokensAnalysis,
};

/// A checkpoint's massive activations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Massive {
    /// All of them.
    pub values: Values,
    /// The tokens' texts, by sequence and position.
    pub tokens: BTreeMap<(usize, usize), String>,
}

/// What became of a massive activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Massive in both.
    Kept,
    /// Massive only before.
    Lost,
    /// Massive only after.
    New,
}

/// A massive activation of either side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The token there.
    pub token: String,
    /// What became of it.
    pub fate: Fate,
    /// Signed value in the first checkpoint.
    pub before: f32,
    /// Signed value in the other.
    pub after: f32,
}

/// How many, and how large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Massive in both.
    pub kept: usize,
    /// Massive only before.
    pub lost: usize,
    /// Massive only after.
    pub new: usize,
    /// Sum of |after| over sum of |before|, where it was massive before; null if it was nowhere.
    pub magnitude_ratio: Option<f64>,
}

/// What became of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerChange {
    /// 0-based index.
    pub layer: usize,
    /// Of its massive activations; null where tokens-analysis did not run.
    pub massive: Option<Counts>,
    /// Of its mean median magnitude; null where existence-validation did not run.
    pub median: Option<BeforeAfter>,
}

/// A number of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BeforeAfter {
    /// Of the first checkpoint.
    pub before: f64,
    /// Of the other.
    pub after: f64,
    /// `after / before`; null if that is no number.
    pub ratio: Option<f64>,
}

/// From one checkpoint to the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changes {
    /// Of perplexity; null where it was not measured, or is beyond double precision.
    pub perplexity: Option<BeforeAfter>,
    /// Of all layers' massive activations; null where tokens-analysis did not run.
    pub counts: Option<Counts>,
    /// First to last.
    pub layers: Vec<LayerChange>,
    /// Every massive activation of either, by layer, sequence, position, dimension.
    pub massive: Vec<Change>,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What the experiments found.
    pub profile: &'a Profile,
    /// What is massive; none where tokens-analysis did not run.
    pub massive: Option<&'a Massive>,
    /// Its values where only the other's are massive.
    pub elsewhere: &'a Values,
}

impl From<&TokensAnalysis> for Massive {
    fn from(found: &TokensAnalysis) -> Self {
        let mut massive = Self::default();
        for sequence in &found.sequences {
            let tokens = sequence.tokens.iter();
            massive.tokens.extend(
                tokens.map(|(position, text)| ((sequence.sequence, *position), text.clone())),
            );
            for layer in &sequence.detections.layers {
                massive.values.extend(layer.massive.iter().map(|entry| {
                    let place = Place {
                        layer: layer.layer,
                        sequence: sequence.sequence,
                        position: entry.position,
                        dimension: entry.dimension,
                    };
                    (place, entry.value)
                }));
            }
        }
        massive
    }
}

impl Massive {
    /// Where it is massive and the other is not.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Place> + 'a {
        let places = self.values.keys().copied();
        places.filter(|place| !other.values.contains_key(place))
    }
}

impl BeforeAfter {
    fn of(before: f64, after: f64) -> Self {
        Self {
            before,
            after,
            ratio: Some(after / before).filter(|ratio| ratio.is_finite()),
        }
    }
}

impl Counts {
    fn of<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut counts = Self::default();
        let (mut before, mut after) = (0.0, 0.0);
        for change in changes {
            match change.fate {
                Fate::Kept => counts.kept += 1,
                Fate::Lost => counts.lost += 1,
                Fate::New => {
                    counts.new += 1;
                    continue;
                }
            }
            before += f64::from(change.before).abs();
            after += f64::from(change.after).abs();
        }
        counts.magnitude_ratio = (before > 0.0).then(|| after / before);
        counts
    }
}

impl Changes {
    /// Of two checkpoints of `layers` layers that ran the same tokens.
    pub fn between(layers: usize, before: Side<'_>, after: Side<'_>) -> Self {
        let measured = before.massive.zip(after.massive);
        let massive = measured.map_or_else(Vec::new, |found| changes(found, before, after));
        let perplexity = before.profile.perplexity.zip(after.profile.perplexity);
        let median = |layer: usize| {
            let of = |side: Side<'_>| {
                let existence = side.profile.existence.as_ref()?;
                Some(existence.layers.get(layer)?.median_mean)
            };
            of(before).zip(of(after))
        };
        Self {
            perplexity: perplexity.map(|(before, after)| BeforeAfter::of(before, after)),
            counts: measured.map(|_| Counts::of(massive.iter())),
            layers: (0..layers)
                .map(|layer| LayerChange {
                    layer,
                    massive: measured.map(|_| {
                        let here = massive.iter();
                        Counts::of(here.filter(|change| change.place.layer == layer))
                    }),
                    median: median(layer).map(|(before, after)| BeforeAfter::of(before, after)),
                })
                .collect(),
            massive,
        }
    }
}

fn changes((first, other): (&Massive, &Massive), before: Side<'_>, after: Side<'_>) -> Vec<Change> {
    let places: BTreeSet<Place> = first
        .values
        .keys()
        .chain(other.values.keys())
        .copied()
        .collect();
    let changes = places.into_iter().filter_map(|place| {
        let (was, is) = (first.values.get(&place), other.values.get(&place));
        let fate = match (was, is) {
            (Some(_), Some(_)) => Fate::Kept,
            (Some(_), None) => Fate::Lost,
            _ => Fate::New,
        };
        let at = (place.sequence, place.position);
        let token = first.tokens.get(&at).or_else(|| other.tokens.get(&at));
        Some(Change {
            place,
            token: token.cloned().unwrap_or_default(),
            fate,
            before: *was.or_else(|| before.elsewhere.get(&place))?,
            after: *is.or_else(|| after.elsewhere.get(&place))?,
        })
    });
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(layer: usize, dimension: usize) -> Place {
        Place {
            layer,
            sequence: 0,
            position: 0,
            dimension,
        }
    }

    fn massive(values: &[(Place, f32)]) -> Massive {
        Massive {
            values: values.iter().copied().collect(),
            tokens: [((0, 0), "<s>".to_owned())].into(),
        }
    }

    #[test]
    fn kept_lost_and_new() {
        let profile = |perplexity| Profile {
            perplexity: Some(perplexity),
            ..Profile::default()
        };
        let (before, after) = (profile(10.0), profile(15.0));
        let first = massive(&[(place(1, 7), -800.0), (place(1, 9), 200.0)]);
        let other = massive(&[(place(1, 7), -400.0), (place(2, 7), 500.0)]);
        assert_eq!(first.without(&other).collect::<Vec<_>>(), [place(1, 9)]);
        let found = Changes::between(
            3,
            Side {
                profile: &before,
                massive: Some(&first),
                elsewhere: &[(place(2, 7), 90.0)].into(),
            },
            Side {
                profile: &after,
                massive: Some(&other),
                elsewhere: &[(place(1, 9), -100.0)].into(),
            },
        );
        let list: Vec<(Place, Fate, f32, f32)> = found
            .massive
            .iter()
            .map(|it| (it.place, it.fate, it.before, it.after))
            .collect();
        let expected = [
            (place(1, 7), Fate::Kept, -800.0, -400.0),
            (place(1, 9), Fate::Lost, 200.0, -100.0),
            (place(2, 7), Fate::New, 90.0, 500.0),
        ];
        assert_eq!(list, expected);
        let counts = found.counts.expect("measured");
        assert_eq!((counts.kept, counts.lost, counts.new), (1, 1, 1));
        assert_eq!(counts.magnitude_ratio, Some(0.5));
        let ratios = found.layers.iter().map(|layer| layer.massive);
        let ratios: Vec<_> = ratios
            .map(|it| it.expect("there").magnitude_ratio)
            .collect();
        assert_eq!(ratios, [None, Some(0.5), None]);
        assert_eq!(found.perplexity.and_then(|it| it.ratio), Some(1.5));
        assert_eq!(found.massive[0].token, "<s>");
    }
}
