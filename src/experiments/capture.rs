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
    /// The most likely next tokens, descending, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_tokens: Option<Vec<TopToken>>,
    /// The layers' outputs, when that site is asked for.
    pub layers: Vec<LayerCapture>,
    /// The other sites that were asked for, each in the layers that have it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<&'static str, Vec<LayerCapture>>,
}

/// A token that may come next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TopToken {
    /// Its id.
    pub token_id: u32,
    /// Its text.
    pub token: String,
    /// Its logit.
    pub logit: f32,
    /// Its share of the softmax over the vocabulary.
    pub probability: f64,
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

/// Runs the plan; with `top_tokens`, that many of the most likely next tokens beside it.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    plan: &Plan,
    top_tokens: usize,
    observer: &mut dyn Observer,
) -> Result<Finding<Capture>> {
    let logits = if top_tokens > 0 {
        session.model().spec.vocab_size
    } else {
        plan.last_logits
    };
    let all = Plan {
        last_logits: logits,
        ..plan.clone()
    };
    let outcome = session.run(sequences, &all, observer)?;
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
                last_logits: (plan.last_logits > 0)
                    .then(|| outcome.last_logits.get(index))
                    .flatten()
                    .map(|logits| logits.iter().take(plan.last_logits).copied().collect()),
                top_tokens: (top_tokens > 0)
                    .then(|| outcome.last_logits.get(index))
                    .flatten()
                    .map(|logits| most_likely(session, logits, top_tokens)),
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

/// The first `count` by logit; of equal ones the lower id first.
fn most_likely(session: &Session, logits: &[f32], count: usize) -> Vec<TopToken> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let relative = |logit: f32| (f64::from(logit) - f64::from(largest)).exp();
    let sum: f64 = logits.iter().copied().map(relative).sum();
    let mut order: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.truncate(count);
    order
        .into_iter()
        .map(|(token_id, logit)| TopToken {
            token_id,
            token: session.token(token_id),
            logit,
            probability: relative(logit) / sum,
        })
        .collect()
}

fn of_sequence(layers: &[Vec<Statistics>], sequence: usize) -> Vec<LayerCapture> {
    let layers = layers.iter().enumerate();
    // A layer that lacks the site has no sequences.
    let found = layers.filter_map(|(layer, sequences)| Some((layer, sequences.get(sequence)?)));
    found
        .map(|(layer, found)| {
            // The plan asks for them.
            let [mean, std] = found.moments.unwrap_or_default();
            LayerCapture {
                layer,
                max: found.max,
                median: found.median,
                mean,
                std,
                top: found.top.clone(),
                massive: found.massive.clone(),
            }
        })
        .collect()
}
