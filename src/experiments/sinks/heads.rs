//! What the keys receive of each head, and what values and gates do about it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use crate::engine::HeadOutputs;

/// What the keys of one sequence receive in one layer.
#[derive(Debug, Clone)]
pub(super) struct Received {
    heads: usize,
    tokens: usize,
    /// `[heads, extra + tokens]`
    mass: Vec<f32>,
}

/// A position and how often it is a sink.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PositionRate {
    /// In the sequence.
    pub position: usize,
    /// Share of layers, heads and sequences in which it is one.
    pub rate: f64,
    /// What it receives, mean over them.
    pub mass: f64,
}

/// One head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadSinks {
    /// 0-based index.
    pub head: usize,
    /// The first token's rate over the sequences.
    pub sink_rate: f64,
    /// What the first token receives, mean over the sequences.
    pub mass: f64,
    /// Norm of its output, the values that it attends to behind its gate: mean over tokens and sequences.
    pub output_norm: f64,
    /// Norm of what the output projection makes of that, mean over tokens and sequences.
    pub projected_norm: f64,
    /// `output_norm` over the mean of the layer's heads: small for a head that does little.
    pub norm_ratio: f64,
    /// Positions that are sinks in any sequence.
    pub positions: Vec<PositionRate>,
}

/// Norms of one sequence, summed over its tokens, one a head.
#[derive(Debug, Clone)]
pub(super) struct Norms {
    tokens: usize,
    own: Vec<f64>,
    projected: Vec<f64>,
}

impl Norms {
    pub(super) fn of(outputs: &HeadOutputs, tokens: usize) -> Self {
        let sums = |norms: &[f64]| {
            let heads = norms.chunks(tokens.max(1));
            heads.map(|head| head.iter().sum()).collect()
        };
        Self {
            tokens,
            own: sums(&outputs.own),
            projected: sums(&outputs.projected),
        }
    }
}

/// The gates of one head.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateSummary {
    /// Mean over tokens and dimensions.
    pub mean: f64,
    /// Share that is nearly closed.
    pub closed: f64,
}

impl Received {
    pub(super) fn new(mass: Vec<f32>, heads: usize, tokens: usize) -> Self {
        Self {
            heads,
            tokens,
            mass,
        }
    }

    /// Means over the `viewers` that see a key become means over all queries from the key on.
    pub(super) fn over_all_queries(&mut self, viewers: &[u32]) {
        let (extra, tokens) = (self.extra(), self.tokens);
        for keys in self.mass.chunks_mut((extra + tokens).max(1)) {
            for (key, (mass, viewers)) in keys[extra..].iter_mut().zip(viewers).enumerate() {
                *mass *= *viewers as f32 / (tokens - key) as f32;
            }
        }
    }

    /// Keys before the first token.
    fn extra(&self) -> usize {
        (self.mass.len() / self.heads.max(1)).saturating_sub(self.tokens)
    }

    /// By head, what the keys receive: those of tokens.
    fn by_head(&self) -> impl Iterator<Item = &[f32]> {
        let extra = self.extra();
        self.mass
            .chunks((extra + self.tokens).max(1))
            .map(move |keys| &keys[extra..])
    }

    /// What the first token receives of each head.
    pub(super) fn of_first(&self) -> Vec<f32> {
        self.by_head()
            .filter_map(|keys| keys.first().copied())
            .collect()
    }

    /// What a learned key before the tokens does.
    pub(super) fn of_extra(&self) -> Vec<f32> {
        let width = self.extra() + self.tokens;
        match self.extra() {
            0 => Vec::new(),
            _ => self.mass.chunks(width).map(|keys| keys[0]).collect(),
        }
    }

    /// The mean over heads of what a token receives.
    pub(super) fn of_token(&self, position: usize) -> f64 {
        let sum: f64 = self.by_head().map(|keys| f64::from(keys[position])).sum();
        sum / self.heads.max(1) as f64
    }
}

