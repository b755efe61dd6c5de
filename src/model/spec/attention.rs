//! Self-attention as data.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Activation, Alibi, Compressed, Indexer, KeyChoice, Linear, Norm, QueryGrowth, Vector};

/// Causal multi-head self-attention; query head `h` reads KV head `h / (heads / kv_heads)`.
///
/// Queries and keys pass norm, clipping and rotation in this order, if not told otherwise.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads (GQA when fewer than `heads`).
    pub kv_heads: usize,
    /// Width of a query or key head.
    pub head_dim: usize,
    /// Width of a value head.
    pub value_dim: usize,
    /// Factor on q.k.
    pub scale: f32,
    /// From the input to queries, keys and values.
    pub projections: Projections,
    /// Norms of queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Whether these norms come behind the rotation.
    pub rotates_first: bool,
    /// Norm of the values.
    pub value_norm: Option<Norm>,
    /// Queries, keys and values are clamped to this magnitude.
    pub clip: Option<f32>,
    /// Index into [`super::DecoderSpec::ropes`]; none for no rotation.
    pub rope: Option<usize>,
    /// First rotated dimension of a query head.
    pub rope_first: usize,
    /// Position `i` sees the keys `i - window < j <= i`.
    pub window: Option<usize>,
    /// Position `i` sees the keys of its own chunk: those with `j / chunk == i / chunk`.
    pub chunk: Option<usize>,
    /// Which of the keys that mask, window and chunk leave a query sees; none for all.
    pub choice: Option<KeyChoice>,
    /// Compressed tokens that a query sees beside those that window and chunk leave.
    pub compressed: Option<Box<Compressed>>,
    /// A factor on queries by their position, after their rotation.
    pub query_growth: Option<QueryGrowth>,
    /// Logits become `cap * tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
    /// Bias by key position.
    pub alibi: Option<Alibi>,
    /// `[heads]`: a logit that takes part in the softmax and has no value.
    pub sinks: Option<Vector>,
    /// One more key and value that every position sees.
    pub kv_bias: Option<KvBias>,
    /// Factor on the values.
    pub value_scale: f32,
    /// The heads' outputs are multiplied by what becomes of this projection, as wide as they are or with
    /// a value a head.
    pub gate: Option<Linear>,
    /// Of the gate.
    pub gate_activation: Activation,
    /// Whether the heads' outputs are rotated back by the query's position: where values are rotated.
    pub rotates_back: bool,
    /// From the heads' outputs to what the output projection reads.
    pub grouped: Option<Grouped>,
    /// Output projection to `hidden_size`.
    pub o: Linear,
}

