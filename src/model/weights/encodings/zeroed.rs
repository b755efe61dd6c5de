//! A matrix of which single values are zero, however it is stored: weights that an experiment takes away.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::adapted::Base;
use crate::model::weights::shard::Stored;

/// A matrix without some of its weights.
#[derive(Debug)]
pub struct Zeroed {
    base: Base,
    by_input: bool,
    /// Positions by line.
    zeros: BTreeMap<usize, Vec<usize>>,
}

impl Zeroed {
    /// `by_input`: the base's lines are its inputs'. The (line, position) must be there.
    pub(in crate::model::weights) fn new(
        base: Base,
        by_input: bool,
        places: &[(usize, usize)],
    ) -> Self {
        let mut zeros: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (line, position) in places {
            zeros.entry(*line).or_default().push(*position);
        }
        Self {
            base,
            by_input,
            zeros,
        }
    }

    pub(super) fn name(&self) -> String {
        let count: usize = self.zeros.values().map(Vec::len).sum();
        format!("{}, {count} weights zero", self.base.name())
    }

    pub(super) fn parts(&self) -> Vec<&Stored> {
        self.base.parts()
    }

    pub(super) fn by_input(&self) -> bool {
        self.by_input
    }

    pub(super) fn padding(&self) -> usize {
        self.base.padding()
    }

    pub(super) fn decode(&self, line: usize, first: usize, out: &mut [f32]) {
        self.base.decode(line, first, out);
        for position in self.zeros.get(&line).into_iter().flatten() {
            let place = position.checked_sub(first);
            if let Some(value) = place.and_then(|place| out.get_mut(place)) {
                *value = 0.0;
            }
        }
    }
}