/// The share of what `of` picks that is above epsilon; none if it picks nothing.
pub(super) fn rate(
    received: &[&Received],
    epsilon: f64,
    of: fn(&Received) -> Vec<f32>,
) -> Option<f64> {
    let masses: Vec<f32> = received.iter().flat_map(|received| of(received)).collect();
    let above = masses.iter().filter(|mass| f64::from(**mass) > epsilon);
    (!masses.is_empty()).then(|| above.count() as f64 / masses.len() as f64)
}

/// Every position over all that is given.
pub(super) fn positions(received: &[&Received], epsilon: f64) -> Vec<PositionRate> {
    let keys = received.iter().flat_map(|received| received.by_head());
    counted(keys, epsilon).collect()
}

/// Each head over the sequences.
pub(super) fn summaries(received: &[&Received], norms: &[&Norms], epsilon: f64) -> Vec<HeadSinks> {
    let heads = received.first().map_or(0, |received| received.heads);
    let mean = |of: &dyn Fn(&Norms) -> Option<f64>| {
        let sums = norms.iter().filter_map(|norms| of(norms));
        let tokens: usize = norms.iter().map(|norms| norms.tokens).sum();
        sums.sum::<f64>() / tokens.max(1) as f64
    };
    let own = |head: usize| mean(&|norms| norms.own.get(head).copied());
    let of_layer = (0..heads).map(own).sum::<f64>() / heads.max(1) as f64;
    (0..heads)
        .map(|head| {
            let keys = received
                .iter()
                .filter_map(|received| received.by_head().nth(head));
            let all: Vec<PositionRate> = counted(keys, epsilon).collect();
            HeadSinks {
                head,
                sink_rate: all.first().map_or(0.0, |first| first.rate),
                mass: all.first().map_or(0.0, |first| first.mass),
                output_norm: own(head),
                projected_norm: mean(&|norms| norms.projected.get(head).copied()),
                norm_ratio: if of_layer > 0.0 {
                    own(head) / of_layer
                } else {
                    0.0
                },
                positions: all
                    .into_iter()
                    .filter(|position| position.rate > 0.0)
                    .collect(),
            }
        })
        .collect()
}

fn counted<'a>(
    keys: impl Iterator<Item = &'a [f32]>,
    epsilon: f64,
) -> impl Iterator<Item = PositionRate> {
    // How many there are, how many are sinks, what they receive.
    let mut all: BTreeMap<usize, (usize, usize, f64)> = BTreeMap::new();
    for keys in keys {
        for (position, mass) in keys.iter().enumerate() {
            let entry = all.entry(position).or_default();
            entry.0 += 1;
            entry.1 += usize::from(f64::from(*mass) > epsilon);
            entry.2 += f64::from(*mass);
        }
    }
    all.into_iter()
        .map(|(position, (count, sinks, mass))| PositionRate {
            position,
            rate: sinks as f64 / count as f64,
            mass: mass / count as f64,
        })
}

/// For each of `heads` heads of `[tokens, columns]` values the norm of the first token's over the lower
/// median of the norms.
pub(super) fn value_drain(values: &[f32], columns: usize, heads: usize) -> Vec<f64> {
    let width = columns / heads.max(1);
    (0..heads)
        .map(|head| {
            let mut norms: Vec<f64> = values
                .chunks(columns)
                .map(|row| {
                    let own = row[head * width..(head + 1) * width].iter();
                    own.map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
                })
                .collect();
            let first = norms.first().copied().unwrap_or(0.0);
            let middle = norms.len().saturating_sub(1) / 2;
            norms.sort_by(f64::total_cmp);
            first / norms.get(middle).copied().unwrap_or(0.0)
        })
        .collect()
}