impl Attention {
    /// Attention with scale `1 / sqrt(head_dim)` and nothing else.
    pub fn new(
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        projections: impl Into<Projections>,
        o: Linear,
    ) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            value_dim: head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            projections: projections.into(),
            qk_norm: None,
            rotates_first: false,
            value_norm: None,
            clip: None,
            rope: None,
            rope_first: 0,
            window: None,
            chunk: None,
            choice: None,
            compressed: None,
            query_growth: None,
            soft_cap: None,
            alibi: None,
            sinks: None,
            kv_bias: None,
            value_scale: 1.0,
            gate: None,
            gate_activation: Activation::Sigmoid,
            rotates_back: false,
            grouped: None,
            o,
        }
    }

    /// With a gate in the rows of the query projection: `size` rows of queries, as many of the gate, in turn.
    pub fn gate_beside_queries(&mut self, size: usize) {
        if let Projections::Direct { q, .. } = &mut self.projections {
            let part = |first| q.clone().grouped(first, size, 2 * size, 2 * q.out_features);
            self.gate = Some(part(size));
            *q = part(0);
        }
    }

    /// The earlier layer whose keys and values it reads, if they are not its own.
    pub fn shares(&self) -> Option<usize> {
        match self.projections {
            Projections::Shared { from, .. } => Some(from),
            _ => None,
        }
    }

    /// Every projection.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut linears = match &self.projections {
            Projections::Direct { q, k, v } => vec![q, k, v],
            Projections::Latent(latent) => {
                let mut linears = latent.q.linears();
                linears.extend([&latent.compress, &latent.k_rope, &latent.k, &latent.v]);
                linears
            }
            Projections::Shared { q, .. } => vec![q],
            Projections::KeysAsValues { q, k } => {
                let mut linears = q.linears();
                linears.push(k);
                linears
            }
        };
        linears.extend(self.compressed.iter().flat_map(|own| own.linears()));
        linears.extend(self.grouped.iter().map(|grouped| &grouped.linear));
        linears.extend(self.indexer().into_iter().flat_map(Indexer::linears));
        linears.extend(&self.gate);
        linears.push(&self.o);
        linears
    }

    /// The norms of the projections.
    pub(super) fn norms(&self) -> Vec<&Norm> {
        let mut norms = Vec::new();
        match &self.projections {
            Projections::Latent(latent) => {
                norms.push(&latent.norm);
                norms.extend(latent.q.norm());
            }
            Projections::KeysAsValues { q, .. } => norms.extend(q.norm()),
            Projections::Direct { .. } | Projections::Shared { .. } => {}
        }
        if let Some(norm) = &self.qk_norm {
            norms.extend([&norm.q, &norm.k]);
        }
        if let Projections::Shared { norm, .. } = &self.projections {
            norms.extend(norm);
        }
        norms.extend(&self.value_norm);
        norms.extend(self.indexer().map(|indexer| &indexer.k_norm));
        norms.extend(self.compressed.iter().flat_map(|own| own.norms()));
        norms
    }

    /// The norms of the projections, to be changed.
    pub(super) fn norms_mut(&mut self) -> Vec<&mut Norm> {
        let mut norms = Vec::new();
        match &mut self.projections {
            Projections::Direct { .. } => {}
            Projections::Latent(latent) => {
                norms.push(&mut latent.norm);
                norms.extend(latent.q.norm_mut());
            }
            Projections::Shared { norm, .. } => norms.extend(norm),
            Projections::KeysAsValues { q, .. } => norms.extend(q.norm_mut()),
        }
        if let Some(norm) = &mut self.qk_norm {
            norms.extend([&mut norm.q, &mut norm.k]);
        }
        norms.extend(&mut self.value_norm);
        if let Some(KeyChoice::Own(indexer)) = &mut self.choice {
            norms.push(&mut indexer.k_norm);
        }
        norms.extend(self.compressed.iter_mut().flat_map(|own| own.norms_mut()));
        norms
    }

    /// What it has learned beside projections and norms.
    pub(super) fn vectors(&self) -> Vec<&Vector> {
        let mut vectors: Vec<&Vector> = self.sinks.iter().collect();
        vectors.extend(self.compressed.iter().flat_map(|own| own.vectors()));
        vectors
    }

    /// The indexer of this layer, if it has one.
    pub fn indexer(&self) -> Option<&Indexer> {
        self.choice.as_ref().and_then(KeyChoice::indexer)
    }

    /// The module that holds its tensors: the parent of the output projection.
    pub fn module(&self) -> &str {
        let projection = self.o.weight.trim_end_matches(".weight");
        projection.rsplit_once('.').map_or("", |(module, _)| module)
    }
}

/// The keys that a causal mask, a window and a chunk leave to a query.
pub fn visible(query: usize, window: Option<usize>, chunk: Option<usize>) -> Range<usize> {
    let first = window.map_or(0, |window| (query + 1).saturating_sub(window));
    let chunk = chunk.map_or(0, |chunk| query / chunk * chunk);
    first.max(chunk)..query + 1
}

/// Names of the tensors of attention KV bias: a learned key and value in front of those of the
/// tokens (Sun et al. 2024). A vector of each key/value head, or of each query head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvBias {
    /// Extra keys, of width `head_dim`.
    pub k: String,
    /// Extra values, of width `value_dim`.
    pub v: String,
}

