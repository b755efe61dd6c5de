//! Observes tensors as the forward pass produces them.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{batch::Batch, observer::Observer, plan::Plan, site::Site, trace::Ledger};
use crate::{
    backend::{AttentionMaps, Backend, Precision, Statistics, StatisticsRequest},
    error::{Error, Result},
};

/// Statistics of one micro-batch.
enum Measured<B: Backend> {
    /// Perhaps still on the device.
    Pending(B::Pending),
    /// On the host, one per sequence.
    Read(Vec<Statistics>),
}

/// Collects statistics on the device and forwards raw captures.
pub(super) struct Probe<'r, B: Backend> {
    pub(super) backend: &'r B,
    plan: &'r Plan,
    pub(super) observer: &'r mut dyn Observer,
    /// Index of the first sequence that it sees.
    first: usize,
    /// By site and layer, in the order of the micro-batches.
    measured: BTreeMap<(Site, usize), Vec<Measured<B>>>,
    time: Duration,
    /// The values that are followed through the layer.
    pub(super) ledger: Ledger,
}

impl<'r, B: Backend> Probe<'r, B> {
    /// Of the sequences from `first` on.
    pub(super) fn new(
        backend: &'r B,
        plan: &'r Plan,
        observer: &'r mut dyn Observer,
        first: usize,
    ) -> Self {
        Self {
            backend,
            plan,
            observer,
            first,
            measured: BTreeMap::new(),
            time: Duration::ZERO,
            ledger: Ledger::default(),
        }
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
        if self.plan.sites.contains(&site) {
            let started = Instant::now();
            let pending = self
                .backend
                .statistics(tensor, &batch.rows, &self.plan.statistics)?;
            let measured = self.measured.entry((site, layer)).or_default();
            measured.push(Measured::Pending(pending));
            self.time += started.elapsed();
        }
        if let Some(reading) = &self.plan.reading
            && reading.site == site
            && reading.layers.contains(&layer)
        {
            for (sequence, rows) in batch.sequences.iter().zip(&batch.rows) {
                let own = reading.cells.get(*sequence).into_iter().flatten();
                let cells: Vec<_> = own.map(|cell| (rows.start + cell.0, cell.1)).collect();
                let values = self.backend.values_at(tensor, &cells)?;
                self.observer.reading(layer, *sequence, &values);
            }
        }
        if self.plan.records(site, layer) {
            let values = self.backend.download(tensor)?;
            let columns = self.backend.columns(tensor);
            for (sequence, rows) in batch.sequences.iter().zip(&batch.rows) {
                let part = &values[rows.start * columns..rows.end * columns];
                self.observer
                    .tensor(site, layer, *sequence, columns, part)?;
            }
        }
        Ok(())
    }

    /// Statistics of the latest micro-batch at a site, which the plan asks for, brought to the host
    /// before the others. Refuses values that overflowed.
    pub(super) fn read_latest(
        &mut self,
        site: Site,
        layer: usize,
        batch: &Batch,
    ) -> Result<Vec<Statistics>> {
        let started = Instant::now();
        let measured = self.measured.entry((site, layer)).or_default();
        let found = match measured.pop() {
            Some(Measured::Pending(pending)) => self.backend.read_statistics(pending)?,
            Some(Measured::Read(found)) => found,
            None => Vec::new(),
        };
        for (sequence, found) in batch.sequences.iter().zip(&found) {
            check_finite(self.backend.precision(), (site, layer), *sequence, found)?;
        }
        measured.push(Measured::Read(found.clone()));
        self.time += started.elapsed();
        Ok(found)
    }

    /// Refuses a layer's output that overflowed when its attention maps are captured and its
    /// statistics, which would tell, are not asked for.
    pub(super) fn guard(&self, layer: usize, batch: &Batch, hidden: &B::Tensor) -> Result<()> {
        let captured = self.plan.attention.any() || self.plan.keys.is_some();
        if !captured || self.plan.sites.contains(&Site::LayerOutput) {
            return Ok(());
        }
        let request = StatisticsRequest {
            top_k: 0,
            ..self.plan.statistics
        };
        let pending = self.backend.statistics(hidden, &batch.rows, &request)?;
        let found = self.backend.read_statistics(pending)?;
        for (sequence, found) in batch.sequences.iter().zip(&found) {
            let place = (Site::LayerOutput, layer);
            check_finite(self.backend.precision(), place, *sequence, found)?;
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
        part: &B::Tensor,
    ) -> Result<()> {
        let columns = self.backend.columns(whole);
        let (whole, part) = (self.backend.download(whole)?, self.backend.download(part)?);
        for (index, rows) in batch.rows.iter().enumerate() {
            let values = rows.start * columns..rows.end * columns;
            let (whole, part) = (&whole[values.clone()], &part[values]);
            let sequence = batch.sequences[index];
            self.observer
                .attention_parts(layer, sequence, columns, whole, part)?;
        }
        Ok(())
    }

    /// Who acts on what is seen.
    pub(super) fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    /// Reads all statistics and refuses values that overflowed.
    #[allow(clippy::type_complexity)]
    pub(super) fn finish(mut self) -> Result<(BTreeMap<Site, Vec<Vec<Statistics>>>, Duration)> {
        let started = Instant::now();
        let precision = self.backend.precision();
        let mut by_site: BTreeMap<Site, Vec<Vec<Statistics>>> = BTreeMap::new();
        let mut first_failure = None;
        for ((site, layer), measured) in std::mem::take(&mut self.measured) {
            let mut sequences = Vec::new();
            for part in measured {
                sequences.extend(match part {
                    Measured::Pending(pending) => self.backend.read_statistics(pending)?,
                    Measured::Read(found) => found,
                });
            }
            for (index, statistics) in sequences.iter().enumerate() {
                let sequence = self.first + index;
                let checked = check_finite(precision, (site, layer), sequence, statistics);
                if let Err(error) = checked {
                    // In the order of the forward pass, so that the cause is named.
                    let place = (site == Site::FinalNorm, layer, site, sequence);
                    if first_failure
                        .as_ref()
                        .is_none_or(|(first, _)| place < *first)
                    {
                        first_failure = Some((place, error));
                    }
                }
            }
            // Layers that lack the site have no sequences.
            let layers = by_site.entry(site).or_default();
            layers.resize_with(layer, Vec::new);
            layers.push(sequences);
        }
        if let Some((_, error)) = first_failure {
            return Err(error);
        }
        self.time += started.elapsed();
        Ok((by_site, self.time))
    }
}

fn check_finite(
    precision: Precision,
    (site, layer): (Site, usize),
    sequence: usize,
    found: &Statistics,
) -> Result<()> {
    if found.non_finite == 0 {
        return Ok(());
    }
    Err(Error::new(
        format!("layer {layer}, {}", site.name()),
        format!(
            "{} values of sequence {sequence} are infinite or not a number in {precision}",
            found.non_finite
        ),
    )
    .remedy(precision.overflow_remedy()))
}
