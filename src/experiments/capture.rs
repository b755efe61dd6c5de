//! capture: any sequences, any sites, as numbers for other programs.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::Finding;
use crate::{
    backend::{Entry, Statistics},
    engine::{Observer, Plan, Session, Site},
    error::Result,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/capture/1";

/// All sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capture {
    /// One report a sequence, in the order given.
    pub sequences: Vec<SequenceCapture>,
}

/// What was found in one sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SequenceCapture {
    /// The ids that were run.
    pub token_ids: Vec<u32>,
    /// Their texts.
    pub tokens: Vec<String>,
    /// Mean next-token negative log-likelihood in nats; null when not asked for or for one token.
    pub nll: Option<f64>,
    /// `exp(nll)`
    pub perplexity: Option<f64>,
    /// First logits of the last position, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_logits: Option<Vec<f32>>,
    /// The layers' outputs, when that site is asked for.
    pub layers: Vec<LayerCapture>,
    /// The other sites that were asked for, each in the layers that have it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<&'static str, Vec<LayerCapture>>,
}

/// Magnitudes of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerCapture {
    /// 0-based index.
    pub layer: usize,
    /// max |x|
    pub max: f32,
    /// Exact median of |x|, lower middle.
    pub median: f32,
    /// Mean of x, signed.
    pub mean: f64,
    /// Standard deviation of x: the squares' sum is divided by the number of values.
    pub std: f64,
    /// Largest entries, descending magnitude.
    pub top: Vec<Entry>,
    /// Massive entries, by position, then dimension.
    pub massive: Vec<Entry>,
}

/// Runs the plan.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<Finding<Capture>> {
    let outcome = session.run(sequences, plan, observer)?;
    let sequences = sequences
        .iter()
        .enumerate()
        .map(|(index, token_ids)| {
            let nll = outcome
                .token_nll
                .get(index)
                .filter(|nll| !nll.is_empty())
                .map(|nll| nll.iter().copied().map(f64::from).sum::<f64>() / nll.len() as f64);
            let mut sites: BTreeMap<&'static str, Vec<LayerCapture>> = outcome
                .statistics
                .iter()
                .map(|(site, layers)| (site.name(), of_sequence(layers, index)))
                .collect();
            SequenceCapture {
                token_ids: token_ids.clone(),
                tokens: token_ids.iter().map(|id| session.token(*id)).collect(),
                nll,
                perplexity: nll.map(f64::exp),
                last_logits: outcome.last_logits.get(index).cloned(),
                layers: sites.remove(Site::LayerOutput.name()).unwrap_or_default(),
                sites,
            }
        })
        .collect();
    Ok(Finding {
        result: Capture { sequences },
        timings: outcome.timings,
    })
}

fn of_sequence(layers: &[Vec<Statistics>], sequence: usize) -> Vec<LayerCapture> {
    let layers = layers.iter().enumerate();
    // A layer that lacks the site has no sequences.
    let found = layers.filter_map(|(layer, sequences)| Some((layer, sequences.get(sequence)?)));
    found
        .map(|(layer, found)| LayerCapture {
            layer,
            max: found.max,
            median: found.median,
            mean: found.mean,
            std: found.std,
            top: found.top.clone(),
            massive: found.massive.clone(),
        })
        .collect()
}