/// From the layer's input to queries, keys and values.
#[derive(Debug, Clone)]
pub enum Projections {
    /// A projection each.
    Direct {
        /// To `heads * head_dim`.
        q: Linear,
        /// To `kv_heads * head_dim`.
        k: Linear,
        /// To `kv_heads * value_dim`; where it equals `k`, it is applied once.
        v: Linear,
    },
    /// Of queries alone: keys and values are those of an earlier layer, as its attention reads them.
    Shared {
        /// To `heads * head_dim`.
        q: Linear,
        /// Norm of the queries.
        norm: Option<Norm>,
        /// The layer whose keys and values they are.
        from: usize,
    },
    /// Multi-head latent attention.
    Latent(Box<Latent>),
    /// Of queries, and one of what is rotated, read as keys and as values.
    KeysAsValues {
        /// To `heads * head_dim`.
        q: LowRank,
        /// To `kv_heads * head_dim`.
        k: Linear,
    },
}

impl From<[Linear; 3]> for Projections {
    fn from([q, k, v]: [Linear; 3]) -> Self {
        Self::Direct { q, k, v }
    }
}

impl From<Latent> for Projections {
    fn from(latent: Latent) -> Self {
        Self::Latent(Box::new(latent))
    }
}

/// Multi-head latent attention (DeepSeek-V2, 2024): keys and values come from a narrow latent,
/// and all heads share the rotated part of the key.
#[derive(Debug, Clone)]
pub struct Latent {
    /// Queries; a head's rotated part comes last.
    pub q: LowRank,
    /// From the input to the latent.
    pub compress: Linear,
    /// Norm of the latent.
    pub norm: Norm,
    /// From the latent to the keys' part without rotation.
    pub k: Linear,
    /// From the latent to the values.
    pub v: Linear,
    /// From the input to the rotated part of the key, one for all heads.
    pub k_rope: Linear,
}

/// A projection of groups of heads, each by its own rows of a matrix.
#[derive(Debug, Clone)]
pub struct Grouped {
    /// From the outputs of a group's heads to the results of all groups, one after the other.
    pub linear: Linear,
    /// Groups of neighbouring heads.
    pub groups: usize,
}

impl Grouped {
    /// The projection of a group.
    #[must_use]
    pub fn of(&self, group: usize) -> Linear {
        let outputs = self.linear.out_features;
        let own = outputs / self.groups;
        let mut linear = self.linear.clone().part_of(group * own, outputs);
        linear.out_features = own;
        linear
    }
}

/// A projection, perhaps through a narrow middle.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one a layer")]
pub enum LowRank {
    /// One matrix.
    Full(Linear),
    /// `up(norm(down(x)))`.
    Factored {
        /// To the narrow middle.
        down: Linear,
        /// Norm of the middle.
        norm: Norm,
        /// From the middle.
        up: Linear,
    },
}

impl LowRank {
    fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Full(linear) => vec![linear],
            Self::Factored { down, up, .. } => vec![down, up],
        }
    }

    fn norm(&self) -> Option<&Norm> {
        match self {
            Self::Full(_) => None,
            Self::Factored { norm, .. } => Some(norm),
        }
    }

    fn norm_mut(&mut self) -> Option<&mut Norm> {
        match self {
            Self::Full(_) => None,
            Self::Factored { norm, .. } => Some(norm),
        }
    }

    /// Width of the result.
    pub fn out_features(&self) -> usize {
        match self {
            Self::Full(linear) | Self::Factored { up: linear, .. } => linear.out_features,
        }
    }
}

/// Norms of queries and keys: over a head or over the whole projection, as their widths say.
#[derive(Debug, Clone)]
pub struct QkNorm {
    /// Of the queries.
    pub q: Norm,
    /// Of the keys.
    pub k: Norm,
}
