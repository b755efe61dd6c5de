//! Summaries that experiments share.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::{
    backend::{Entry, Statistics},
    engine::Session,
};

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
}

/// The `k` entries of largest magnitude over all sequences of a layer, descending; ties by
/// sequence, then place.
pub(super) fn top_over_sequences(
    session: &Session,
    sequences: &[Vec<u32>],
    layer: &[Statistics],
    k: usize,
) -> Vec<TokenEntry> {
    let mut all: Vec<(usize, Entry)> = layer
        .iter()
        .enumerate()
        .flat_map(|(sequence, found)| found.top.iter().map(move |entry| (sequence, *entry)))
        .collect();
    all.sort_by(|a, b| b.1.value.abs().total_cmp(&a.1.value.abs()));
    all.truncate(k);
    all.into_iter()
        .map(|(sequence, entry)| {
            let token_id = sequences[sequence][entry.position];
            TokenEntry {
                sequence,
                position: entry.position,
                token: session.token(token_id),
                token_id,
                dimension: entry.dimension,
                value: entry.value,
            }
        })
        .collect()
}

/// Mean over sequences, in double precision.
pub(super) fn mean(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = values.len().max(1) as f64;
    values.map(f64::from).sum::<f64>() / count
}
