//! figures: where the magnitudes of one sequence are large, by token and dimension, and how they
//! change on their way through each layer: at the norms, in attention and in the MLP (the further
//! figures published with arXiv 2503.22329).
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Finding;
use crate::{
    backend::{Entry, Statistics, StatisticsRequest},
    engine::{Observer, Plan, Session, Site},
    error::{Error, Result},
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/figures/1";

/// Largest magnitudes listed for each layer and site.
const TOP_K: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Request {
    /// A massive activation is above this...
    pub abs_threshold: f32,
    /// ...and above this times the median.
    pub rel_threshold: f32,
    /// Sites beside the layers' outputs. Those that the model lacks are left out.
    pub sites: Vec<Site>,
    /// Whether the layers' outputs go to the recorder.
    pub outputs: bool,
    /// Of these layers; none for all of them.
    pub output_layers: Option<Vec<usize>>,
}

/// Magnitudes of one sequence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActivationFigures {
    /// The sequence.
    pub token_ids: Vec<u32>,
    /// Its tokens' texts.
    pub tokens: Vec<String>,
    /// Positions with a massive activation in any layer's output.
    pub massive_positions: Vec<usize>,
    /// Dimensions of the massive activations of all layers.
    pub massive_dimensions: Vec<usize>,
    /// Outputs of the layers, first to last.
    pub layers: Vec<LayerOutput>,
    /// Magnitudes by site, then layer, of the layers that have it.
    pub sites: BTreeMap<&'static str, Vec<SiteMagnitudes>>,
    /// Sites that were asked for and that no layer has.
    pub absent_sites: Vec<Site>,
}

/// Hidden state after one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerOutput {
    /// 0-based index.
    pub layer: usize,
    /// max |h|
    pub max: f32,
    /// median |h|, lower middle
    pub median: f32,
    /// Massive activations, by position, then dimension.
    pub massive: Vec<Entry>,
}

impl LayerOutput {
    /// Positions with massive activations.
    pub fn positions(&self) -> BTreeSet<usize> {
        self.massive.iter().map(|entry| entry.position).collect()
    }

    /// Dimensions with massive activations, those of the largest magnitude first.
    pub fn dimensions(&self) -> Vec<usize> {
        let mut entries: Vec<&Entry> = self.massive.iter().collect();
        entries.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
        let mut seen = BTreeSet::new();
        let all = entries.into_iter().map(|entry| entry.dimension);
        all.filter(|dimension| seen.insert(*dimension)).collect()
    }
}

/// One site in one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteMagnitudes {
    /// 0-based index.
    pub layer: usize,
    /// max |x|
    pub max: f32,
    /// median |x|, lower middle
    pub median: f32,
    /// Entries of largest magnitude, descending.
    pub top: Vec<Entry>,
}

/// Runs the experiment.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    request: &Request,
    observer: &mut dyn Observer,
) -> Result<Finding<ActivationFigures>> {
    let [token_ids] = sequences else {
        return Err(Error::usage("input", "the figures show one sequence"));
    };
    let spec = &session.model().spec;
    let (present, absent_sites): (Vec<Site>, Vec<Site>) =
        request.sites.iter().partition(|site| site.exists_in(spec));
    let mut sites = vec![Site::LayerOutput];
    sites.extend(&present);
    sites.sort_unstable();
    sites.dedup();
    let plan = Plan {
        statistics: StatisticsRequest {
            top_k: TOP_K,
            abs_threshold: request.abs_threshold,
            rel_threshold: request.rel_threshold,
            moments: false,
        },
        sites,
        raw: if request.outputs {
            vec![Site::LayerOutput]
        } else {
            Vec::new()
        },
        raw_layers: request.output_layers.clone(),
        ..Plan::default()
    };
    let outcome = session.run(sequences, &plan, observer)?;
    let layers: Vec<LayerOutput> = outcome.statistics[&Site::LayerOutput]
        .iter()
        .enumerate()
        .map(|(layer, found)| LayerOutput {
            layer,
            max: found[0].max,
            median: found[0].median,
            massive: found[0].massive.clone(),
        })
        .collect();
    let massive = || layers.iter().flat_map(|layer| &layer.massive);
    let positions: BTreeSet<usize> = massive().map(|entry| entry.position).collect();
    let dimensions: BTreeSet<usize> = massive().map(|entry| entry.dimension).collect();
    Ok(Finding {
        result: ActivationFigures {
            token_ids: token_ids.clone(),
            tokens: token_ids.iter().map(|id| session.token(*id)).collect(),
            massive_positions: positions.into_iter().collect(),
            massive_dimensions: dimensions.into_iter().collect(),
            sites: present
                .iter()
                .map(|site| (site.name(), magnitudes(&outcome.statistics[site])))
                .collect(),
            layers,
            absent_sites,
        },
        timings: outcome.timings,
    })
}

fn magnitudes(layers: &[Vec<Statistics>]) -> Vec<SiteMagnitudes> {
    let layers = layers.iter().enumerate();
    // A layer that lacks the site has no sequences.
    let found = layers.filter_map(|(layer, sequences)| Some((layer, sequences.first()?)));
    found
        .map(|(layer, found)| SiteMagnitudes {
            layer,
            max: found.max,
            median: found.median,
            top: found.top.clone(),
        })
        .collect()
}
