//! What became of every stored tensor, so that none can vanish without a word.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What became of a checkpoint's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsRecord {
    /// How many the forward pass reads.
    pub used: usize,
    /// How many it rightly does without, by what they are.
    pub unneeded: BTreeMap<String, usize>,
    /// Names of those that nothing accounts for.
    pub unused: Vec<String>,
    /// What the tensors alone show to be there, whatever the config says.
    pub recognised: Vec<String>,
}
