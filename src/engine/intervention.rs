//! Interventions: reading and overwriting the layers' outputs while the model runs.
//!
//! An experiment sees each sequence's statistics right behind a layer and answers with data: values
//! to read, and branches. A branch is the same sequence with some values of layer outputs
//! overwritten. It shares everything below its first overwritten layer with the original: its
//! residual stream is split off there and walks through the later layers beside the original, so
//! that the weights are read once for all of them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::schedule::Batch;
use crate::{
    backend::{Backend, Change, Statistics},
    error::Result,
};

/// A value of a layer's output and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overwrite {
    /// Token position in the sequence.
    pub position: usize,
    /// Index in the hidden state.
    pub dimension: usize,
    /// What becomes of it.
    pub change: Change,
}

/// A sequence that leaves the original behind a layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Branch {
    /// Which intervention; branches of equal number walk in one micro-batch.
    pub variant: usize,
    /// What is written at the outputs of which layers, from the layer of the split on; of values
    /// listed twice the last counts. Layers below are past: what is listed for them is not written.
    pub overwrites: BTreeMap<usize, Vec<Overwrite>>,
}

/// What is to happen to a sequence behind a layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Actions {
    /// (position, dimension) of values to read.
    pub read: Vec<(usize, usize)>,
    /// Variants that are split off here.
    pub branches: Vec<Branch>,
}

/// An experiment that looks at layer outputs, and changes them, while the model runs.
pub trait Interventions {
    /// Whether [`Interventions::actions`] is to be asked behind this layer. Asking brings the layer's
    /// statistics to the host at once.
    fn acts_at(&self, layer: usize) -> bool;

    /// What to do with this sequence, whose output of `layer` has these statistics.
    fn actions(&mut self, layer: usize, sequence: usize, found: &Statistics) -> Result<Actions>;

    /// Takes the values that [`Actions::read`] asked for, in that order.
    fn values(&mut self, layer: usize, sequence: usize, values: &[f32]);

    /// The layer behind which the original sequences are done, if that is not the last: then they
    /// have no likelihoods, and only branches go on.
    fn last_original_layer(&self) -> Option<usize> {
        None
    }
}

/// What became of a branch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BranchOutcome {
    /// The sequence that it is a variant of.
    pub sequence: usize,
    /// Its number.
    pub variant: usize,
    /// What its [`Branch::overwrites`] replaced, by layer and in their order.
    pub originals: BTreeMap<usize, Vec<f32>>,
    /// The NLL of tokens 1.., in nats; empty unless planned. Not checked for overflow: an
    /// intervention may write anything.
    pub token_nll: Vec<f32>,
}

/// Branches of one variant that walk together.
pub(super) struct BranchStream<B: Backend> {
    pub(super) batch: Batch,
    pub(super) hidden: B::Tensor,
    branches: Vec<(Branch, BranchOutcome)>,
}

impl<B: Backend> BranchStream<B> {
    /// Splits `branches` (place in `batch`, branch) off the batch's residual stream `hidden`.
    pub(super) fn split(
        backend: &B,
        batch: &Batch,
        hidden: &B::Tensor,
        branches: Vec<(usize, Branch)>,
    ) -> Result<Self> {
        let whole = branches.iter().map(|(place, _)| *place);
        let hidden = if whole.eq(0..batch.rows.len()) {
            backend.duplicate(hidden)?
        } else {
            let rows = branches
                .iter()
                .flat_map(|(place, _)| batch.rows[*place].clone());
            backend.gather_rows(hidden, &rows.collect::<Vec<_>>())?
        };
        let mut first = 0;
        let mut own = Batch {
            sequences: Vec::new(),
            rows: Vec::new(),
            observed: false,
        };
        let branches = branches
            .into_iter()
            .map(|(place, branch)| {
                let sequence = batch.sequences[place];
                let rows = batch.rows[place].len();
                own.sequences.push(sequence);
                own.rows.push(first..first + rows);
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
            batch: own,
            hidden,
            branches,
        })
    }

    /// Writes what is to be written behind `layer`.
    pub(super) fn overwrite(&mut self, backend: &B, layer: usize) -> Result<()> {
        let (mut places, mut changes) = (Vec::new(), BTreeMap::new());
        for (rows, (branch, _)) in self.batch.rows.iter().zip(&self.branches) {
            for cell in branch.overwrites.get(&layer).into_iter().flatten() {
                let place = (rows.start + cell.position, cell.dimension);
                places.push(place);
                changes.insert(place, cell.change);
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let mut originals = backend.values_at(&self.hidden, &places)?.into_iter();
        for (branch, outcome) in &mut self.branches {
            if let Some(overwrites) = branch.overwrites.get(&layer) {
                let own = originals.by_ref().take(overwrites.len()).collect();
                outcome.originals.insert(layer, own);
            }
        }
        let cells = changes.into_iter();
        let cells = cells.map(|((row, dimension), change)| (row, dimension, change));
        backend.overwrite(&mut self.hidden, &cells.collect::<Vec<_>>())
    }

    /// The stream's end: its tensor for the head, and where the likelihoods go.
    pub(super) fn finish(self) -> (Batch, B::Tensor, Vec<BranchOutcome>) {
        let outcomes = self.branches.into_iter().map(|(_, outcome)| outcome);
        (self.batch, self.hidden, outcomes.collect())
    }
}
