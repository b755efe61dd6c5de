//! attention-share: how much of all attention goes to the first token, to the tokens with massive
//! activations, and to a learned key in front of them (attention KV bias).
//!
//! Definition: every query distributes a probability of 1 over the keys it sees. The share of a key
//! is what it receives, summed over the queries and divided by their number, averaged over heads and
//! sequences. A token is massive if the output of any layer has a massive activation at its position.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Finding, Thresholds};
use crate::{
    backend::{AttentionCapture, AttentionMaps},
    engine::{Observer, Plan, Session, Site},
    error::Result,
};

/// Shares by layer, and their means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttentionShare {
    /// Mean over layers of the first token's share.
    pub first_token: f64,
    /// Mean over layers of the massive tokens' share together; 0 where there are none.
    pub massive_tokens: f64,
    /// Mean over layers of the learned key's share; null without one.
    pub kv_bias: Option<f64>,
    /// First to last.
    pub layers: Vec<LayerShare>,
}

/// Shares in one layer, means over sequences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerShare {
    /// 0-based index.
    pub layer: usize,
    /// Of the first token.
    pub first_token: f64,
    /// Of the massive tokens together.
    pub massive_tokens: f64,
    /// Of the learned key; null without one.
    pub kv_bias: Option<f64>,
}

/// Runs the experiment: one walk.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    thresholds: Thresholds,
) -> Result<Finding<AttentionShare>> {
    let layers = &session.model().spec.layers;
    let plan = Plan {
        attention: AttentionCapture {
            sink: true,
            ..AttentionCapture::default()
        },
        ..Plan::magnitudes(Site::LayerOutput, thresholds.request(0))
    };
    let mut received = Received {
        lengths: sequences.iter().map(Vec::len).collect(),
        windows: layers
            .iter()
            .map(|layer| {
                layer
                    .attention
                    .as_ref()
                    .and_then(|attention| attention.window)
            })
            .collect(),
        heads: layers
            .iter()
            .map(|layer| {
                layer
                    .attention
                    .as_ref()
                    .map_or(0, |attention| attention.heads)
            })
            .collect(),
        shares: vec![vec![Vec::new(); sequences.len()]; layers.len()],
    };
    let outcome = session.run(sequences, &plan, &mut received)?;
    let mut massive = vec![BTreeSet::new(); sequences.len()];
    for sequences in &outcome.statistics[&Site::LayerOutput] {
        for (positions, found) in massive.iter_mut().zip(sequences) {
            positions.extend(found.massive.iter().map(|entry| entry.position));
        }
    }
    let layers: Vec<LayerShare> = received
        .shares
        .iter()
        .enumerate()
        .map(|(layer, sequences)| of_layer(layer, sequences, &received.lengths, &massive))
        .collect();
    let mean = |part: fn(&LayerShare) -> f64| {
        layers.iter().map(part).sum::<f64>() / layers.len().max(1) as f64
    };
    Ok(Finding {
        result: AttentionShare {
            first_token: mean(|layer| layer.first_token),
            massive_tokens: mean(|layer| layer.massive_tokens),
            kv_bias: layers
                .iter()
                .any(|layer| layer.kv_bias.is_some())
                .then(|| mean(|layer| layer.kv_bias.unwrap_or(0.0))),
            layers,
        },
        timings: outcome.timings,
    })
}

fn of_layer(
    layer: usize,
    sequences: &[Vec<f64>],
    lengths: &[usize],
    massive: &[BTreeSet<usize>],
) -> LayerShare {
    let count = sequences.len().max(1) as f64;
    let mut share = LayerShare {
        layer,
        first_token: 0.0,
        massive_tokens: 0.0,
        kv_bias: None,
    };
    for ((keys, length), massive) in sequences.iter().zip(lengths).zip(massive) {
        // A learned key comes before the tokens.
        let (extra, keys) = keys.split_at(keys.len() - length);
        if let Some(extra) = extra.first() {
            *share.kv_bias.get_or_insert(0.0) += extra / count;
        }
        share.first_token += keys.first().unwrap_or(&0.0) / count;
        share.massive_tokens += massive.iter().map(|position| keys[*position]).sum::<f64>() / count;
    }
    share
}

/// Reduces the sink mass of every head to the share of every key.
struct Received {
    lengths: Vec<usize>,
    windows: Vec<Option<usize>>,
    heads: Vec<usize>,
    /// By layer, sequence and key.
    shares: Vec<Vec<Vec<f64>>>,
}

impl Observer for Received {
    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        let (heads, length) = (self.heads[layer], self.lengths[sequence]);
        let mass = maps.sink_mass.unwrap_or_default();
        self.shares[layer][sequence] = of_keys(&mass, heads, length, self.windows[layer]);
        Ok(())
    }
}

/// The share of every key of a layer, a learned one first, from the sink mass `[heads, keys]` of a
/// sequence of `length` tokens.
pub(super) fn of_keys(
    mass: &[f32],
    heads: usize,
    length: usize,
    window: Option<usize>,
) -> Vec<f64> {
    let keys = mass.len() / heads;
    let extra = keys.saturating_sub(length);
    let window = window.unwrap_or(usize::MAX);
    let mut shares = vec![0.0; keys];
    for head in mass.chunks(keys.max(1)) {
        for (key, (share, mass)) in shares.iter_mut().zip(head).enumerate() {
            // The sink mass is a mean over the queries that see the key: all see a learned one.
            let viewers = match key.checked_sub(extra) {
                Some(position) => (length - position).min(window),
                None => length,
            };
            *share += f64::from(*mass) * viewers as f64 / length as f64 / heads as f64;
        }
    }
    shares
}
