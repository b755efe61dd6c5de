//! Changes of values at any site, and heads that are switched off, in variants of sequences.
#![forbid(unsafe_code)]

use super::{batch::Batch, pass::Pass, site::Site};
use crate::{
    backend::{Backend, Change},
    error::Result,
};

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// It is set or scaled.
    Change(Change),
    /// Its magnitude becomes at most this.
    Clip(f32),
    /// It becomes the value that this position has in the same column, before any edit.
    Take(usize),
}

/// Values of a site's tensor, and what becomes of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The site.
    pub site: Site,
    /// Its layer; 0 of a site that is of no layer.
    pub layer: usize,
    /// (position, column, rule), each value once.
    pub cells: Vec<(usize, usize, Rule)>,
}

impl Edit {
    /// The same in a micro-batch in which the sequence has its rows from `first` on.
    pub(super) fn placed(mut self, first: usize) -> Self {
        for (row, _, rule) in &mut self.cells {
            *row += first;
            if let Rule::Take(source) = rule {
                *source += first;
            }
        }
        self
    }
}

impl Batch {
    /// Whether something is changed there.
    fn edits(&self, site: Site, layer: usize) -> bool {
        let mut edits = self.edits.iter();
        edits.any(|edit| (edit.site, edit.layer) == (site, layer))
    }

    /// Makes the changes at a site.
    pub(super) fn edit<B: Backend>(
        &self,
        backend: &B,
        (site, layer): (Site, usize),
        tensor: &mut B::Tensor,
    ) -> Result<()> {
        let own = self.edits.iter();
        let own = own.filter(|edit| (edit.site, edit.layer) == (site, layer));
        let cells: Vec<_> = own.flat_map(|edit| edit.cells.iter().copied()).collect();
        if cells.is_empty() {
            return Ok(());
        }
        let read = cells.iter().filter_map(|&(row, column, rule)| match rule {
            Rule::Change(_) => None,
            Rule::Clip(_) => Some((row, column)),
            Rule::Take(source) => Some((source, column)),
        });
        let read: Vec<(usize, usize)> = read.collect();
        let mut values = backend.values_at(tensor, &read)?.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let changes: Vec<(usize, usize, Change)> = cells
            .into_iter()
            .map(|(row, column, rule)| {
                let change = match rule {
                    Rule::Change(change) => change,
                    Rule::Clip(most) => Change::Set(next().clamp(-most, most)),
                    Rule::Take(_) => Change::Set(next()),
                };
                (row, column, change)
            })
            .collect();
        backend.overwrite(tensor, &changes)
    }
}

impl<B: Backend> Pass<'_, '_, B> {
    /// Whether something is changed at a site of this layer.
    pub(super) fn edits(&self, site: Site) -> bool {
        self.batch.edits(site, self.index)
    }

    /// Makes the changes at a site of this layer.
    pub(super) fn edit(&self, site: Site, tensor: &mut B::Tensor) -> Result<()> {
        let place = (site, self.index);
        self.batch.edit(self.forward.backend, place, tensor)
    }

    /// A changed copy of what others read, too; none where nothing is changed.
    pub(super) fn edited(&self, site: Site, tensor: &B::Tensor) -> Result<Option<B::Tensor>> {
        if !self.edits(site) {
            return Ok(None);
        }
        let mut copy = self.forward.backend.duplicate(tensor)?;
        self.edit(site, &mut copy)?;
        Ok(Some(copy))
    }

    /// Switches the heads of this layer off that are to be: `context` is what they make, side by side.
    pub(super) fn switch_off(&self, heads: usize, context: &mut B::Tensor) -> Result<()> {
        let off = self.batch.heads_off.iter();
        let off: Vec<usize> = off
            .filter(|(layer, _)| *layer == self.index)
            .map(|(_, head)| *head)
            .collect();
        if off.is_empty() {
            return Ok(());
        }
        let backend = self.forward.backend;
        let columns = backend.columns(context);
        let width = (columns / heads.max(1)).max(1);
        let kept = (0..columns).map(|column| {
            let off = off.contains(&(column / width));
            if off { 0.0 } else { 1.0 }
        });
        backend.multiply_columns(context, &backend.vector(kept.collect())?)
    }
}
