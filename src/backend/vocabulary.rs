//! The two ends of a model: the embedding and the head.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::{error::Result, model::weights::WeightMatrix};

/// A language-model head as far as it is on the device; the weight is read in pieces.
#[derive(Debug)]
pub struct HeadRequest<'w, V> {
    /// `[vocab_size, width]`.
    pub weight: WeightMatrix<'w>,
    /// Added to the logits.
    pub bias: Option<V>,
    /// Factor on the logits.
    pub scale: f32,
    /// Logits become `cap * tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
}

/// Tokens to residual streams, and back to likelihoods.
pub trait Vocabulary: Tensors {
    /// The rows `rows` of a table `[_, width]`, times a factor, as a residual stream.
    fn embed(
        &self,
        table: &WeightMatrix<'_>,
        width: usize,
        rows: &[usize],
        factor: f32,
    ) -> Result<Self::Tensor> {
        let mut values = vec![0.0; rows.len() * width];
        for (row, out) in rows.iter().zip(values.chunks_exact_mut(width)) {
            table.write_output(*row, out);
            for value in out {
                *value *= factor;
            }
        }
        self.upload(rows.len(), width, values)
    }
    /// `-log softmax(logits)[target]` of every row that has a target (0 elsewhere), in nats.
    fn token_nll(
        &self,
        x: &Self::Tensor,
        head: &HeadRequest<'_, Self::Vector>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>> {
        let started = self.start_token_nll(x, head, targets)?;
        self.read_token_nll(&started, targets)
    }
    /// Starts the same without waiting for it.
    fn start_token_nll(
        &self,
        x: &Self::Tensor,
        head: &HeadRequest<'_, Self::Vector>,
        targets: &[Option<u32>],
    ) -> Result<Self::Vector>;
    /// Waits for what was started with these targets.
    fn read_token_nll(&self, started: &Self::Vector, targets: &[Option<u32>]) -> Result<Vec<f32>>;
}
