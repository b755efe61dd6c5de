//! What a run should find out, and what it found.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, time::Duration};

use super::site::Site;
use crate::backend::{AttentionCapture, Statistics, StatisticsRequest};

/// What to observe. What is not asked for is not computed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which magnitudes to report.
    pub statistics: StatisticsRequest,
    /// Sites whose magnitudes are reported.
    pub sites: Vec<Site>,
    /// Sites whose tensors go to the recorder.
    pub raw: Vec<Site>,
    /// Attention maps that go to the recorder.
    pub attention: AttentionCapture,
    /// Whether to compute the next-token negative log-likelihood.
    pub nll: bool,
    /// How many of the last position's logits to report.
    pub last_logits: usize,
}

impl Plan {
    /// Nothing but the magnitudes at one site.
    pub fn magnitudes(site: Site, statistics: StatisticsRequest) -> Self {
        Self {
            statistics,
            sites: vec![site],
            raw: Vec::new(),
            attention: AttentionCapture::default(),
            nll: false,
            last_logits: 0,
        }
    }

    pub(super) fn needs_head(&self) -> bool {
        self.nll || self.last_logits > 0
    }

    pub(super) fn observes(&self, site: Site) -> bool {
        self.sites.contains(&site) || self.raw.contains(&site)
    }

    pub(super) fn needs_final_norm(&self) -> bool {
        self.needs_head() || self.observes(Site::FinalNorm)
    }

    /// Whether any layer has to run.
    pub(super) fn needs_layers(&self) -> bool {
        self.needs_final_norm()
            || self.attention.any()
            || Site::ALL
                .iter()
                .any(|site| site.per_layer() && self.observes(*site))
    }
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Statistics by site, then `[layer][sequence]`.
    pub statistics: BTreeMap<Site, Vec<Vec<Statistics>>>,
    /// For each sequence the NLL of tokens 1.., in nats; empty unless planned.
    pub token_nll: Vec<Vec<f32>>,
    /// For each sequence the first logits of its last position; empty unless planned.
    pub last_logits: Vec<Vec<f32>>,
    /// Where the time went.
    pub timings: Timings,
}

/// Wall-clock parts of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Timings {
    /// The walk through the layers without the statistics.
    pub forward: Duration,
    /// Computing and reading statistics.
    pub statistics: Duration,
}
