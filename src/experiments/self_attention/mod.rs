//! self-attention: who attends to the tokens with massive activations, and what they give to the
//! attention output (section 4 of arXiv 2402.17762; figures of arXiv 2503.22329).
//!
//! One sequence. The *followed* tokens C are those with a massive activation in the output of any
//! layer (or positions that the caller names; or, where there are none, the first token). They are
//! found in a walk of their own, because layers before the one that creates a massive activation are
//! compared too. A second walk captures the attention of every layer.
//!
//! The *queries* Q are the tokens outside C that see at least one token of C. With P the attention
//! probabilities and L the logits, both averaged over heads:
//!
//! - attention to C: mean over t in Q of the sum over j in C of `P[t, j]`
//! - share of C: of all attention, queries of C included, as `attention_share` defines it
//! - even share: the same if every query attended evenly to the keys it sees
//! - attention to one token j: mean over t in Q that see j of `P[t, j]`, and of `L[t, j]`
//! - logit of the others: mean over t in Q and the j outside C that t sees of `L[t, j]`
//! - sink mass of a key in a head: its probability, averaged over all queries that see it
//!
//! The decomposition is described in [`Decomposition`]. Layers without attention have none of these
//! numbers.
#![forbid(unsafe_code)]

mod decomposition;
mod maps;

pub use decomposition::{Decomposition, HeadDecomposition};
pub use maps::{FollowedAttention, Sink};

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Finding, attention_share};
use crate::{
    backend::{AttentionCapture, AttentionMaps, Entry, StatisticsRequest},
    engine::{
        AttentionParts, Discard, HeadOutputs, Observer, Plan, Session, Site, Timings,
        check_attention, without_attention,
    },
    error::{Error, Result},
    model::spec::Layer,
    report::number::ranges,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/self-attention/1";

/// What to look at.
#[derive(Debug, Clone)]
pub struct Request {
    /// A massive activation is above this...
    pub abs_threshold: f32,
    /// ...and above this times the median.
    pub rel_threshold: f32,
    /// The tokens to follow instead of those with massive activations.
    pub positions: Option<Vec<usize>>,
    /// Layers whose maps are recorded for every head too.
    pub head_layers: HeadLayers,
}

/// Layers whose heads are looked at one by one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HeadLayers {
    /// No layer.
    #[default]
    None,
    /// Every layer.
    All,
    /// These.
    Some(Vec<usize>),
}

/// Why the followed tokens are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// They have massive activations.
    Massive,
    /// The caller named them.
    Given,
    /// No token has massive activations; this is the first one.
    First,
}

/// Attention of every layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfAttention {
    /// The sequence.
    pub token_ids: Vec<u32>,
    /// Its tokens' texts.
    pub tokens: Vec<String>,
    /// Positions with a massive activation in the output of any layer; empty if they were not
    /// looked for.
    pub massive_positions: Vec<usize>,
    /// Positions that are followed.
    pub followed: Vec<usize>,
    /// Why these.
    pub followed_because: Reason,
    /// Other parts mix the tokens there.
    pub layers_without_attention: Vec<usize>,
    /// First to last, those without attention as well.
    pub layers: Vec<LayerAttention>,
}

/// Attention of one layer; without attention nothing is known but what is massive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerAttention {
    /// 0-based index.
    pub layer: usize,
    /// Massive activations of the layer's output, by position, then dimension.
    pub massive: Vec<Entry>,
    /// Mean probability that the queries give to the followed tokens together; null without
    /// queries.
    pub attention_to_followed: Option<f64>,
    /// Share of all attention that the followed tokens receive together, as in
    /// [`attention_share`](super::attention_share): from every query, followed or not.
    pub share_of_followed: Option<f64>,
    /// The same as `attention_to_followed` if they attended evenly to all they see.
    pub even_share: Option<f64>,
    /// Mean logit of the keys that are not followed.
    pub logit_of_others: Option<f64>,
    /// Each followed token on its own.
    pub followed: Vec<FollowedAttention>,
    /// The key with the largest sink mass of every head.
    pub sinks: Vec<Sink>,
    /// Attention output in two parts.
    pub decomposition: Option<Decomposition>,
}

