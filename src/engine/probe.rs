//! Observes tensors as the forward pass produces them.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    cards::Cards,
    head_outputs::HeadOutputs,
    ledger::Ledger,
    observer::{AttentionParts, Observer},
    plan::Plan,
    profiles::ProfileProbe,
    site::Site,
};
use crate::{
    backend::{
        AttentionMaps, Backend, OutputParts, Precision, Profile, Statistics, StatisticsRequest,
    },
    error::{Error, Result},
    model::spec::Layer,
};

/// Statistics of one micro-batch.
enum Measured<B: Backend> {
    /// Perhaps still on a card, which is named by its place.
    Pending(usize, B::Pending),
    /// On the host, one per sequence.
    Read(Vec<Statistics>),
}

/// Collects statistics on the device and forwards raw captures.
pub(super) struct Probe<'r, B: Backend> {
    pub(super) cards: Cards<'r, B>,
    plan: &'r Plan,
    pub(super) observer: &'r mut dyn Observer,
    /// Index of the first sequence that it sees.
    first: usize,
    /// By site and layer, in the order of the micro-batches.
    measured: BTreeMap<(Site, usize), Vec<Measured<B>>>,
    profiles: ProfileProbe<'r, B>,
    /// What has been measured already when it comes to be observed, because it was measured as it was made.
    early: Option<(Site, usize)>,
    /// With the sums that were made in one pass with their statistics.
    time: Duration,
    /// The values that are followed through the layer.
    pub(super) ledger: Ledger,
}

/// By site, then `[layer][sequence]`; empty for layers that lack the site.
type BySite<T> = BTreeMap<Site, Vec<Vec<T>>>;

/// All that a probe found.
pub(super) struct Found {
    pub(super) statistics: BySite<Statistics>,
    pub(super) profiles: BySite<Profile>,
    /// What finding it took.
    pub(super) time: Duration,
}

impl<'r, B: Backend> Probe<'r, B> {
    /// Of the sequences from `first` on, in these layers.
    pub(super) fn new(
        cards: Cards<'r, B>,
        layers: &'r [Layer],
        plan: &'r Plan,
        observer: &'r mut dyn Observer,
        first: usize,
    ) -> Self {
        Self {
            cards,
            plan,
            observer,
            first,
            measured: BTreeMap::new(),
            profiles: ProfileProbe::new(cards, layers, plan),
            early: None,
            time: Duration::ZERO,
            ledger: Ledger::default(),
        }
    }

    /// Adds `output` to what becomes a layer's output by that, and measures the sum on the way.
    pub(super) fn add_measured(
        &mut self,
        layer: usize,
        batch: &Batch,
        hidden: &mut B::Tensor,
        output: &B::Tensor,
    ) -> Result<()> {
        let started = Instant::now();
        let (place, request) = ((Site::LayerOutput, layer), &self.plan.statistics);
        let backend = self.cards.of(batch);
        let pending = backend.add_statistics(hidden, output, &batch.rows, request)?;
        let measured = self.measured.entry(place).or_default();
        measured.push(Measured::Pending(self.cards.place(batch), pending));
        self.early = Some(place);
        self.time += started.elapsed();
        Ok(())
    }

