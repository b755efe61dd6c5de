//! The massive activations of single sequences, layer by layer.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::Serialize;

use crate::backend::{Entry, Statistics};

/// One sequence: its layers with massive activations, ascending; layers without are not listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Detections {
    /// The layers.
    pub layers: Vec<LayerDetections>,
}

/// One layer of one sequence, with at least one massive activation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LayerDetections {
    /// 0-based index.
    pub layer: usize,
    /// The massive activations, ascending by position, then dimension.
    pub massive: Vec<Entry>,
}

impl Detections {
    /// One a sequence, from the statistics of a site, `[layer][sequence]`.
    pub fn collect(statistics: &[&[Statistics]]) -> Vec<Self> {
        let sequences = statistics.first().map_or(0, |found| found.len());
        (0..sequences)
            .map(|sequence| Self {
                layers: statistics
                    .iter()
                    .enumerate()
                    .map(|(layer, found)| LayerDetections {
                        layer,
                        massive: found[sequence].massive.clone(),
                    })
                    .filter(|found| !found.massive.is_empty())
                    .collect(),
            })
            .collect()
    }

    /// The sequence's first massive layer.
    pub fn first(&self) -> Option<&LayerDetections> {
        self.layers.first()
    }

    /// Token positions with a massive activation in any layer.
    pub fn positions(&self) -> BTreeSet<usize> {
        self.layers
            .iter()
            .flat_map(LayerDetections::positions)
            .collect()
    }
}

impl LayerDetections {
    /// Token positions with a massive activation.
    pub fn positions(&self) -> BTreeSet<usize> {
        self.massive.iter().map(|entry| entry.position).collect()
    }

    /// Whether the value at this place is massive.
    pub fn holds(&self, position: usize, dimension: usize) -> bool {
        let place = |entry: &Entry| (entry.position, entry.dimension);
        self.massive
            .binary_search_by_key(&(position, dimension), place)
            .is_ok()
    }

    /// Dimensions with a massive activation.
    pub fn dimensions(&self) -> BTreeSet<usize> {
        self.massive.iter().map(|entry| entry.dimension).collect()
    }
}
