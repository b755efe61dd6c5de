//! What a run should find out, and what it found.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, time::Duration};

use super::{observer::BranchOutcome, site::Site};
use crate::backend::{AttentionCapture, Profile, ProfileRequest, Statistics, StatisticsRequest};

/// What to observe. What is not asked for is not computed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which magnitudes to report.
    pub statistics: StatisticsRequest,
    /// Sites whose magnitudes are reported.
    pub sites: Vec<Site>,
    /// Sites whose values' distributions are reported.
    pub profiled: Vec<Site>,
    /// What is listed with them.
    pub profile: ProfileRequest,
    /// Sites whose tensors go to the observer.
    pub raw: Vec<Site>,
    /// Layers whose tensors do; none for all of them.
    pub raw_layers: Option<Vec<usize>>,
    /// Attention maps that go to the observer.
    pub attention: AttentionCapture,
    /// Layers whose maps are captured for every head; none for all of them.
    pub head_layers: Option<Vec<usize>>,
    /// For each sequence the ascending positions of some tokens: what these keys give to the
    /// attention output of every layer goes to the observer.
    pub keys: Option<Vec<Vec<usize>>>,
    /// Whether to tell what each head gives to the attention output, in two parts where there are `keys`.
    pub head_outputs: bool,
    /// For each sequence the (position, dimension) of values of the residual stream whose way through every
    /// layer goes to the observer.
    pub trace: Option<Vec<Vec<(usize, usize)>>>,
    /// Single values of some tensors that go to the observer.
    pub reading: Option<Reading>,
    /// The site at which the observer's branches change values, where it is not the layers' outputs.
    pub edited: Option<Site>,
    /// Whether to run the layers even if nothing in them is observed: to time them.
    pub all_layers: bool,
    /// Whether to compute the next-token negative log-likelihood.
    pub nll: bool,
    /// For each sequence the predictions whose likelihood is computed; none for all.
    pub scored: Option<Vec<Scored>>,
    /// How many of the last position's logits to report.
    pub last_logits: usize,
    /// The most branches that the observer splits off a sequence; memory is kept for them.
    pub variants: usize,
}

/// The predictions of a sequence whose likelihood is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scored {
    /// The first position that predicts; what it predicts is the token behind it.
    pub from: usize,
    /// What the last position predicts: a token that follows the sequence and is not fed.
    pub next: Option<u32>,
}

/// Single values of a site's tensors.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The site.
    pub site: Site,
    /// The layers; 0 for a site that is of no layer.
    pub layers: Vec<usize>,
    /// For each sequence the (position, column) of the values.
    pub cells: Vec<Vec<(usize, usize)>>,
}

impl Default for Plan {
    /// Observes nothing.
    fn default() -> Self {
        Self {
            statistics: StatisticsRequest {
                top_k: 0,
                abs_threshold: f32::INFINITY,
                rel_threshold: 0.0,
                moments: false,
            },
            sites: Vec::new(),
            profiled: Vec::new(),
            profile: ProfileRequest { top_k: 0 },
            raw: Vec::new(),
            raw_layers: None,
            attention: AttentionCapture::default(),
            head_layers: None,
            keys: None,
            head_outputs: false,
            trace: None,
            reading: None,
            edited: None,
            all_layers: false,
            nll: false,
            scored: None,
            last_logits: 0,
            variants: 0,
        }
    }
}

impl Plan {
    /// Nothing but the magnitudes at one site.
    pub fn magnitudes(site: Site, statistics: StatisticsRequest) -> Self {
        Self {
            statistics,
            sites: vec![site],
            ..Self::default()
        }
    }

    /// Whether the tensor of a site in a layer goes to the observer.
    pub(super) fn records(&self, site: Site, layer: usize) -> bool {
        let every = self.raw_layers.as_ref();
        self.raw.contains(&site) && every.is_none_or(|layers| layers.contains(&layer))
    }

