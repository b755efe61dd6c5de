//! The experiments: what to probe, and how to summarise what was found.
//!
//! An experiment takes a session and token sequences and returns plain data. It knows no device, no
//! command line, and writes no file.
#![forbid(unsafe_code)]

pub mod activation_figures;
pub mod attention_share;
pub mod capture;
pub mod changes;
pub mod compare;
mod corpus;
pub mod existence_validation;
pub mod intervention_analysis;
pub mod life;
pub mod places;
pub mod profile;
pub mod published;
pub mod self_attention;
pub mod sinks;
mod summary;
pub mod tokens_analysis;
pub mod top_activation_magnitude;

pub use corpus::CorpusWalk;
pub use summary::TokenEntry;

use crate::{backend::StatisticsRequest, engine::Timings};

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
            moments: false,
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
