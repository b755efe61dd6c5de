//! Branches on the device: variants of sequences that walk beside their originals.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    batch::Batch,
    observer::{Branch, BranchOutcome},
    stream::Stream,
};
use crate::{backend::Backend, error::Result};

/// Branches of one variant that walk together, in a stream that is computed or waits.
pub(super) struct BranchStream<S> {
    pub(super) stream: S,
    branches: Vec<(Branch, BranchOutcome)>,
}

impl<S> BranchStream<S> {
    /// The same with another stream.
    pub(super) fn with<T>(self, change: impl FnOnce(S) -> Result<T>) -> Result<BranchStream<T>> {
        Ok(BranchStream {
            stream: change(self.stream)?,
            branches: self.branches,
        })
    }

    /// The stream's end: what goes to the head, and where the likelihoods go.
    pub(super) fn finish(self) -> (S, Vec<BranchOutcome>) {
        let outcomes = self.branches.into_iter().map(|(_, outcome)| outcome);
        (self.stream, outcomes.collect())
    }
}

impl<B: Backend> BranchStream<Stream<B>> {
    /// Splits `branches` (place in the micro-batch, branch) off an original.
    pub(super) fn split(
        backend: &B,
        original: &Stream<B>,
        branches: Vec<(usize, Branch)>,
    ) -> Result<Self> {
        let batch = &original.batch;
        let whole = branches.iter().map(|(place, _)| *place);
        let whole = whole.eq(0..batch.rows.len());
        let rows: Vec<usize> = branches
            .iter()
            .flat_map(|(place, _)| batch.rows[*place].clone())
            .collect();
        let hidden = if whole {
            backend.duplicate(&original.hidden)?
        } else {
            backend.gather_rows(&original.hidden, &rows)?
        };
        let carried = original.carried.of_rows(backend, &rows, whole)?;
        let mut first = 0;
        let mut own = Batch {
            number: batch.number,
            sequences: Vec::new(),
            rows: Vec::new(),
            observed: false,
            edits: Vec::new(),
            heads_off: Vec::new(),
        };
        let branches = branches
            .into_iter()
            .map(|(place, branch)| {
                let sequence = batch.sequences[place];
                let rows = batch.rows[place].len();
                own.sequences.push(sequence);
                own.rows.push(first..first + rows);
                let edits = branch.edits.iter();
                own.edits
                    .extend(edits.map(|edit| edit.clone().placed(first)));
                // Equal in all branches of a variant.
                own.heads_off.clone_from(&branch.heads_off);
                first += rows;
                let outcome = BranchOutcome {
                    sequence,
                    variant: branch.variant,
                    ..BranchOutcome::default()
                };
                (branch, outcome)
            })
            .collect();
        Ok(Self {
            stream: Stream {
                batch: own,
                hidden,
                carried,
            },
            branches,
        })
    }

    /// Writes what is to be written after `layer`.
    pub(super) fn overwrite(&mut self, backend: &B, layer: usize) -> Result<()> {
        let (mut places, mut changes) = (Vec::new(), BTreeMap::new());
        for (rows, (branch, _)) in self.stream.batch.rows.iter().zip(&self.branches) {
            for cell in branch.overwrites.get(&layer).into_iter().flatten() {
                let place = (rows.start + cell.position, cell.dimension);
                places.push(place);
                changes.insert(place, cell.change);
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let mut originals = backend.values_at(&self.stream.hidden, &places)?.into_iter();
        for (branch, outcome) in &mut self.branches {
            if let Some(overwrites) = branch.overwrites.get(&layer) {
                let own = originals.by_ref().take(overwrites.len()).collect();
                outcome.originals.insert(layer, own);
            }
        }
        let cells: Vec<_> = changes
            .into_iter()
            .map(|((row, dimension), change)| (row, dimension, change))
            .collect();
        backend.overwrite(&mut self.stream.hidden, &cells)
    }
}
