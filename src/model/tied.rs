//! One tensor for embedding and head, or two: the config says what is meant, the files what is so.
//!
//! As in transformers: where only one of the two is stored it serves as both, equal ones are one,
//! and a stored head with values of its own is the head, whatever the config says.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{names::Names, spec::DecoderSpec, weights::WeightStore};
use crate::{error::Result, interrupt};

/// Bytes compared at once: enough for every core to read ahead, little enough to stop soon.
const PIECE: usize = 1 << 20;

/// What became of a stored head beside a config that ties.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The config does not tie, or there is nothing to settle.
    AsDescribed,
    /// Equal to the embedding, and so not needed: its name.
    Equal(String),
    /// Another matrix than the embedding, and so the head: its name.
    Distinct(String),
}

/// Settles a tied description by what is stored.
pub(super) fn settle(spec: &mut DecoderSpec, names: &Names, weights: &WeightStore) -> Result<Head> {
    let embedding = &spec.embedding.tokens;
    if spec.head.linear.weight != *embedding {
        return Ok(Head::AsDescribed);
    }
    let Some(stored) = names.stored_head() else {
        return Ok(Head::AsDescribed);
    };
    if !weights.contains(embedding) {
        spec.embedding.tokens.clone_from(&stored);
        spec.head.linear.weight = stored;
        return Ok(Head::AsDescribed);
    }
    if equal(weights, embedding, &stored)? {
        return Ok(Head::Equal(stored));
    }
    spec.head.linear.weight.clone_from(&stored);
    Ok(Head::Distinct(stored))
}

/// Whether two tensors have the same values, in whatever types they are stored. Leaves their pages
/// to the system again.
fn equal(weights: &WeightStore, one: &str, other: &str) -> Result<bool> {
    if weights.shape(one) != weights.shape(other) {
        return Ok(false);
    }
    if weights.is_packed(one) || weights.is_packed(other) {
        // What was packed on its own was rounded on its own.
        return Ok(false);
    }
    let (a, b) = (weights.get(one)?, weights.get(other)?);
    let length = a.elements.len();
    let same = (0..length.div_ceil(PIECE)).into_par_iter().all(|piece| {
        let (first, last) = (piece * PIECE, length.min((piece + 1) * PIECE));
        let (a, b) = (a.elements.slice(first, last), b.elements.slice(first, last));
        let alike = a.dtype == b.dtype && a.bytes == b.bytes;
        // Zeros have two signs; an interrupt ends the comparison.
        !interrupt::requested() && (alike || a.to_f32() == b.to_f32())
    });
    interrupt::check()?;
    weights.release(&[one.to_owned(), other.to_owned()]);
    Ok(same)
}
