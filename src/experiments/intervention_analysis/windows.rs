//! What is reported of the evaluation windows.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::{evaluation::Window, interventions::Intervention};

/// An evaluation set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetReport {
    /// Its name.
    pub name: String,
    /// Its windows.
    pub windows: usize,
    /// Windows with massive activations in some layer.
    pub windows_massive: usize,
    /// Windows with a massive activation at position 0 of their first massive layer.
    pub windows_starting: usize,
    /// Windows with massive activations at later positions of that layer.
    pub windows_nonstarting: usize,
    /// Windows by their own first massive layer.
    pub windows_by_first_layer: BTreeMap<usize, usize>,
}

/// One evaluation window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowReport {
    /// Its own first massive layer; null if it has none.
    pub first_layer: Option<usize>,
    /// The token positions at which it is overwritten.
    pub positions: Vec<usize>,
    /// The interventions that overwrite a massive activation in it.
    pub treated_by: Vec<String>,
    /// By intervention: mean NLL of its predictions, in nats. One that changes nothing in it leaves
    /// the original's.
    pub nll: BTreeMap<String, f64>,
}

impl WindowReport {
    pub(super) fn of(window: &Window, interventions: &[Intervention]) -> Self {
        let named = || {
            interventions
                .iter()
                .enumerate()
                .map(|(index, intervention)| (index, intervention.name.clone()))
        };
        Self {
            first_layer: window.first.as_ref().map(|first| first.layer),
            positions: window.positions.clone(),
            treated_by: named()
                .filter(|(index, _)| window.treated(*index))
                .map(|(_, name)| name)
                .collect(),
            nll: std::iter::once(("original".to_owned(), window.original))
                .chain(named().map(|(index, name)| (name, window.nll(index))))
                .collect(),
        }
    }
}

impl SetReport {
    pub(super) fn of(name: &str, windows: &[Window]) -> Self {
        let first = || windows.iter().filter_map(|window| window.first.as_ref());
        let mut by_first_layer = BTreeMap::new();
        for first in first() {
            *by_first_layer.entry(first.layer).or_default() += 1;
        }
        let having = |wanted: fn(&usize) -> bool| {
            first()
                .filter(|first| first.positions.iter().any(wanted))
                .count()
        };
        Self {
            name: name.to_owned(),
            windows: windows.len(),
            windows_massive: first().count(),
            windows_starting: having(|position| *position == 0),
            windows_nonstarting: having(|position| *position != 0),
            windows_by_first_layer: by_first_layer,
        }
    }
}