    /// The maps to capture in a layer.
    pub fn attention_of(&self, layer: usize) -> AttentionCapture {
        let every = self.head_layers.as_ref();
        AttentionCapture {
            heads: self.attention.heads && every.is_none_or(|layers| layers.contains(&layer)),
            ..self.attention
        }
    }

    pub(super) fn needs_head(&self) -> bool {
        self.nll || self.last_logits > 0
    }

    pub(super) fn observes(&self, site: Site) -> bool {
        let observed = [&self.sites, &self.profiled, &self.raw];
        let read = self.reading.as_ref().map(|reading| reading.site);
        read == Some(site) || observed.iter().any(|sites| sites.contains(&site))
    }

    /// Whether anything of attention itself is asked for.
    pub(super) fn looks_at_attention(&self) -> bool {
        self.attention.any() || self.keys.is_some() || self.head_outputs
    }

    /// Whether it looks into MLPs, of which each then has to be there at once.
    pub(super) fn looks_inside(&self) -> bool {
        let inside = [Site::Gate, Site::MlpInner];
        let looks = |site: &Site| self.observes(*site) || self.edited == Some(*site);
        self.trace.is_some() || inside.iter().any(looks)
    }

    pub(super) fn needs_final_norm(&self) -> bool {
        self.needs_head() || self.observes(Site::FinalNorm)
    }

    /// Whether any layer has to run.
    pub(super) fn needs_layers(&self) -> bool {
        self.all_layers
            || self.needs_final_norm()
            || self.looks_at_attention()
            || self.trace.is_some()
            || Site::ALL
                .iter()
                .any(|site| site.per_layer() && self.observes(*site))
    }
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Statistics by site, then `[layer][sequence]`; empty for layers that lack the site.
    pub statistics: BTreeMap<Site, Vec<Vec<Statistics>>>,
    /// Profiles by site, then `[layer][sequence]`; empty for layers that lack the site.
    pub profiles: BTreeMap<Site, Vec<Vec<Profile>>>,
    /// For each sequence the NLL of tokens 1.., or of what the plan's `scored` says, in nats; empty unless
    /// planned.
    pub token_nll: Vec<Vec<f32>>,
    /// For each sequence the first logits of its last position; empty unless planned.
    pub last_logits: Vec<Vec<f32>>,
    /// The variants of sequences that the observer split off, in the order of the split.
    pub branches: Vec<BranchOutcome>,
    /// Walks through the model, each of which reads its weights once.
    pub walks: usize,
    /// Where the time went.
    pub timings: Timings,
    /// What of the residual streams did not stay on the device.
    pub spilled: Spilled,
}

/// Bytes of residual streams that waited elsewhere than on the device, as often as they did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Spilled {
    /// On the host.
    pub to_host: u64,
    /// In a file.
    pub to_file: u64,
}

impl Outcome {
    /// Adds what a walk over the sequences that follow found.
    pub(super) fn append(&mut self, other: Self) {
        append(&mut self.statistics, other.statistics);
        append(&mut self.profiles, other.profiles);
        self.token_nll.extend(other.token_nll);
        self.last_logits.extend(other.last_logits);
        self.branches.extend(other.branches);
        self.walks += other.walks;
        self.timings += other.timings;
        self.spilled.to_host += other.spilled.to_host;
        self.spilled.to_file += other.spilled.to_file;
    }
}

/// Adds what was found in the sequences that follow.
fn append<T>(found: &mut BTreeMap<Site, Vec<Vec<T>>>, other: BTreeMap<Site, Vec<Vec<T>>>) {
    for (site, layers) in other {
        let all = found.entry(site).or_default();
        all.resize_with(layers.len().max(all.len()), Vec::new);
        for (all, sequences) in all.iter_mut().zip(layers) {
            all.extend(sequences);
        }
    }
}

/// Wall-clock parts of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Timings {
    /// The walk through the layers without the statistics.
    pub forward: Duration,
    /// Computing and reading statistics.
    pub statistics: Duration,
}

impl std::ops::AddAssign for Timings {
    fn add_assign(&mut self, other: Self) {
        self.forward += other.forward;
        self.statistics += other.statistics;
    }
}
