//! What probes ask of a backend, and what they get.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::model::{spec::Alibi, weights::MatrixView};

/// What becomes of a single value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It becomes this, whatever it was.
    Set(f32),
    /// It is multiplied by this.
    Scale(f32),
}

/// Which magnitudes to report for a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatisticsRequest {
    /// Entries of largest magnitude to list.
    pub top_k: usize,
    /// An entry is massive if |x| is above this...
    pub abs_threshold: f32,
    /// ...and above this times the median of |x|.
    pub rel_threshold: f32,
}

/// One value of a tensor and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Entry {
    /// Token position in the sequence.
    pub position: usize,
    /// Index in the row.
    pub dimension: usize,
    /// Signed value.
    pub value: f32,
}

/// Magnitudes of one sequence's rows at one site.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// max |x|
    pub max: f32,
    /// Exact median of |x|: the lower of the two middle values when their count is even.
    pub median: f32,
    /// The `top_k` entries of largest magnitude, descending; ties by position, then dimension.
    pub top: Vec<Entry>,
    /// All massive entries, by position, then dimension.
    pub massive: Vec<Entry>,
    /// Mean of x, signed.
    pub mean: f64,
    /// Standard deviation of x about its mean: of these values, not of what they might be a sample
    /// of, so the squares' sum is divided by their number.
    pub std: f64,
    /// Values that are infinite or not a number.
    pub non_finite: usize,
}

/// Mean and standard deviation of `count` values with this sum and sum of squares. In float64, with
/// 11 digits to spare beyond float32's, the difference of squares loses nothing that matters unless
/// the mean is ten thousand times the deviation.
pub(super) fn moments(count: usize, [sum, squares]: [f64; 2]) -> [f64; 2] {
    let count = count.max(1) as f64;
    let mean = sum / count;
    [mean, (squares / count - mean * mean).max(0.0).sqrt()]
}

/// Shape and options of an attention call; `V` is the backend's vector.
#[derive(Debug)]
pub struct AttentionRequest<'a, V> {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Width of a query or key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Factor on q.k.
    pub scale: f32,
    /// Position `i` sees the keys `i - window < j <= i`.
    pub window: Option<usize>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
    /// Bias by key position, after the soft cap.
    pub alibi: Option<&'a Alibi>,
    /// `[heads]`: a logit that takes part in the softmax and has no value.
    pub sinks: Option<&'a V>,
    /// One more key and value per query head, in front of those of the tokens.
    pub kv_bias: Option<KvBias<'a, V>>,
    /// Maps to return.
    pub capture: AttentionCapture,
    /// For each sequence the positions of some keys, ascending and each once, whose part in the output
    /// is returned too.
    pub subset: Option<&'a [Vec<usize>]>,
}

impl<V> AttentionRequest<'_, V> {
    /// Columns of a map of `length` keys: with a [`KvBias`] its key is the first.
    pub fn map_columns(&self, length: usize) -> usize {
        length + usize::from(self.kv_bias.is_some())
    }

    /// The keys that position `query` sees.
    pub fn visible(&self, query: usize) -> std::ops::Range<usize> {
        let first = self
            .window
            .map_or(0, |window| (query + 1).saturating_sub(window));
        first..query + 1
    }

    /// How many of the queries `0..length` see the key.
    pub fn viewers(&self, key: usize, length: usize) -> usize {
        (length - key).min(self.window.unwrap_or(usize::MAX))
    }
}

/// Attention KV bias (Sun et al. 2024): a learned key and value that every position sees.
///
/// Its logit is `q.k * scale`, soft-capped like the others. It has no position: it is not rotated,
/// no mask or window hides it, and [`Alibi`] adds nothing to it. The vectors are of query heads;
/// those of a key/value head are repeated for the query heads that share it.
#[derive(Debug)]
pub struct KvBias<'a, V> {
    /// `[heads * head_dim]`
    pub k: &'a V,
    /// `[heads * value_dim]`
    pub v: &'a V,
}

/// What an attention call returns; `T` is the backend's tensor.
#[derive(Debug)]
pub struct AttentionOutput<T> {
    /// `[rows, heads * value_dim]`: `sum_j p_j v_j` over all keys.
    pub context: T,
    /// The maps of each sequence; empty unless some were asked for.
    pub maps: Vec<AttentionMaps>,
    /// `[rows, heads * value_dim]`: `sum_j p_j v_j` over the keys of the request's subset, with the
    /// probabilities of the softmax over all keys. The context minus this is what the others give,
    /// the key of a [`KvBias`] among them.
    pub subset: Option<T>,
}

/// Which part of each head to rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Width of a head.
    pub head_dim: usize,
    /// First rotated dimension.
    pub first: usize,
}

/// A language-model head as far as it is on the device; the weight is read in pieces.
#[derive(Debug)]
pub struct HeadRequest<'w, V> {
    /// `[vocab_size, width]`.
    pub weight: MatrixView<'w>,
    /// Added to the logits.
    pub bias: Option<V>,
    /// Factor on the logits.
    pub scale: f32,
    /// Logits become `cap * tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
}

/// Which attention maps to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttentionCapture {
    /// Logits and probabilities averaged over heads.
    pub mean: bool,
    /// Logits and probabilities of every head.
    pub heads: bool,
    /// What each key receives, and the largest logit, per head.
    pub sink: bool,
}

impl AttentionCapture {
    /// Whether any map is wanted.
    pub fn any(self) -> bool {
        self.mean || self.heads || self.sink
    }
}

/// Attention maps of one sequence of length T. Entries that the mask hides (later keys, keys
/// outside a window) are NaN. With a [`KvBias`] maps have T + 1 columns, of which its key is the
/// first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttentionMaps {
    /// `[T, T]` probabilities, mean over heads.
    pub probs_mean: Option<Vec<f32>>,
    /// `[T, T]` logits, mean over heads.
    pub logits_mean: Option<Vec<f32>>,
    /// `[heads, T, T]` probabilities.
    pub probs: Option<Vec<f32>>,
    /// `[heads, T, T]` logits.
    pub logits: Option<Vec<f32>>,
    /// `[heads, T]`: the probability each key receives, averaged over the queries that see it.
    pub sink_mass: Option<Vec<f32>>,
    /// `[heads]`: the largest logit, over all queries and the keys they see.
    pub max_logit: Option<Vec<f32>>,
}