/// Of `[tokens, columns]` gates, a part of the columns a head.
pub(super) fn gates(
    values: &[f32],
    columns: usize,
    heads: usize,
    closed_below: f64,
) -> Vec<GateSummary> {
    let width = columns / heads.max(1);
    let count = (values.len() / columns.max(1) * width) as f64;
    (0..heads)
        .map(|head| {
            let (mut sum, mut closed) = (0.0, 0usize);
            for row in values.chunks(columns) {
                for gate in &row[head * width..(head + 1) * width] {
                    sum += f64::from(*gate);
                    closed += usize::from(f64::from(*gate) < closed_below);
                }
            }
            GateSummary {
                mean: sum / count,
                closed: closed as f64 / count,
            }
        })
        .collect()
}

/// Means over sequences, one a head; what is not finite, of a median norm of 0, does not count.
pub(super) fn means(sequences: &[&Vec<f64>]) -> Vec<f64> {
    let heads = sequences.first().map_or(0, |one| one.len());
    (0..heads)
        .map(|head| {
            let values = sequences.iter().map(|one| one[head]);
            let finite: Vec<f64> = values.filter(|value| value.is_finite()).collect();
            finite.iter().sum::<f64>() / finite.len().max(1) as f64
        })
        .collect()
}

/// Means over sequences, one a head.
pub(super) fn gate_means(sequences: &[&Vec<GateSummary>]) -> Vec<GateSummary> {
    let heads = sequences.first().map_or(0, |one| one.len());
    let count = sequences.len() as f64;
    (0..heads)
        .map(|head| GateSummary {
            mean: sequences.iter().map(|one| one[head].mean).sum::<f64>() / count,
            closed: sequences.iter().map(|one| one[head].closed).sum::<f64>() / count,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_head_and_position() {
        // A learned key, then two tokens; two heads.
        let first = Received::new(vec![0.5, 0.4, 0.1, 0.1, 0.2, 0.7], 2, 2);
        let second = Received::new(vec![0.2, 0.3, 0.1, 0.1, 0.6, 0.7], 2, 2);
        let both = [&first, &second];
        // Equal to epsilon is not above it.
        let epsilon = f64::from(0.3f32);
        assert_eq!(rate(&both, epsilon, Received::of_first), Some(0.5));
        assert_eq!(rate(&both, epsilon, Received::of_extra), Some(0.25));
        assert_eq!(rate(&[], epsilon, Received::of_first), None);
        // Over the tokens of both sequences, of two and of one.
        let norms = |tokens: usize, own: &[f64], projected: &[f64]| {
            let outputs = HeadOutputs {
                own: own.to_vec(),
                projected: projected.to_vec(),
                parts: None,
            };
            Norms::of(&outputs, tokens)
        };
        let norms = [
            norms(2, &[1.0, 3.0, 0.0, 0.0], &[4.0, 0.0, 1.0, 1.0]),
            norms(1, &[5.0, 3.0], &[2.0, 1.0]),
        ];
        let heads = summaries(&both, &[&norms[0], &norms[1]], epsilon);
        assert_eq!((heads[0].output_norm, heads[1].output_norm), (3.0, 1.0));
        assert_eq!(
            (heads[0].projected_norm, heads[1].projected_norm),
            (2.0, 1.0)
        );
        assert_eq!((heads[0].norm_ratio, heads[1].norm_ratio), (1.5, 0.5));
        assert_eq!(heads[0].sink_rate, 0.5);
        assert_eq!(heads[1].positions[1].rate, 1.0);
        assert_eq!(heads[0].positions.len(), 1);
        assert_eq!(positions(&both, epsilon)[1].rate, 0.5);
        assert!((first.of_token(1) - 0.4).abs() < 1e-7);
    }

    #[test]
    fn values_and_gates_by_head() {
        let values = [0.0, 4.0, 3.0, 4.0, 0.0, 2.0, 0.0, 10.0];
        assert_eq!(value_drain(&values, 4, 2), [2.0, 1.0]);
        let found = gates(&[0.05, 0.5, 0.95, 0.1], 2, 2, 0.1);
        assert_eq!(found[0].closed, 0.5);
        assert_eq!(found[1].closed, 0.0);
        assert!((found[0].mean - 0.5).abs() < 1e-6);
    }
}
