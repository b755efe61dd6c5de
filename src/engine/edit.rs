//! Changes of values at any site, and heads that are switched off, in variants of sequences.
#![forbid(unsafe_code)]

use super::site::Site;
use crate::backend::Change;

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
