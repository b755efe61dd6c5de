//! attention-share: how much of all attention goes to the first token, to the tokens with massive
//! activations, and to a learned key in front of them (attention KV bias).
//!
//! Definition: every query distributes a probability of 1 over the keys it sees. The share of a key
//! is what it receives, summed over the queries and divided by their number, averaged over heads and
//! sequences. A token is massive if the output of any layer has a massive activation at its position.
//! Layers without attention have no shares, and means are over the layers that have it.
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

/// Shares in one layer, means over sequences; null without attention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LayerShare {
    /// 0-based index.
    pub layer: usize,
    /// Of the first token.
    pub first_token: Option<f64>,
    /// Of the massive tokens together.
    pub massive_tokens: Option<f64>,
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
        .zip(layers)
        .enumerate()
        .map(|(index, (sequences, layer))| match &layer.attention {
            Some(_) => of_layer(index, sequences, &received.lengths, &massive),
            None => LayerShare {
                layer: index,
                first_token: None,
                massive_tokens: None,
                kv_bias: None,
            },
        })
        .collect();
    let having = layers.iter().filter(|layer| layer.first_token.is_some());
    let count = having.count().max(1) as f64;
    let mean =
        |part: fn(&LayerShare) -> Option<f64>| layers.iter().filter_map(part).sum::<f64>() / count;
    Ok(Finding {
        result: AttentionShare {
            first_token: mean(|layer| layer.first_token),
            massive_tokens: mean(|layer| layer.massive_tokens),
            kv_bias: layers
                .iter()
                .any(|layer| layer.kv_bias.is_some())
                .then(|| mean(|layer| layer.kv_bias)),
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
    let (mut first_token, mut massive_tokens, mut kv_bias) = (0.0, 0.0, None);
    for ((keys, length), massive) in sequences.iter().zip(lengths).zip(massive) {
        // A learned key comes before the tokens.
        let (extra, keys) = keys.split_at(keys.len() - length);
        if let Some(extra) = extra.first() {
            *kv_bias.get_or_insert(0.0) += extra / count;
        }
        first_token += keys.first().unwrap_or(&0.0) / count;
        massive_tokens += massive.iter().map(|position| keys[*position]).sum::<f64>() / count;
    }
    LayerShare {
        layer,
        first_token: Some(first_token),
        massive_tokens: Some(massive_tokens),
        kv_bias,
    }
}

/// Reduces the sink mass of every head to the share of every key.
struct Received {
    lengths: Vec<usize>,
    /// By layer, sequence and key.
    shares: Vec<Vec<Vec<f64>>>,
}

impl Observer for Received {
    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        self.shares[layer][sequence] = of_keys(&maps, self.lengths[sequence]);
        Ok(())
    }
}

/// The share of every key of a layer, a learned one first, from the maps of a sequence of `length` tokens.
pub(super) fn of_keys(maps: &AttentionMaps, length: usize) -> Vec<f64> {
    let heads = maps.max_logit.as_ref().map_or(1, Vec::len).max(1);
    let mass = maps.sink_mass.as_deref().unwrap_or_default();
    let viewers = maps.viewers.as_deref().unwrap_or_default();
    let keys = mass.len() / heads;
    let extra = keys.saturating_sub(length);
    let mut shares = vec![0.0; keys];
    for head in mass.chunks(keys.max(1)) {
        for (key, (share, mass)) in shares.iter_mut().zip(head).enumerate() {
            // The sink mass is a mean over the queries that see the key: all see a learned one.
            let viewers = match key.checked_sub(extra) {
                Some(position) => viewers.get(position).map_or(0.0, |count| f64::from(*count)),
                None => length as f64,
            };
            *share += f64::from(*mass) * viewers / length as f64 / heads as f64;
        }
    }
    shares
}