    /// Looks at a tensor, if the plan asks for this site and the batch is observed.
    pub(super) fn observe(
        &mut self,
        site: Site,
        layer: usize,
        batch: &Batch,
        tensor: &B::Tensor,
    ) -> Result<()> {
        if !batch.observed {
            return Ok(());
        }
        let backend = self.cards.of(batch);
        let early = self.early.take_if(|place| *place == (site, layer));
        if early.is_none() && self.plan.sites.contains(&site) {
            let started = Instant::now();
            let pending = backend.statistics(tensor, &batch.rows, &self.plan.statistics)?;
            let measured = self.measured.entry((site, layer)).or_default();
            measured.push(Measured::Pending(self.cards.place(batch), pending));
            self.time += started.elapsed();
        }
        if self.profiles.wants(site, layer) {
            let started = Instant::now();
            self.profiles.observe(site, layer, batch, tensor)?;
            self.time += started.elapsed();
        }
        if let Some(reading) = &self.plan.reading
            && reading.site == site
            && reading.layers.contains(&layer)
        {
            for (sequence, rows) in batch.sequences.iter().zip(&batch.rows) {
                let own = reading.cells.get(*sequence).into_iter().flatten();
                let cells: Vec<_> = own.map(|cell| (rows.start + cell.0, cell.1)).collect();
                let values = backend.values_at(tensor, &cells)?;
                self.observer.reading(layer, *sequence, &values);
            }
        }
        if self.plan.records(site, layer) {
            let values = backend.download(tensor)?;
            let columns = backend.columns(tensor);
            for (sequence, rows) in batch.sequences.iter().zip(&batch.rows) {
                let part = &values[rows.start * columns..rows.end * columns];
                self.observer
                    .tensor(site, layer, *sequence, columns, part)?;
            }
        }
        Ok(())
    }

    /// Statistics of a micro-batch at a site where all are observed and the plan asks for them, brought to
    /// the host before the others. Refuses values that overflowed.
    pub(super) fn read_of(
        &mut self,
        site: Site,
        layer: usize,
        batch: &Batch,
    ) -> Result<Vec<Statistics>> {
        let started = Instant::now();
        let backend = self.cards.of(batch);
        let measured = self.measured.get_mut(&(site, layer));
        let measured = measured.and_then(|measured| measured.get_mut(batch.number));
        let Some(measured) = measured else {
            return Ok(Vec::new());
        };
        let found = match std::mem::replace(measured, Measured::Read(Vec::new())) {
            Measured::Pending(_, pending) => backend.read_statistics(pending)?,
            Measured::Read(found) => found,
        };
        for (sequence, found) in batch.sequences.iter().zip(&found) {
            check_finite(
                backend.precision(),
                (site, layer),
                *sequence,
                found.non_finite,
            )?;
        }
        *measured = Measured::Read(found.clone());
        self.time += started.elapsed();
        Ok(found)
    }

    /// Refuses a layer's output that overflowed when its attention maps are captured and its
    /// statistics, which would tell, are not asked for.
    pub(super) fn guard(&self, layer: usize, batch: &Batch, hidden: &B::Tensor) -> Result<()> {
        if !self.plan.looks_at_attention() || self.plan.sites.contains(&Site::LayerOutput) {
            return Ok(());
        }
        let request = StatisticsRequest {
            top_k: 0,
            ..self.plan.statistics
        };
        let backend = self.cards.of(batch);
        let pending = backend.statistics(hidden, &batch.rows, &request)?;
        let found = backend.read_statistics(pending)?;
        for (sequence, found) in batch.sequences.iter().zip(&found) {
            let place = (Site::LayerOutput, layer);
            check_finite(backend.precision(), place, *sequence, found.non_finite)?;
        }
        Ok(())
    }

    /// Passes captured attention maps on.
    pub(super) fn attention(
        &mut self,
        layer: usize,
        batch: &Batch,
        maps: Vec<AttentionMaps>,
    ) -> Result<()> {
        for (sequence, maps) in batch.sequences.iter().zip(maps) {
            self.observer.attention(layer, *sequence, maps)?;
        }
        Ok(())
    }

    /// Passes on what the plan's keys give to the attention output.
    pub(super) fn attention_parts(
        &mut self,
        layer: usize,
        batch: &Batch,
        whole: &B::Tensor,
        parts: &OutputParts<B::Tensor>,
    ) -> Result<()> {
        let backend = self.cards.of(batch);
        let columns = backend.columns(whole);
        let download = |tensor| backend.download(tensor);
        let whole = download(whole)?;
        let (followed, rest) = (download(&parts.subset)?, download(&parts.rest)?);
        for (index, rows) in batch.rows.iter().enumerate() {
            let values = rows.start * columns..rows.end * columns;
            let parts = AttentionParts {
                columns,
                whole: &whole[values.clone()],
                followed: &followed[values.clone()],
                rest: &rest[values],
            };
            let sequence = batch.sequences[index];
            self.observer.attention_parts(layer, sequence, parts)?;
        }
        Ok(())
    }