/// Runs the experiment; maps and outputs go to the observer as well.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<Finding<SelfAttention>> {
    let [token_ids] = sequences else {
        return Err(Error::usage("input", "self-attention takes one sequence"));
    };
    let spec = &session.model().spec;
    let layers = spec.layers.len();
    check(session, sequences, request)?;
    let mut timings = Timings::default();
    let mut massive = vec![Vec::new(); layers];
    if request.positions.is_none() {
        session.expect_walks(2);
        let statistics = StatisticsRequest {
            top_k: 0,
            abs_threshold: request.abs_threshold,
            rel_threshold: request.rel_threshold,
            moments: false,
        };
        let plan = Plan::magnitudes(Site::LayerOutput, statistics);
        let mut outcome = session.run(sequences, &plan, &mut Discard)?;
        timings = outcome.timings;
        for (layer, found) in outcome
            .statistics
            .remove(&Site::LayerOutput)
            .iter_mut()
            .flatten()
            .enumerate()
        {
            massive[layer] = std::mem::take(&mut found[0].massive);
        }
    }
    let massive_positions: BTreeSet<usize> = massive.iter().flatten().map(|e| e.position).collect();
    let (followed, followed_because) = match &request.positions {
        Some(positions) => (positions.iter().copied().collect(), Reason::Given),
        None if massive_positions.is_empty() => (BTreeSet::from([0]), Reason::First),
        None => (massive_positions.clone(), Reason::Massive),
    };
    let followed: Vec<usize> = followed.into_iter().collect();
    let mut watch = Watch {
        observer,
        followed: followed.clone(),
        tokens: token_ids.len(),
        sees: BTreeMap::new(),
        maps: BTreeMap::new(),
        shares: BTreeMap::new(),
        decompositions: BTreeMap::new(),
        heads: BTreeMap::new(),
    };
    let plan = Plan {
        keys: Some(vec![followed.clone()]),
        head_outputs: true,
        ..plan(request)
    };
    let outcome = session.run(sequences, &plan, &mut watch)?;
    timings += outcome.timings;
    let tokens: Vec<String> = token_ids.iter().map(|id| session.token(*id)).collect();
    let layers = massive.into_iter().enumerate();
    let layers = layers
        .map(|(layer, massive)| {
            let maps = watch.maps.remove(&layer).unwrap_or_default();
            let heads = watch.heads.remove(&layer).unwrap_or_default();
            let decomposition = watch.decompositions.remove(&layer);
            LayerAttention {
                layer,
                massive,
                attention_to_followed: maps.attention_to_followed,
                share_of_followed: watch.shares.remove(&layer),
                even_share: maps.even_share,
                logit_of_others: maps.logit_of_others,
                followed: maps.followed,
                sinks: maps.sinks,
                decomposition: decomposition.map(|whole| Decomposition { heads, ..whole }),
            }
        })
        .collect();
    Ok(Finding {
        result: SelfAttention {
            token_ids: token_ids.clone(),
            tokens,
            massive_positions: massive_positions.into_iter().collect(),
            followed,
            followed_because,
            layers_without_attention: without_attention(spec),
            layers,
        },
        timings,
    })
}

/// The maps that the observer will get.
pub fn plan(request: &Request) -> Plan {
    Plan {
        attention: AttentionCapture {
            mean: true,
            heads: request.head_layers != HeadLayers::None,
            sink: true,
        },
        head_layers: match &request.head_layers {
            HeadLayers::Some(layers) => Some(layers.clone()),
            _ => None,
        },
        ..Plan::default()
    }
}

