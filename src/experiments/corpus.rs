//! The corpus: one walk over its sequences, which existence-validation and tokens-analysis summarise and
//! intervention-analysis begins with.
//!
//! What is found of a sequence does not depend on the others, so that a walk over many sequences
//! serves an experiment that wants the first few of them.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{Thresholds, summary::TOP_K};
use crate::{
    backend::Statistics,
    engine::{Actions, Observer, Plan, Session, Site, Timings},
    error::Result,
};

/// A sequence's first massive layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FirstMassive {
    /// The layer.
    pub(super) layer: usize,
    /// Its massive token positions, ascending.
    pub(super) positions: Vec<usize>,
    /// Its massive dimensions, ascending.
    pub(super) dimensions: Vec<usize>,
    /// Signed values of the layer's output: a row a position, a column a dimension.
    pub(super) values: Vec<f32>,
}

impl FirstMassive {
    /// What is massive in the layer; none if nothing is.
    pub(super) fn of(layer: usize, found: &Statistics) -> Option<Self> {
        let positions: BTreeSet<usize> = found.massive.iter().map(|e| e.position).collect();
        let dimensions: BTreeSet<usize> = found.massive.iter().map(|e| e.dimension).collect();
        (!positions.is_empty()).then(|| Self {
            layer,
            positions: positions.into_iter().collect(),
            dimensions: dimensions.into_iter().collect(),
            values: Vec::new(),
        })
    }

    fn cells(&self) -> Vec<(usize, usize)> {
        let positions = self.positions.iter();
        positions
            .flat_map(|position| self.dimensions.iter().map(|d| (*position, *d)))
            .collect()
    }
}

/// What the layers' outputs of the corpus show.
#[derive(Debug)]
pub struct CorpusWalk {
    /// By layer and sequence.
    statistics: Vec<Vec<Statistics>>,
    /// By sequence: its first massive layer with the values there; empty if they were not asked for.
    first: Vec<Option<FirstMassive>>,
    /// Walks through the model.
    pub walks: usize,
    /// Where the time went.
    pub timings: Timings,
}

impl CorpusWalk {
    /// Walks the sequences through the layers. `values`: reads those of each sequence's first massive
    /// layer, which interventions need.
    pub fn run(
        session: &Session,
        sequences: &[Vec<u32>],
        thresholds: Thresholds,
        values: bool,
    ) -> Result<Self> {
        let plan = Plan::magnitudes(Site::LayerOutput, thresholds.request(TOP_K));
        let mut reader = Reader {
            first: vec![None; if values { sequences.len() } else { 0 }],
        };
        let mut outcome = session.run(sequences, &plan, &mut reader)?;
        let statistics = outcome.statistics.remove(&Site::LayerOutput);
        Ok(Self {
            statistics: statistics.unwrap_or_default(),
            first: reader.first,
            walks: outcome.walks,
            timings: outcome.timings,
        })
    }

    /// The statistics of the first `count` sequences, layer by layer.
    pub(super) fn layers(&self, count: usize) -> Vec<&[Statistics]> {
        let layers = self.statistics.iter();
        layers
            .map(|found| &found[..count.min(found.len())])
            .collect()
    }

    /// The first massive layers of the first `count` sequences.
    pub(super) fn first(&self, count: usize) -> &[Option<FirstMassive>] {
        &self.first[..count.min(self.first.len())]
    }
}

/// Reads the values of each sequence's first massive layer as the walk passes it.
struct Reader {
    first: Vec<Option<FirstMassive>>,
}

impl Reader {
    /// Whether a sequence's values are there: a walk that starts again may have found the layer and
    /// not yet read it.
    fn knows(&self, sequence: usize) -> bool {
        let first = self.first[sequence].as_ref();
        first.is_some_and(|first| !first.values.is_empty())
    }
}

impl Observer for Reader {
    fn acts_at(&self, _: usize, sequences: &[usize]) -> bool {
        !self.first.is_empty() && sequences.iter().any(|sequence| !self.knows(*sequence))
    }

    fn actions(&mut self, layer: usize, sequence: usize, found: &Statistics) -> Result<Actions> {
        if self.knows(sequence) {
            return Ok(Actions::default());
        }
        self.first[sequence] = FirstMassive::of(layer, found);
        let first = self.first[sequence].as_ref();
        Ok(Actions {
            read: first.map(FirstMassive::cells).unwrap_or_default(),
            branches: Vec::new(),
        })
    }

    fn values(&mut self, _: usize, sequence: usize, values: &[f32]) {
        if let Some(first) = &mut self.first[sequence] {
            first.values = values.to_vec();
        }
    }
}
