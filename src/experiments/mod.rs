//! The experiments: what to probe, and how to summarise what was found.
//!
//! An experiment takes a model, a backend and token sequences and returns plain data. It knows no
//! command line and writes no file.
#![forbid(unsafe_code)]

pub mod capture;
pub mod existence_validation;
mod summary;
pub mod top_activation_magnitude;

pub use summary::TokenEntry;

use crate::{backend::Backend, engine::Timings, error::Result, model::Model, progress::Progress};

/// What an experiment runs on.
#[derive(Debug)]
pub struct Subject<'a, B> {
    /// The device.
    pub backend: &'a B,
    /// The decoder.
    pub model: &'a Model,
    /// Token ids, one list a sequence.
    pub sequences: &'a [Vec<u32>],
    /// Where progress is shown.
    pub progress: Progress,
}

/// An experiment's result and where its time went.
#[derive(Debug)]
pub struct Finding<T> {
    /// The result.
    pub result: T,
    /// Parts of the run.
    pub timings: Timings,
}

impl<B: Backend> Subject<'_, B> {
    /// The text of a token; without a tokenizer, its id.
    fn token(&self, id: u32) -> String {
        token_text(self.model, id)
    }

    fn run(
        &self,
        plan: &crate::engine::Plan,
        recorder: &mut dyn crate::engine::Recorder,
    ) -> Result<crate::engine::Outcome> {
        crate::engine::run(
            self.backend,
            self.model,
            self.sequences,
            plan,
            recorder,
            self.progress,
        )
    }
}

fn token_text(model: &Model, id: u32) -> String {
    match &model.tokenizer {
        Some(tokenizer) => tokenizer.token(id),
        None => format!("<{id}>"),
    }
}
