//! Summaries that experiments share.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use serde::Serialize;

use crate::{
    backend::{Entry, Statistics},
    engine::Session,
};

/// Entries listed per layer, and asked for of every sequence.
pub(super) const TOP_K: usize = 5;

/// A large value with its place in the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenEntry {
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in it.
    pub position: usize,
    /// Text of the token.
    pub token: String,
    /// Its id.
    pub token_id: u32,
    /// Index in the hidden state.
    pub dimension: usize,
    /// Signed value.
    pub value: f32,
    /// Sequences that have this position and dimension among their own largest values.
    pub sequences: usize,
}

/// The `k` places, by position and dimension, of largest magnitude over all sequences of a layer, each
/// with the sequence in which it is largest; descending, ties by sequence, then place.
pub(super) fn top_over_sequences(
    session: &Session,
    sequences: &[Vec<u32>],
    layer: &[Statistics],
    k: usize,
) -> Vec<TokenEntry> {
    distinct(layer, k)
        .into_iter()
        .map(|place| {
            let Entry {
                position,
                dimension,
                value,
            } = place.entry;
            let token_id = sequences[place.sequence][position];
            TokenEntry {
                sequence: place.sequence,
                position,
                token: session.token(token_id),
                token_id,
                dimension,
                value,
                sequences: place.sequences,
            }
        })
        .collect()
}

/// A place that several sequences may share.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    /// The sequence in which its value is largest.
    sequence: usize,
    /// Its value there.
    entry: Entry,
    /// How many sequences have it among their largest.
    sequences: usize,
}

fn distinct(layer: &[Statistics], k: usize) -> Vec<Place> {
    let mut all: Vec<(usize, Entry)> = layer
        .iter()
        .enumerate()
        .flat_map(|(sequence, found)| found.top.iter().map(move |entry| (sequence, *entry)))
        .collect();
    all.sort_by(|a, b| b.1.value.abs().total_cmp(&a.1.value.abs()));
    let mut places: Vec<Place> = Vec::new();
    let mut known: HashMap<(usize, usize), usize> = HashMap::new();
    for (sequence, entry) in all {
        let next = places.len();
        let index = *known
            .entry((entry.position, entry.dimension))
            .or_insert(next);
        if index == next {
            places.push(Place {
                sequence,
                entry,
                sequences: 0,
            });
        }
        places[index].sequences += 1;
    }
    places.truncate(k);
    places
}

/// Mean over sequences, in double precision.
pub(super) fn mean(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = values.len().max(1) as f64;
    values.map(f64::from).sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_sequences_share_is_listed_once() {
        let found = |top: &[(usize, usize, f32)]| Statistics {
            max: 0.0,
            median: 0.0,
            top: top
                .iter()
                .map(|&(position, dimension, value)| Entry {
                    position,
                    dimension,
                    value,
                })
                .collect(),
            massive: Vec::new(),
            moments: None,
            non_finite: 0,
        };
        let layer = [
            found(&[(0, 7, -9.0), (3, 7, 4.0)]),
            found(&[(0, 7, -11.0), (0, 2, 10.0)]),
        ];
        let places: Vec<_> = distinct(&layer, 2)
            .into_iter()
            .map(|place| {
                let Entry {
                    position,
                    dimension,
                    value,
                } = place.entry;
                (place.sequence, position, dimension, value, place.sequences)
            })
            .collect();
        assert_eq!(places, [(1, 0, 7, -11.0, 2), (1, 0, 2, 10.0, 1)]);
    }
}