    /// Passes on what each head gives.
    pub(super) fn head_outputs(
        &mut self,
        layer: usize,
        batch: &Batch,
        found: &HeadOutputs,
    ) -> Result<()> {
        let tokens = batch.rows.last().map_or(0, |rows| rows.end);
        for (sequence, rows) in batch.sequences.iter().zip(&batch.rows) {
            let own = found.of_rows(rows.clone(), tokens);
            self.observer.head_outputs(layer, *sequence, own)?;
        }
        Ok(())
    }

    /// Who acts on what is seen.
    pub(super) fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    /// Reads everything and refuses values that overflowed.
    pub(super) fn finish(mut self) -> Result<Found> {
        let started = Instant::now();
        let cards = self.cards;
        let measured = std::mem::take(&mut self.measured);
        let read = |measured| match measured {
            Measured::Pending(card, pending) => cards.all()[card].read_statistics(pending),
            Measured::Read(found) => Ok(found),
        };
        let statistics = by_site(measured, read)?;
        let profiles = self.profiles.finish()?;
        let mut overflowed = overflowed(&statistics, |found| found.non_finite);
        overflowed.extend(self::overflowed(&profiles, |found| found.non_finite));
        // In the order of the forward pass, so that the cause is named.
        let first = overflowed
            .into_iter()
            .min_by_key(|(site, layer, sequence, _)| {
                (*site == Site::FinalNorm, *layer, *site, *sequence)
            });
        if let Some((site, layer, sequence, values)) = first {
            let sequence = self.first + sequence;
            let precision = cards.first().precision();
            check_finite(precision, (site, layer), sequence, values)?;
        }
        Ok(Found {
            statistics,
            profiles,
            time: self.time + started.elapsed(),
        })
    }
}

/// Reads what is perhaps still on the device.
fn by_site<M, T>(
    measured: BTreeMap<(Site, usize), Vec<M>>,
    read: impl Fn(M) -> Result<Vec<T>>,
) -> Result<BySite<T>> {
    let mut by_site: BySite<T> = BTreeMap::new();
    for ((site, layer), measured) in measured {
        let mut sequences = Vec::new();
        for part in measured {
            sequences.extend(read(part)?);
        }
        // Layers that lack the site have no sequences.
        let layers = by_site.entry(site).or_default();
        layers.resize_with(layer, Vec::new);
        layers.push(sequences);
    }
    Ok(by_site)
}

/// Site, layer and sequence where values are not finite, and how many are not.
fn overflowed<T>(
    found: &BySite<T>,
    non_finite: impl Fn(&T) -> usize,
) -> Vec<(Site, usize, usize, usize)> {
    let mut overflowed = Vec::new();
    for (site, layers) in found {
        for (layer, sequences) in layers.iter().enumerate() {
            for (sequence, found) in sequences.iter().enumerate() {
                if non_finite(found) > 0 {
                    overflowed.push((*site, layer, sequence, non_finite(found)));
                }
            }
        }
    }
    overflowed
}

fn check_finite(
    precision: Precision,
    (site, layer): (Site, usize),
    sequence: usize,
    non_finite: usize,
) -> Result<()> {
    if non_finite == 0 {
        return Ok(());
    }
    Err(Error::new(
        format!("layer {layer}, {}", site.name()),
        format!(
            "{non_finite} values of sequence {sequence} are infinite or not a number in {precision}",
        ),
    )
    .remedy(precision.overflow_remedy()))
}
