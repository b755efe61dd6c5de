//! What a stream takes from layer to layer besides its residual stream.
#![forbid(unsafe_code)]

use crate::{backend::Backend, error::Result};

/// What later layers read of what earlier ones have found.
pub(super) struct Carried<B: Backend> {
    /// The keys that the last indexer picked; none where every query sees all.
    pub(super) choice: Option<B::KeyMask>,
}

impl<B: Backend> Carried<B> {
    /// Before the first layer.
    pub(super) fn new() -> Self {
        Self { choice: None }
    }

    /// The same for some rows of the micro-batch, whole sequences.
    pub(super) fn gather(&self, backend: &B, rows: &[usize]) -> Result<Self> {
        let choice = self.choice.as_ref();
        let choice = choice.map(|choice| backend.gather_choices(choice, rows));
        Ok(Self {
            choice: choice.transpose()?,
        })
    }
}
