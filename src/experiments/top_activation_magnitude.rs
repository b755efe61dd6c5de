//! top-activation-magnitude: the largest and the median magnitude of every layer's hidden state,
//! averaged over the sequences (figure 1 of arXiv 2503.22329).
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{
    Finding, TokenEntry,
    summary::{mean, top_over_sequences},
};
use crate::{
    backend::StatisticsRequest,
    engine::{Discard, Plan, Session, Site},
    error::Result,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/top-activation-magnitude/1";

/// Magnitudes by layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopActivationMagnitude {
    /// The site that was measured.
    pub site: Site,
    /// Sequences that were run.
    pub nsamples: usize,
    /// One entry a layer that has the site, first to last.
    pub layers: Vec<LayerMagnitudes>,
}

/// Magnitudes of one layer, means over sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerMagnitudes {
    /// 0-based index.
    pub layer: usize,
    /// Mean of the largest magnitude.
    pub top1_mean: f64,
    /// Mean of the median magnitude.
    pub median_mean: f64,
    /// Means of the largest, second largest, ... magnitude.
    pub top_means: Vec<f64>,
    /// The largest entries over all sequences.
    pub top: Vec<TokenEntry>,
}

/// Runs the experiment at `site`, listing `top_k` magnitudes a layer.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    site: Site,
    top_k: usize,
) -> Result<Finding<TopActivationMagnitude>> {
    let plan = Plan::magnitudes(
        site,
        StatisticsRequest {
            top_k,
            abs_threshold: f32::INFINITY,
            rel_threshold: 0.0,
            moments: false,
        },
    );
    let outcome = session.run(sequences, &plan, &mut Discard)?;
    let layers = outcome.statistics[&site]
        .iter()
        .enumerate()
        .filter(|(_, found)| !found.is_empty())
        .map(|(layer, found)| {
            // A short sequence may have fewer values than asked for.
            let ranks = found.iter().map(|s| s.top.len()).min().unwrap_or(0);
            LayerMagnitudes {
                layer,
                top1_mean: mean(found.iter().map(|s| s.max)),
                median_mean: mean(found.iter().map(|s| s.median)),
                top_means: (0..ranks)
                    .map(|rank| mean(found.iter().map(|s| s.top[rank].value.abs())))
                    .collect(),
                top: top_over_sequences(session, sequences, found, top_k),
            }
        })
        .collect();
    Ok(Finding {
        result: TopActivationMagnitude {
            site,
            nsamples: sequences.len(),
            layers,
        },
        timings: outcome.timings,
    })
}
