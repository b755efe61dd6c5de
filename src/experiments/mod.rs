//! The experiments: what to probe, and how to summarise what was found.
//!
//! An experiment takes a model, a backend and token sequences and returns plain data. It knows no
//! command line and writes no file.
#![forbid(unsafe_code)]

pub mod activation_figures;
pub mod attention_share;
pub mod capture;
pub mod compare;
pub mod existence_validation;
pub mod intervention_analysis;
pub mod published;
pub mod self_attention;
mod summary;
pub mod tokens_analysis;
pub mod top_activation_magnitude;

pub use summary::TokenEntry;

use crate::{
    backend::{Backend, StatisticsRequest},
    engine::Timings,
    error::Result,
    model::Model,
    progress::Progress,
};

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

/// What counts as massive. Which quantity is compared, and how strictly, is the experiment's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// On the magnitude itself.
    pub abs: f64,
    /// On its ratio to the layer's median magnitude.
    pub rel: f64,
}

impl Thresholds {
    /// A request for the massive entries and the `top_k` largest.
    fn request(self, top_k: usize) -> StatisticsRequest {
        StatisticsRequest {
            top_k,
            abs_threshold: self.abs as f32,
            rel_threshold: self.rel as f32,
        }
    }
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
