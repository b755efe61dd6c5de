//! Attention, with the maps that can be captured from it.
#![forbid(unsafe_code)]

use super::{KeyMask, Rows, Tensors};
use crate::{
    error::Result,
    model::spec::{self, Alibi},
};

/// Shape and options of an attention call; `V` is the backend's vector, `M` its mask of chosen keys.
#[derive(Debug)]
pub struct AttentionRequest<'a, V, M = KeyMask> {
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
    /// Position `i` sees the keys of its own chunk: those with `j / chunk == i / chunk`.
    pub chunk: Option<usize>,
    /// Of the keys that mask, window and chunk leave, a position sees those chosen for it.
    pub chosen: Option<&'a M>,
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
    /// For each sequence the positions of some keys, ascending and each once: what they give to the output
    /// is returned too, and what the others give.
    pub subset: Option<&'a [Vec<usize>]>,
}

impl<V, M> AttentionRequest<'_, V, M> {
    /// Causal softmax attention without any option, of values as wide as keys, and nothing beside its output.
    pub fn plain(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: None,
            chunk: None,
            chosen: None,
            soft_cap: None,
            alibi: None,
            sinks: None,
            kv_bias: None,
            capture: AttentionCapture::default(),
            subset: None,
        }
    }

    /// Columns of a map of `length` keys: with a [`KvBias`] its key is the first.
    pub fn map_columns(&self, length: usize) -> usize {
        length + usize::from(self.kv_bias.is_some())
    }

    /// The keys that mask, window and chunk leave to position `query`.
    pub fn visible(&self, query: usize) -> std::ops::Range<usize> {
        spec::visible(query, self.window, self.chunk)
    }

    /// How many of the queries `0..length` see the key, as far as mask, window and chunk go.
    pub fn viewers(&self, key: usize, length: usize) -> usize {
        let chunk = self
            .chunk
            .map_or(length, |chunk| key / chunk * chunk + chunk);
        (length.min(chunk) - key).min(self.window.unwrap_or(usize::MAX))
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
    /// The same in two parts, if the request names a subset.
    pub parts: Option<OutputParts<T>>,
}

impl<T> AttentionOutput<T> {
    /// The context, and its parts where there are any.
    pub fn outputs(&mut self) -> impl Iterator<Item = &mut T> {
        let parts = self.parts.iter_mut();
        let parts = parts.flat_map(|parts| [&mut parts.subset, &mut parts.rest]);
        std::iter::once(&mut self.context).chain(parts)
    }
}

/// `sum_j p_j v_j` over the keys of a subset and over the others, `[rows, heads * value_dim]` each, with the
/// probabilities of the softmax over all keys. Both are sums of their own: a difference from the whole would
/// have no digits where one part is nearly all of it.
#[derive(Debug)]
pub struct OutputParts<T> {
    /// Of the keys of the subset.
    pub subset: T,
    /// Of the others, the key of a [`KvBias`] among them.
    pub rest: T,
}

impl<T> OutputParts<T> {
    /// Each part changed alike.
    pub fn map<U, E>(self, mut change: impl FnMut(T) -> Result<U, E>) -> Result<OutputParts<U>, E> {
        Ok(OutputParts {
            subset: change(self.subset)?,
            rest: change(self.rest)?,
        })
    }
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
/// outside a window or chunk, keys that were not chosen) are NaN. With a [`KvBias`] maps have T + 1 columns, of which its key is the
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
    /// `[heads, T]`: the probability each key receives, averaged over the queries that see it; 0 where
    /// none does.
    pub sink_mass: Option<Vec<f32>>,
    /// `[T]`: how many queries see each key, beside the sink mass; the key of a [`KvBias`] is not among
    /// them.
    pub viewers: Option<Vec<u32>>,
    /// `[heads]`: the largest logit, over all queries and the keys they see.
    pub max_logit: Option<Vec<f32>>,
}

/// Causal attention.
pub trait Attention: Tensors {
    /// Causal attention within each sequence, with the maps and the parts that `request`
    /// asks for.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Self::Vector, Self::KeyMask>,
    ) -> Result<AttentionOutput<Self::Tensor>>;
}
