//! Which keys a query sees, where an indexer chooses them.
#![forbid(unsafe_code)]

use super::{Rows, Tensors};
use crate::error::Result;

/// A choice of keys on the host: a bit for each key of a row's own sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyMask {
    /// 32-bit words of a row.
    pub words: usize,
    /// `[rows, words]`: key `j` is bit `j % 32` of word `j / 32`.
    pub bits: Vec<u32>,
}

impl KeyMask {
    /// Words of a row for sequences of at most `longest` tokens.
    pub fn words_for(sequences: &[Rows]) -> usize {
        let longest = sequences.iter().map(Rows::len).max().unwrap_or(0);
        longest.div_ceil(32)
    }

    /// Whether the row sees the key of its sequence.
    pub fn sees(&self, row: usize, key: usize) -> bool {
        self.bits[row * self.words + key / 32] >> (key % 32) & 1 == 1
    }
}

/// Choosing keys (DeepSeek-V3.2, 2025: the lightning indexer of its sparse attention).
pub trait KeyChoice: Tensors {
    /// For each row the `most` keys of its sequence that it sees, with the largest
    /// `sum_h weights[h] * max(q_h . k, 0)`; all of them where there are no more. Among equals the
    /// earlier key wins.
    ///
    /// `q` is `[rows, heads * width]`, `weights` `[rows, heads]`, `k` `[keys, width]`: there are `keys.0` of
    /// each sequence, each of which stands for `keys.1` of its rows and is seen from the last of them on.
    fn choose_keys(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        weights: &Self::Tensor,
        sequences: &[Rows],
        keys: (&[Rows], usize),
        most: usize,
    ) -> Result<Self::KeyMask>;
    /// The choices of these rows, in this order; each sequence's rows are there as a whole.
    fn gather_choices(&self, mask: &Self::KeyMask, rows: &[usize]) -> Result<Self::KeyMask>;
}
