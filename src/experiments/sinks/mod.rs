//! sinks: which heads put much of their attention on which keys, how often, and what becomes of the
//! hidden states meanwhile.
//!
//! - Sink rate (arXiv 2410.10781, section 3): `alpha_k = 1 / (T - k) sum_{i >= k} A_ik` is what key k
//!   receives of a head, where a window hides it nothing; its rate is the share of layers, heads and
//!   sequences in which that is above epsilon.
//! - Secondary sinks (arXiv 2512.22213): tokens other than the first whose hidden state points where the
//!   first one's does, `|cos(h_t, h_0)| > 0.9`, in more than 4 layers.
//! - Value drain: the norm of the first token's value over the median norm of all tokens' values.
//! - Gates (arXiv 2505.06708): their mean, and the share of those that are nearly closed.
//! - Compression (arXiv 2510.06477): matrix entropy and anisotropy of a layer's hidden states, and the
//!   norm of the first over the mean norm.
//!
//! One walk. Layers without attention have no sinks.
#![forbid(unsafe_code)]

mod eigenvalues;
mod heads;
mod hybrid;
mod states;

pub use heads::{GateSummary, HeadSinks, PositionRate};
pub use hybrid::Hybrid;
pub use states::{Compression, SecondarySink};

use std::collections::BTreeMap;

use serde::Serialize;

use self::{
    heads::{Norms, Received},
    states::States,
};
use super::Finding;
use crate::{
    backend::{AttentionCapture, AttentionMaps},
    engine::{HeadOutputs, Observer, Plan, Session, Site, check_attention, without_attention},
    error::Result,
    model::spec::Attention,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/sinks/1";

/// What counts as what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// A key is a sink of a head if it receives more than this.
    pub epsilon: f64,
    /// A token points where the first does if the cosine's magnitude is above this...
    pub cosine: f64,
    /// ...and is a secondary sink if it does in more than so many layers.
    pub more_than_layers: usize,
    /// A gate is nearly closed below this.
    pub closed_below: f64,
}

/// Sinks of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sinks {
    /// Sequences that were run.
    pub nsamples: usize,
    /// The first token's rate over all layers with attention, their heads and the sequences.
    pub sink_rate: f64,
    /// The same of the learned key of an attention KV bias; null without one.
    pub kv_bias_sink_rate: Option<f64>,
    /// The rate of each position, over layers, heads and sequences.
    pub positions: Vec<PositionRate>,
    /// First to last.
    pub layers: Vec<LayerSinks>,
    /// By sequence, then position.
    pub secondary_sinks: Vec<SecondarySink>,
    /// Of models some of whose layers have no attention.
    pub hybrid: Option<Hybrid>,
    /// Other parts mix the tokens there.
    pub layers_without_attention: Vec<usize>,
}

/// Sinks and hidden states of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSinks {
    /// 0-based index.
    pub layer: usize,
    /// The first token's rate over heads and sequences; null without attention.
    pub sink_rate: Option<f64>,
    /// The learned key's.
    pub kv_bias_sink_rate: Option<f64>,
    /// Each head.
    pub heads: Vec<HeadSinks>,
    /// For each key/value head the norm of the first token's value over the tokens' median norm, mean
    /// over sequences.
    pub value_drain: Vec<f64>,
    /// For each head, where attention has a gate.
    pub gates: Vec<GateSummary>,
    /// The layer's hidden states.
    #[serde(flatten)]
    pub compression: Compression,
}

