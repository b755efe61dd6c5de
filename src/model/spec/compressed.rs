//! Attention to compressed tokens, as data (DeepSeek-V4, 2026): beside the tokens of its window a query sees
//! entries that each stand for some neighbouring tokens.
#![forbid(unsafe_code)]

use super::{Linear, Norm, Vector};

/// The entries that a layer's queries see beside tokens. A query sees an entry from the last of its tokens on.
#[derive(Debug, Clone)]
pub struct Compressed {
    /// Tokens of an entry; those of an unfinished one make none.
    pub rate: usize,
    /// Makes the entries, which are keys and values.
    pub entries: Compressor,
    /// Which of them a query sees; none for all.
    pub choice: Option<EntryChoice>,
}

/// Makes entries: of each of an entry's values the mean over its tokens, weighted by a softmax, through a norm
/// and rotated by the position of the entry's first token.
#[derive(Debug, Clone)]
pub struct Compressor {
    /// From the input to a token's values: those of its own entry, behind those of the next entry where entries
    /// overlap.
    pub values: Linear,
    /// From the input to the logits of the softmax, one a value.
    pub gate: Linear,
    /// `[rate, values]`: added to the logits by a token's place in the entry.
    pub bias: Vector,
    /// Norm of the entries.
    pub norm: Norm,
    /// Whether an entry is of the tokens before, too.
    pub overlaps: bool,
}

/// Picks a query's entries as an [`super::Indexer`] picks keys, by entries of its own.
#[derive(Debug, Clone)]
pub struct EntryChoice {
    /// Entries a query sees at most.
    pub most: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head, the last of whose values are rotated.
    pub head_dim: usize,
    /// From the narrow middle of the query projection to `heads * head_dim`.
    pub q: Linear,
    /// Makes the keys.
    pub entries: Compressor,
    /// From the input to the heads' weights.
    pub weights: Linear,
}

impl Compressed {
    /// What makes entries.
    fn compressors(&self) -> impl Iterator<Item = &Compressor> {
        let own = self.choice.as_ref().map(|choice| &choice.entries);
        [&self.entries].into_iter().chain(own)
    }

    pub(super) fn linears(&self) -> Vec<&Linear> {
        let compressors = self.compressors();
        let mut linears: Vec<&Linear> = compressors
            .flat_map(|compressor| [&compressor.values, &compressor.gate])
            .collect();
        let choice = self.choice.iter();
        linears.extend(choice.flat_map(|choice| [&choice.q, &choice.weights]));
        linears
    }

    pub(super) fn norms(&self) -> impl Iterator<Item = &Norm> {
        self.compressors().map(|compressor| &compressor.norm)
    }

    pub(super) fn norms_mut(&mut self) -> impl Iterator<Item = &mut Norm> {
        let own = self.choice.as_mut().map(|choice| &mut choice.entries);
        let all = [&mut self.entries].into_iter().chain(own);
        all.map(|compressor| &mut compressor.norm)
    }

    pub(super) fn vectors(&self) -> impl Iterator<Item = &Vector> {
        self.compressors().map(|compressor| &compressor.bias)
    }

    /// Values that a token has inside it.
    pub fn inner_width(&self) -> usize {
        let linears = self.linears().into_iter();
        linears.map(|linear| linear.out_features).sum()
    }
}
