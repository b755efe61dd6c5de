//! What a layer's attention maps say about the followed tokens.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::backend::AttentionMaps;

/// The attention that one followed token receives, over the queries that see it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FollowedAttention {
    /// Its position.
    pub position: usize,
    /// Mean probability; null if no query sees it.
    pub probability: Option<f64>,
    /// Mean logit.
    pub logit: Option<f64>,
}

/// The key that a head attends to most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sink {
    /// Query head.
    pub head: usize,
    /// Position of the key; null for a learned key that is no token.
    pub position: Option<usize>,
    /// Its probability, averaged over the queries that see it.
    pub mass: f32,
}

/// Everything about one layer; nothing of one without attention.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Summary {
    pub(super) attention_to_followed: Option<f64>,
    pub(super) even_share: Option<f64>,
    pub(super) logit_of_others: Option<f64>,
    pub(super) followed: Vec<FollowedAttention>,
    pub(super) sinks: Vec<Sink>,
}

/// A sum and how many it is of.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

impl Summary {
    /// Of maps whose hidden entries are NaN. Columns before the first token are learned keys.
    pub(super) fn of(maps: &AttentionMaps, followed: &[usize]) -> Self {
        let empty = Vec::new();
        let probs = maps.probs_mean.as_ref().unwrap_or(&empty);
        let logits = maps.logits_mean.as_ref().unwrap_or(&empty);
        let (tokens, extra) = shape(probs.len());
        let keys = tokens + extra;
        let (mut to_followed, mut even) = (Mean::default(), Mean::default());
        let mut others = Mean::default();
        let mut probability = vec![Mean::default(); followed.len()];
        let mut logit = vec![Mean::default(); followed.len()];
        for query in 0..tokens {
            if followed.contains(&query) {
                continue;
            }
            let row = query * keys..(query + 1) * keys;
            let (probs, logits) = (&probs[row.clone()], &logits[row]);
            let mut given = Mean::default();
            for (index, key) in followed.iter().enumerate() {
                let (prob, score) = (probs[key + extra], logits[key + extra]);
                if !prob.is_nan() {
                    given.add(f64::from(prob));
                    probability[index].add(f64::from(prob));
                    logit[index].add(f64::from(score));
                }
            }
            if given.count == 0 {
                continue;
            }
            let seen = probs.iter().filter(|prob| !prob.is_nan()).count();
            to_followed.add(given.sum);
            even.add(given.count as f64 / seen as f64);
            for (key, score) in logits[extra..].iter().enumerate() {
                if !score.is_nan() && followed.binary_search(&key).is_err() {
                    others.add(f64::from(*score));
                }
            }
        }
        Self {
            attention_to_followed: to_followed.value(),
            even_share: even.value(),
            logit_of_others: others.value(),
            followed: followed
                .iter()
                .zip(probability.iter().zip(&logit))
                .map(|(position, (probability, logit))| FollowedAttention {
                    position: *position,
                    probability: probability.value(),
                    logit: logit.value(),
                })
                .collect(),
            sinks: sinks(maps.sink_mass.as_deref().unwrap_or_default(), keys, extra),
        }
    }
}

/// For each of the queries whether it sees a followed token, of the mean map of their probabilities.
pub(super) fn sees(probs: &[f32], tokens: usize, followed: &[usize]) -> Vec<bool> {
    let keys = probs.len() / tokens.max(1);
    let extra = keys.saturating_sub(tokens);
    let rows = probs.chunks(keys.max(1));
    rows.map(|row| followed.iter().any(|key| !row[extra + key].is_nan()))
        .collect()
}

/// Tokens, and columns that are no tokens, of a map with this many entries: `T x (T + extra)`.
fn shape(entries: usize) -> (usize, usize) {
    let tokens = entries.isqrt();
    match entries.checked_div(tokens) {
        Some(keys) => (tokens, keys - tokens),
        None => (0, 0),
    }
}

fn sinks(mass: &[f32], keys: usize, extra: usize) -> Vec<Sink> {
    mass.chunks_exact(keys.max(1))
        .enumerate()
        .filter_map(|(head, mass)| {
            // The first of equals.
            let (key, mass) = mass
                .iter()
                .enumerate()
                .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
            Some(Sink {
                head,
                position: key.checked_sub(extra),
                mass: *mass,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: f32 = f32::NAN;

    #[test]
    fn means_over_the_queries_that_see_the_followed() {
        let maps = AttentionMaps {
            #[rustfmt::skip]
            probs_mean: Some(vec![
                1.0, N, N, N,
                0.5, 0.5, N, N,
                0.1, 0.3, 0.6, N,
                // A window of three: the first key is out of sight.
                N, 0.2, 0.3, 0.5,
            ]),
            #[rustfmt::skip]
            logits_mean: Some(vec![
                9.0, N, N, N,
                1.0, 2.0, N, N,
                3.0, 4.0, 5.0, N,
                N, 6.0, 7.0, 8.0,
            ]),
            sink_mass: Some(vec![0.4, 0.5, 0.5, 0.1, 0.9, 0.2, 0.1, 0.0]),
            ..AttentionMaps::default()
        };
        let near = |value: Option<f64>, truth: f64| {
            let value = value.expect("there are queries");
            assert!((value - truth).abs() < 1e-6, "{value} {truth}");
        };
        let probs = maps.probs_mean.as_ref().expect("probabilities");
        assert_eq!(sees(probs, 4, &[0]), [true, true, true, false]);
        assert_eq!(sees(probs, 4, &[2]), [false, false, true, true]);
        // Queries 2 and 3; 1 is followed itself and 0 too.
        let found = Summary::of(&maps, &[0, 1]);
        near(found.attention_to_followed, (0.4 + 0.2) / 2.0);
        near(found.even_share, (2.0 / 3.0 + 1.0 / 3.0) / 2.0);
        near(found.logit_of_others, (5.0 + 7.0 + 8.0) / 3.0);
        near(found.followed[0].probability, 0.1);
        near(found.followed[0].logit, 3.0);
        near(found.followed[1].probability, 0.25);
        near(found.followed[1].logit, 5.0);
        let places: Vec<_> = found.sinks.iter().map(|sink| sink.position).collect();
        assert_eq!(places, [Some(1), Some(0)]);
        // Nobody else sees the last one.
        let last = Summary::of(&maps, &[3]);
        assert_eq!(last.attention_to_followed, None);
        assert_eq!(last.followed[0].probability, None);
    }

    #[test]
    fn a_learned_key_is_no_token() {
        assert_eq!(shape(4 * 5), (4, 1));
        assert_eq!(shape(16), (4, 0));
        assert_eq!(shape(2), (1, 1));
        assert_eq!(shape(0), (0, 0));
        let maps = AttentionMaps {
            probs_mean: Some(vec![0.7, 0.3, N, 0.5, 0.4, 0.1]),
            logits_mean: Some(vec![0.0, 1.0, N, 0.0, 2.0, 3.0]),
            sink_mass: Some(vec![0.6, 0.35, 0.1]),
            ..AttentionMaps::default()
        };
        let probs = maps.probs_mean.as_ref().expect("probabilities");
        assert_eq!(sees(probs, 2, &[1]), [false, true]);
        let found = Summary::of(&maps, &[0]);
        assert_eq!(found.attention_to_followed, Some(f64::from(0.4f32)));
        assert_eq!(found.even_share, Some(1.0 / 3.0));
        assert_eq!(found.logit_of_others, Some(3.0));
        assert_eq!(found.sinks[0].position, None);
    }
}
