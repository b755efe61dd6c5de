//! The corpus: one walk over its sequences, which existence-validation and tokens-analysis summarise and
//! intervention-analysis begins with.
//!
//! What is found of a sequence does not depend on the others, so that a walk over many sequences
//! serves an experiment that wants the first few of them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Thresholds,
    places::{Place, Values},
    summary::TOP_K,
};
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
    /// The same of the sum of a layer's streams, where layers hand on several.
    sums: Vec<Vec<Statistics>>,
    /// By sequence: its first massive layer with the values there; empty if they were not asked for.
    first: Vec<Option<FirstMassive>>,
    /// The values that were asked for by their places.
    pub watched: Values,
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
        Self::watching(session, sequences, thresholds, values, [])
    }

    /// The same, and the values in these places, whatever they are.
    pub fn watching(
        session: &Session,
        sequences: &[Vec<u32>],
        thresholds: Thresholds,
        values: bool,
        places: impl IntoIterator<Item = Place>,
    ) -> Result<Self> {
        let mut plan = Plan::magnitudes(Site::LayerOutput, thresholds.request(TOP_K));
        if session.model().spec.streams() > 1 {
            plan.sites.push(Site::StreamSum);
        }
        let mut reader = Reader {
            first: vec![None; if values { sequences.len() } else { 0 }],
            places: BTreeMap::new(),
            watched: Values::new(),
        };
        for place in places {
            let there = (place.layer, place.sequence);
            reader.places.entry(there).or_default().push(place);
        }
        let mut outcome = session.run(sequences, &plan, &mut reader)?;
        let statistics = outcome.statistics.remove(&Site::LayerOutput);
        let sums = outcome.statistics.remove(&Site::StreamSum);
        Ok(Self {
            statistics: statistics.unwrap_or_default(),
            sums: sums.unwrap_or_default(),
            first: reader.first,
            watched: reader.watched,
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

    /// The same of the sum of a layer's streams; none where it hands on one.
    pub(super) fn sums(&self, layer: usize, count: usize) -> Option<&[Statistics]> {
        let found = self.sums.get(layer)?;
        Some(&found[..count.min(found.len())])
    }

    /// The first massive layers of the first `count` sequences.
    pub(super) fn first(&self, count: usize) -> &[Option<FirstMassive>] {
        &self.first[..count.min(self.first.len())]
    }
}

/// Reads the values of each sequence's first massive layer as the walk passes it, and those of other
/// places.
struct Reader {
    first: Vec<Option<FirstMassive>>,
    /// Other places to read, by layer and sequence.
    places: BTreeMap<(usize, usize), Vec<Place>>,
    watched: Values,
}

impl Reader {
    /// Whether a sequence's values are there: a walk that starts again may have found the layer and
    /// not yet read it.
    fn knows(&self, sequence: usize) -> bool {
        let first = self.first[sequence].as_ref();
        first.is_some_and(|first| !first.values.is_empty())
    }

    fn wants_first(&self, sequence: usize) -> bool {
        !self.first.is_empty() && !self.knows(sequence)
    }
}

impl Observer for Reader {
    fn acts_at(&self, layer: usize, sequences: &[usize]) -> bool {
        let mut sequences = sequences.iter();
        sequences.any(|sequence| {
            self.wants_first(*sequence) || self.places.contains_key(&(layer, *sequence))
        })
    }

    fn actions(&mut self, layer: usize, sequence: usize, found: &Statistics) -> Result<Actions> {
        let places = self.places.get(&(layer, sequence)).into_iter().flatten();
        let mut read: Vec<(usize, usize)> = places
            .map(|place| (place.position, place.dimension))
            .collect();
        if self.wants_first(sequence) {
            self.first[sequence] = FirstMassive::of(layer, found);
            let first = self.first[sequence].as_ref();
            read.extend(first.map(FirstMassive::cells).unwrap_or_default());
        }
        Ok(Actions {
            read,
            branches: Vec::new(),
        })
    }

    fn values(&mut self, layer: usize, sequence: usize, values: &[f32]) {
        let places = self.places.get(&(layer, sequence));
        let places = places.map_or(&[][..], Vec::as_slice);
        let (watched, of_first) = values.split_at(places.len().min(values.len()));
        let places = places.iter().copied();
        self.watched.extend(places.zip(watched.iter().copied()));
        let first = self.first.get_mut(sequence).and_then(Option::as_mut);
        if let Some(first) = first.filter(|_| !of_first.is_empty()) {
            first.values = of_first.to_vec();
        }
    }
}
