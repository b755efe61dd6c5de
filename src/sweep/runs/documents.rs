//! The fields of runs' documents that tables show. Fields that are not named are not read.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// run.json
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// The checkpoint.
    pub model: ModelName,
    /// The types of the arithmetic.
    pub compute_dtype: String,
    /// Settings and texts.
    pub settings: serde_json::Map<String, Value>,
}

/// The checkpoint in run.json.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ModelName {
    /// Id or path as given.
    pub name: String,
    /// The adapter on its weights.
    pub adapter: Option<Value>,
}

impl Record {
    /// A setting; none where it is missing or of another type.
    pub(super) fn setting<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_value(self.settings.get(name)?.clone()).ok()
    }
}

/// existence_validation.json
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Existence {
    /// The verdict.
    pub has_massive_activations: bool,
    /// By layer.
    pub layers: Vec<Layer>,
}

/// A layer of existence-validation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Layer {
    /// 0-based.
    pub layer: usize,
    /// Mean over sequences of max |h|.
    pub top1_mean: f64,
    /// Mean over sequences of the median of |h|.
    pub median_mean: f64,
    /// The first over the second; none when that is 0.
    pub ratio: Option<f64>,
    /// Whether it is massive.
    pub massive: bool,
    /// The largest places, descending.
    pub top: Vec<Place>,
}

/// Where a large value is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Place {
    /// Token position.
    pub position: usize,
    /// Index in the hidden state.
    pub dimension: usize,
    /// The token's text.
    pub token: String,
}

/// tokens_analysis.json
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tokens {
    /// The first massive layer of any sequence.
    pub first_layer: Option<usize>,
    /// Massive in any layer of any sequence.
    pub dimensions: Vec<usize>,
    /// The dimensions as the published program finds them in this order of the sequences.
    pub dimensions_reference: Vec<usize>,
}

/// massive_dimensions.json
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MassiveDimensions {
    /// By layer, then dimension.
    pub massive_dimensions: Vec<Dimension>,
}

/// A dimension that is massive in a layer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Dimension {
    /// 0-based.
    pub layer: usize,
    /// Index in the hidden state.
    pub dimension: usize,
    /// `positive`, `negative` or `mixed`.
    pub sign: String,
    /// Mean of |h| over the massive values.
    pub mean: f64,
    /// Largest |h|.
    pub max: f64,
    /// Massive values.
    pub count: usize,
    /// Share of the sequences that have one.
    pub sequence_share: f64,
    /// Consecutive layers from this one in which the dimension is massive.
    pub persists: usize,
    /// Token positions, ascending.
    pub positions: Vec<usize>,
    /// The tokens there.
    pub tokens: Vec<String>,
}

/// intervention_analysis.json
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Interventions {
    /// In order; `original` comes first.
    pub interventions: Vec<String>,
    /// The evaluation sets, in order.
    pub evaluation: Vec<Set>,
    /// By intervention and set; none beyond double precision.
    pub perplexity: BTreeMap<String, BTreeMap<String, Option<f64>>>,
    /// By intervention and set.
    pub ratios: BTreeMap<String, BTreeMap<String, Ratio>>,
    /// Downstream accuracy, where it was asked for.
    #[serde(default)]
    pub tasks: Vec<TaskAccuracy>,
}

impl Interventions {
    /// Of an intervention on a set; none where it was not measured, or is beyond double precision.
    pub fn perplexity_of(&self, intervention: &str, set: &Set) -> Option<f64> {
        self.perplexity
            .get(intervention)?
            .get(&set.name)
            .copied()
            .flatten()
    }

    /// Over the original's, of an intervention on a set; none of the original.
    pub fn ratio_of(&self, intervention: &str, set: &Set) -> Option<&Ratio> {
        self.ratios.get(intervention)?.get(&set.name)
    }
}

/// A task of an intervention-analysis.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TaskAccuracy {
    /// Its name.
    pub name: String,
    /// Whose prompts.
    pub convention: String,
    /// Its items.
    pub items: usize,
    /// By intervention.
    pub accuracy: BTreeMap<String, Accuracy>,
}

/// How well a task is done.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Accuracy {
    /// By log-likelihood.
    pub acc: f64,
    /// Its standard error; none of a single item.
    pub acc_stderr: Option<f64>,
    /// By log-likelihood a character; none where the convention has none.
    pub acc_norm: Option<f64>,
    /// Its standard error.
    pub acc_norm_stderr: Option<f64>,
}

/// An evaluation set.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Set {
    /// Its name.
    pub name: String,
}

/// Perplexity over the original's.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Ratio {
    /// None beyond double precision.
    pub ratio: Option<f64>,
    /// Lower end of the 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// `none`, `medium` or `high`.
    pub class: String,
}
