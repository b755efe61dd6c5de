//! Sparse attention as data: which of the keys before it a query sees.
#![forbid(unsafe_code)]

use super::{Linear, Norm};

/// Of the keys that mask, window and chunk leave, a query sees some.
#[derive(Debug, Clone)]
pub enum KeyChoice {
    /// Those that an indexer of the layer picks.
    Own(Box<Indexer>),
    /// Those that the nearest layer before it with an indexer picked.
    Earlier,
}

/// Picks a query's keys (DeepSeek-V3.2, 2025: the lightning indexer of its sparse attention): the `most`
/// with the largest `sum_h w_h max(q_h . k, 0)`, whose queries come from the middle of multi-head latent
/// attention's query projection, and whose one key head and weights from the layer's input.
#[derive(Debug, Clone)]
pub struct Indexer {
    /// Keys a query sees at most.
    pub most: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head; the first of its values are rotated.
    pub head_dim: usize,
    /// From the narrow middle of the query projection to `heads * head_dim`.
    pub q: Linear,
    /// From the input to `head_dim`.
    pub k: Linear,
    /// Norm of the keys.
    pub k_norm: Norm,
    /// From the input to the heads' weights.
    pub weights: Linear,
    /// Index into [`super::DecoderSpec::ropes`].
    pub rope: usize,
}

impl KeyChoice {
    /// The indexer of this very layer.
    pub fn indexer(&self) -> Option<&Indexer> {
        match self {
            Self::Own(indexer) => Some(indexer),
            Self::Earlier => None,
        }
    }
}

impl Indexer {
    pub(super) fn linears(&self) -> [&Linear; 3] {
        [&self.q, &self.k, &self.weights]
    }
}