/// Refuses positions and layers that are not there, and a model without attention.
pub fn check(session: &Session, sequences: &[Vec<u32>], request: &Request) -> Result<()> {
    let tokens = sequences.iter().map(Vec::len).min().unwrap_or(0);
    let spec = &session.model().spec;
    check_attention(spec)?;
    let layers = spec.layers.len();
    if let Some(positions) = &request.positions {
        if positions.is_empty() {
            return Err(Error::usage("--positions", "there is none").remedy("name one, such as 0"));
        }
        if let Some(position) = positions.iter().find(|position| **position >= tokens) {
            return Err(Error::usage(
                format!("--positions {position}"),
                format!("the sequence has {tokens} tokens"),
            )
            .remedy(format!(
                "use positions from 0 to {}",
                tokens.saturating_sub(1)
            )));
        }
    }
    if let HeadLayers::Some(chosen) = &request.head_layers {
        if let Some(layer) = chosen.iter().find(|layer| **layer >= layers) {
            return Err(Error::usage(
                format!("--heads {layer}"),
                format!("the model has {layers} layers"),
            )
            .remedy(format!("use layers from 0 to {}, or all", layers - 1)));
        }
        check_layers("--heads", &spec.layers, chosen)?;
    }
    Ok(())
}

/// Refuses layers, all of which the model has, of which none has attention.
pub fn check_layers(flag: &str, layers: &[Layer], chosen: &[usize]) -> Result<()> {
    let has = |layer: &usize| layers[*layer].attention.is_some();
    if chosen.is_empty() || chosen.iter().any(has) {
        return Ok(());
    }
    let having: Vec<usize> = (0..layers.len()).filter(has).collect();
    Err(Error::usage(
        format!("{flag} {}", ranges(chosen)),
        "there is no attention in these layers",
    )
    .remedy(format!("use some of {}", ranges(&having))))
}

/// Summarises what passes by on its way to the observer.
struct Watch<'r> {
    observer: &'r mut dyn Observer,
    followed: Vec<usize>,
    tokens: usize,
    /// By layer; for each query whether it sees a followed token.
    sees: BTreeMap<usize, Vec<bool>>,
    /// By layer.
    maps: BTreeMap<usize, maps::Summary>,
    /// By layer; of all attention, what the followed tokens receive.
    shares: BTreeMap<usize, f64>,
    /// By layer.
    decompositions: BTreeMap<usize, Decomposition>,
    /// By layer.
    heads: BTreeMap<usize, Vec<HeadDecomposition>>,
}

impl Observer for Watch<'_> {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<()> {
        self.observer.tensor(site, layer, sequence, columns, values)
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        let summary = maps::Summary::of(&maps, &self.followed);
        self.maps.insert(layer, summary);
        if let Some(probs) = &maps.probs_mean {
            let keys = attention_share::of_keys(&maps, self.tokens);
            let extra = keys.len().saturating_sub(self.tokens);
            let followed = self.followed.iter().map(|position| keys[extra + position]);
            self.shares.insert(layer, followed.sum());
            let sees = maps::sees(probs, self.tokens, &self.followed);
            self.sees.insert(layer, sees);
        }
        self.observer.attention(layer, sequence, maps)
    }

    fn head_outputs(&mut self, layer: usize, sequence: usize, found: HeadOutputs) -> Result<()> {
        let sees = self.sees.get(&layer).map_or(&[][..], Vec::as_slice);
        let heads = HeadDecomposition::of(&self.followed, sees, &found);
        self.heads.insert(layer, heads);
        self.observer.head_outputs(layer, sequence, found)
    }

    fn attention_parts(
        &mut self,
        layer: usize,
        sequence: usize,
        parts: AttentionParts<'_>,
    ) -> Result<()> {
        let sees = self.sees.get(&layer).map_or(&[][..], Vec::as_slice);
        let found = Decomposition::of(&self.followed, sees, parts);
        self.decompositions.insert(layer, found);
        self.observer.attention_parts(layer, sequence, parts)
    }
}