/// Runs the experiment.
pub fn run(session: &Session, sequences: &[Vec<u32>], request: &Request) -> Result<Finding<Sinks>> {
    let spec = &session.model().spec;
    check_attention(spec)?;
    let sites = [Site::V, Site::AttentionGate, Site::LayerOutput];
    let sites = sites.into_iter().filter(|site| site.exists_in(spec));
    let plan = Plan {
        attention: AttentionCapture {
            sink: true,
            ..AttentionCapture::default()
        },
        raw: sites.collect(),
        head_outputs: true,
        ..Plan::default()
    };
    let mut watch = Watch {
        attention: spec
            .layers
            .iter()
            .map(|layer| layer.attention.as_ref())
            .collect(),
        lengths: sequences.iter().map(Vec::len).collect(),
        closed_below: request.closed_below,
        received: BTreeMap::new(),
        norms: BTreeMap::new(),
        drains: BTreeMap::new(),
        gates: BTreeMap::new(),
        states: BTreeMap::new(),
    };
    let outcome = session.run(sequences, &plan, &mut watch)?;
    let layers: Vec<LayerSinks> = (0..spec.layers.len())
        .map(|layer| watch.layer(layer, request))
        .collect();
    let all: Vec<&Received> = watch.received.values().collect();
    let token = |sequence: usize, position: usize| session.token(sequences[sequence][position]);
    Ok(Finding {
        result: Sinks {
            nsamples: sequences.len(),
            sink_rate: heads::rate(&all, request.epsilon, Received::of_first).unwrap_or(0.0),
            kv_bias_sink_rate: heads::rate(&all, request.epsilon, Received::of_extra),
            positions: heads::positions(&all, request.epsilon),
            layers,
            secondary_sinks: states::secondary(&watch.states, &watch.received, request, &token),
            hybrid: hybrid::of(spec, &watch.states),
            layers_without_attention: without_attention(spec),
        },
        timings: outcome.timings,
    })
}

/// Summarises what passes by; by layer and sequence, so that what is said again replaces what was said.
struct Watch<'m> {
    attention: Vec<Option<&'m Attention>>,
    lengths: Vec<usize>,
    closed_below: f64,
    received: BTreeMap<(usize, usize), Received>,
    norms: BTreeMap<(usize, usize), Norms>,
    drains: BTreeMap<(usize, usize), Vec<f64>>,
    gates: BTreeMap<(usize, usize), Vec<GateSummary>>,
    states: BTreeMap<(usize, usize), States>,
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
        let place = (layer, sequence);
        match (site, self.attention[layer]) {
            (Site::V, Some(attention)) => {
                let drains = heads::value_drain(values, columns, attention.kv_heads);
                self.drains.insert(place, drains);
            }
            (Site::AttentionGate, Some(attention)) => {
                let gates = heads::gates(values, columns, attention.heads, self.closed_below);
                self.gates.insert(place, gates);
            }
            (Site::LayerOutput, _) => {
                self.states.insert(place, States::of(values, columns));
            }
            _ => {}
        }
        Ok(())
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        if let (Some(mass), Some(attention)) = (maps.sink_mass, self.attention[layer]) {
            let tokens = self.lengths[sequence];
            let mut received = Received::new(mass, attention.heads, tokens);
            if let Some(viewers) = &maps.viewers {
                received.over_all_queries(viewers);
            }
            self.received.insert((layer, sequence), received);
        }
        Ok(())
    }

    fn head_outputs(&mut self, layer: usize, sequence: usize, found: HeadOutputs) -> Result<()> {
        let norms = Norms::of(&found, self.lengths[sequence]);
        self.norms.insert((layer, sequence), norms);
        Ok(())
    }
}

impl Watch<'_> {
    fn layer(&self, layer: usize, request: &Request) -> LayerSinks {
        let received: Vec<&Received> = of_layer(&self.received, layer).collect();
        let states: Vec<&States> = of_layer(&self.states, layer).collect();
        let norms: Vec<&Norms> = of_layer(&self.norms, layer).collect();
        let drains: Vec<&Vec<f64>> = of_layer(&self.drains, layer).collect();
        let gates: Vec<&Vec<GateSummary>> = of_layer(&self.gates, layer).collect();
        LayerSinks {
            layer,
            sink_rate: heads::rate(&received, request.epsilon, Received::of_first),
            kv_bias_sink_rate: heads::rate(&received, request.epsilon, Received::of_extra),
            heads: heads::summaries(&received, &norms, request.epsilon),
            value_drain: heads::means(&drains),
            gates: heads::gate_means(&gates),
            compression: Compression::mean(&states),
        }
    }
}

fn of_layer<T>(found: &BTreeMap<(usize, usize), T>, layer: usize) -> impl Iterator<Item = &T> {
    found
        .range((layer, 0)..(layer + 1, 0))
        .map(|(_, found)| found)
}
