//! Entries that stand for neighbouring tokens, and attention that sees them beside tokens.
#![forbid(unsafe_code)]

use super::{Rows, Tensors};
use crate::error::Result;

/// Entries of tokens. Every `rate` tokens of a sequence make one; those that are left over make none.
pub trait Compression: Tensors {
    /// The entries of each sequence, those of the first sequence first: of each value the mean over an
    /// entry's tokens, weighted by a softmax of `gate`, to which `bias`, `[rate, columns]`, is added by a
    /// token's place. Where entries overlap, the second half of a token's columns is for its own entry and
    /// the first half for the next one, as if that had twice as many tokens.
    fn compress(
        &self,
        values: &Self::Tensor,
        gate: &Self::Tensor,
        bias: &Self::Vector,
        sequences: &[Rows],
        rate: usize,
        overlaps: bool,
    ) -> Result<Self::Tensor>;
    /// The rows `rows`, in this order, of `first` and `second` together, which are for the same target: those
    /// of `second` are counted on from those of `first`.
    fn gather_both(
        &self,
        first: &Self::Tensor,
        second: &Self::Tensor,
        rows: &[usize],
    ) -> Result<Self::Tensor>;
    /// For each sequence the keys of its entries, then of its tokens: an entry's row sees nothing, a token's
    /// the entries whose last token is not later, those chosen for it where there is a choice (its rows are
    /// tokens, its keys entries), and the tokens of its window, none later than itself.
    fn see_entries(
        &self,
        sequences: &[Rows],
        rate: usize,
        window: Option<usize>,
        choice: Option<&Self::KeyMask>,
    ) -> Result<Self::KeyMask>;
}

/// How many rows there are of each sequence's entries, and where they lie.
pub fn entries_of(sequences: &[Rows], rate: usize) -> Vec<Rows> {
    let mut first = 0;
    let entries = sequences.iter().map(|rows| {
        let count = rows.len() / rate;
        first += count;
        first - count..first
    });
    entries.collect()
}

/// The rows of each sequence's entries and tokens, where both follow each other.
pub fn with_entries(sequences: &[Rows], rate: usize) -> Vec<Rows> {
    let mut first = 0;
    let both = sequences.iter().map(|rows| {
        let count = rows.len() / rate + rows.len();
        first += count;
        first - count..first
    });
    both.collect()
}
