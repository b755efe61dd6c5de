//! Profiles of what a walk shows.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{batch::Batch, cards::Cards, plan::Plan, site::Site};
use crate::{
    backend::{Backend, Profile, Tensors},
    error::Result,
    model::spec::Layer,
};

/// Collects profiles on the device. A tensor that is shown at several sites is measured once.
pub(super) struct ProfileProbe<'r, B: Backend> {
    cards: Cards<'r, B>,
    layers: &'r [Layer],
    plan: &'r Plan,
    /// By site and layer, in the order of the micro-batches, by the card that has them.
    measured: BTreeMap<(Site, usize), Vec<OnCard<B>>>,
}

/// The profiles of a micro-batch, with the place of the card that has them.
type OnCard<B> = (usize, <B as Tensors>::PendingProfile);

impl<'r, B: Backend> ProfileProbe<'r, B> {
    pub(super) fn new(cards: Cards<'r, B>, layers: &'r [Layer], plan: &'r Plan) -> Self {
        Self {
            cards,
            layers,
            plan,
            measured: BTreeMap::new(),
        }
    }

    /// Whether the tensor of this site is to be measured.
    pub(super) fn wants(&self, site: Site, layer: usize) -> bool {
        self.plan.profiled.contains(&site) && self.measured_as(site, layer).is_none()
    }

    pub(super) fn observe(
        &mut self,
        site: Site,
        layer: usize,
        batch: &Batch,
        tensor: &B::Tensor,
    ) -> Result<()> {
        let request = &self.plan.profile;
        let backend = self.cards.of(batch);
        let pending = backend.profile(tensor, &batch.rows, request)?;
        self.measured
            .entry((site, layer))
            .or_default()
            .push((self.cards.place(batch), pending));
        Ok(())
    }

    /// The planned site at which the same tensor was shown first, if that is another one.
    fn measured_as(&self, site: Site, layer: usize) -> Option<(Site, usize)> {
        let (mut place, mut found) = ((site, layer), None);
        while let Some(before) = place.0.shown_before(self.layers, place.1) {
            if self.plan.profiled.contains(&before.0) {
                found = Some(before);
            }
            place = before;
        }
        found
    }

    /// By site, then `[layer][sequence]`.
    pub(super) fn finish(self) -> Result<BTreeMap<Site, Vec<Vec<Profile>>>> {
        let mut found: BTreeMap<(Site, usize), Vec<Profile>> = BTreeMap::new();
        let places: Vec<(Site, usize)> = self.repeated();
        let repeats: Vec<_> = places
            .into_iter()
            .filter_map(|(site, layer)| Some(((site, layer), self.measured_as(site, layer)?)))
            .collect();
        for (place, pending) in self.measured {
            let mut sequences = Vec::new();
            for (card, part) in pending {
                sequences.extend(self.cards.all()[card].read_profiles(part)?);
            }
            found.insert(place, sequences);
        }
        for (place, first) in repeats {
            if let Some(profiles) = found.get(&first).cloned() {
                found.insert(place, profiles);
            }
        }
        let mut by_site: BTreeMap<Site, Vec<Vec<Profile>>> = BTreeMap::new();
        for ((site, layer), profiles) in found {
            // Layers that lack the site have no sequences.
            let layers = by_site.entry(site).or_default();
            layers.resize_with(layer, Vec::new);
            layers.push(profiles);
        }
        Ok(by_site)
    }

    /// The places of the plan at which a tensor may have been shown before.
    fn repeated(&self) -> Vec<(Site, usize)> {
        let sites = self.plan.profiled.iter();
        let places = sites.flat_map(|site| {
            let layers = self.layers.iter().enumerate();
            let layers = layers.filter(|(_, layer)| site.per_layer() && site.is_in(layer));
            layers.map(|(layer, _)| (*site, layer))
        });
        places.collect()
    }
}
