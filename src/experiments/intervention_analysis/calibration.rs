//! The corpus sequences: their massive activations, and the values that means are taken over.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::Walks;
use crate::{
    backend::Statistics,
    engine::{Actions, Observer, Plan, Session, Site, Timings},
    error::Result,
    experiments::{Thresholds, tokens_analysis::Detections},
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

/// What the corpus shows.
#[derive(Debug, Default)]
pub(super) struct Corpus {
    /// The massive activations of each sequence.
    pub(super) detections: Vec<Detections>,
    /// The first massive layer of each sequence that has one.
    pub(super) first: Vec<Option<FirstMassive>>,
    pub(super) timings: Timings,
}

/// Walks the corpus through the layers.
pub(super) fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    thresholds: Thresholds,
    walks: &mut Walks,
) -> Result<Corpus> {
    let plan = Plan::magnitudes(Site::LayerOutput, thresholds.request(0));
    let mut reader = Reader {
        first: vec![None; sequences.len()],
    };
    let outcome = session.run(sequences, &plan, &mut reader)?;
    walks.corpus += outcome.walks;
    Ok(Corpus {
        detections: Detections::collect(&outcome.statistics[&Site::LayerOutput]),
        first: reader.first,
        timings: outcome.timings,
    })
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
        sequences.iter().any(|sequence| !self.knows(*sequence))
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
