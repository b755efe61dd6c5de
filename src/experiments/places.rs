//! Values of layer outputs, wherever they are.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

/// A value of some layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// 0-based index.
    pub layer: usize,
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in the sequence.
    pub position: usize,
    /// Index in the hidden state.
    pub dimension: usize,
}

/// Signed values.
pub type Values = BTreeMap<Place, f32>;
