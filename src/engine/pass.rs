//! One layer's pass over one micro-batch, as the parts of the layer see it.
#![forbid(unsafe_code)]

use super::{batch::Batch, forward::Forward, probe::Probe, site::Site};
use crate::{
    backend::{AttentionCapture, Backend},
    error::Result,
};

/// One layer's pass over one micro-batch.
pub(super) struct Pass<'p, 'r, B: Backend> {
    pub(super) forward: &'p Forward<'r, B>,
    pub(super) index: usize,
    pub(super) batch: &'p Batch,
}

impl<B: Backend> Pass<'_, '_, B> {
    /// The attention maps to keep.
    pub(super) fn capture(&self) -> AttentionCapture {
        if self.batch.observed {
            self.forward.plan.attention_of(self.index)
        } else {
            AttentionCapture::default()
        }
    }

    /// Whether the probe wants to see this site.
    pub(super) fn observes(&self, site: Site) -> bool {
        self.batch.observed && self.forward.plan.observes(site)
    }

    /// Whether its statistics are wanted.
    pub(super) fn measures(&self, site: Site) -> bool {
        self.batch.observed && self.forward.plan.sites.contains(&site)
    }

    /// Whether what is inside the MLP is observed, changed or followed, so that all of it has to be there at
    /// once.
    pub(super) fn looks_into_mlp(&self) -> bool {
        let inside = [Site::Gate, Site::MlpInner];
        let follows = self.batch.observed && self.forward.plan.trace.is_some();
        follows
            || inside
                .iter()
                .any(|site| self.observes(*site) || self.edits(*site))
    }

    /// Shows a tensor to the probe.
    pub(super) fn observe(
        &self,
        probe: &mut Probe<'_, B>,
        site: Site,
        tensor: &B::Tensor,
    ) -> Result<()> {
        probe.observe(site, self.index, self.batch, tensor)
    }

    /// The plan's keys of the micro-batch's sequences.
    pub(super) fn keys(&self) -> Option<&[Vec<usize>]> {
        let keys = self.forward.plan.keys.as_ref();
        let keys = keys.filter(|_| self.batch.observed)?;
        // Sequences that are observed follow each other.
        let first = *self.batch.sequences.first()?;
        keys.get(first..first + self.batch.rows.len())
    }
}
