//! `DecoderSpec`: what a decoder computes, as data.
//!
//! A family file maps a Hugging Face `config.json` to this description; the forward pass reads the
//! description and knows no family. Tensor names are complete (prefix included).
#![forbid(unsafe_code)]

mod alibi;
mod altup;
mod attention;
mod compressed;
mod layer;
mod linear;
mod mixer;
mod mlp;
mod norm;
mod per_layer;
mod query_growth;
mod side_block;
mod sparse;
mod streams;
mod vector;

pub use alibi::Alibi;
pub use altup::{AltUp, LEAST_MEAN_SQUARE, Laurel, OtherStreams};
pub use attention::{Attention, Grouped, KvBias, Latent, LowRank, Projections, QkNorm, visible};
pub use compressed::{Compressed, Compressor, EntryChoice};
pub use layer::{Layer, Norms, TransformerLayer, Wiring};
pub use linear::{Linear, RowGroups, WeightLayout};
pub use mixer::{
    Convolution, GatedDelta, Mixer, Narrowed, ScanHead, SelectiveScan, ShortConvolution, StateSpace,
};
pub use mlp::{
    Activation, ExpertGroups, Experts, GatedMlp, Mlp, Routing, Score, Shared, SideBySide,
    TokenTable, Xielu,
};
pub use norm::{Learned, Norm, NormKind};
pub use per_layer::{PerLayerEmbedding, PerLayerInput};
pub use query_growth::QueryGrowth;
pub use side_block::SideBlock;
pub use sparse::{Indexer, KeyChoice};
pub use streams::{HyperConnections, MOST_STREAMS, StreamWeights, Streams};
pub use vector::Vector;

use std::ops::Range;

use super::rope::Rope;

/// A decoder-only transformer.
#[derive(Debug, Clone)]
pub struct DecoderSpec {
    /// `model_type` of the config.
    pub model_type: String,
    /// Rows of the embedding table; token ids are below it.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence the positions allow, where there is a limit.
    pub max_positions: Option<usize>,
    /// From token ids to the residual stream.
    pub embedding: Embedding,
    /// Rotary embeddings that layers refer to by index.
    pub ropes: Vec<Rope>,
    /// The decoder layers, first to last.
    pub layers: Vec<Layer>,
    /// Norm before the head.
    pub final_norm: Option<Norm>,
    /// From the residual stream to logits.
    pub head: Head,
}

impl DecoderSpec {
    /// The longest sequence, if there is a bound, and what bounds it.
    pub fn longest(&self) -> Option<(usize, String)> {
        let positions = self.max_positions;
        positions.map(|count| (count, format!("the model has {count} positions")))
    }

    /// Residual streams that layers hand on.
    pub fn streams(&self) -> usize {
        let streams = self.embedding.streams.as_ref();
        streams.map_or(1, |streams| streams.count)
    }

    /// Width of the hidden state between two layers: that of all residual streams that they hand on.
    pub fn state_width(&self) -> usize {
        self.streams() * self.hidden_size
    }

    /// Whether any layer reads the embedding again.
    pub fn reads_embedding_again(&self) -> bool {
        self.layers.iter().any(|layer| layer.side.is_some())
    }

    /// Whether a later layer reads the keys and values of layer `index` again.
    pub fn shares_keys_of(&self, index: usize) -> bool {
        let later = self.layers.iter().skip(index + 1);
        let mut attention = later.flat_map(|layer| &layer.attention);
        attention.any(|attention| attention.shares() == Some(index))
    }

    /// Names of the tensors that layer `index` reads.
    pub fn layer_tensors(&self, index: usize) -> Vec<String> {
        self.layers[index].tensors()
    }

    /// Names of all tensors that it reads; some may come twice.
    pub fn tensors(&self) -> Vec<String> {
        let (embedding, head) = (&self.embedding, &self.head);
        let mut names = vec![embedding.tokens.clone()];
        names.extend(embedding.learned_scale.clone());
        names.extend(
            embedding
                .positions
                .iter()
                .map(|learned| learned.table.clone()),
        );
        let projections = embedding.projection.iter().chain(&head.projection);
        names.extend(projections.chain([&head.linear]).flat_map(Linear::tensors));
        if let Some(others) = &embedding.others {
            let linears = others.begin.iter().chain(&others.end);
            names.extend(linears.flat_map(Linear::tensors));
        }
        if let Some(per_layer) = &embedding.per_layer {
            names.push(per_layer.table.clone());
            names.extend(per_layer.projection.tensors());
            names.extend(per_layer.norm.tensors().map(str::to_owned));
        }
        if let Some(streams) = &embedding.streams {
            let vectors = streams.collapse.vectors().into_iter();
            names.extend(vectors.map(|vector| vector.tensor.clone()));
            names.extend(streams.collapse.weights.tensors());
        }
        let norms = embedding.norm.iter().chain(&self.final_norm);
        names.extend(norms.flat_map(Norm::tensors).map(str::to_owned));
        names.extend((0..self.layers.len()).flat_map(|index| self.layer_tensors(index)));
        names
    }
}

/// From token ids to the residual stream: `norm(project(table[token] * scale) + position)`, where
/// the scale may be partly learned.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Table `[vocab_size, width]`.
    pub tokens: String,
    /// Width of the table; another than the residual stream's needs a projection.
    pub width: usize,
    /// Factor on the table's rows.
    pub scale: f32,
    /// One-element tensor: another factor on the table's rows.
    pub learned_scale: Option<String>,
    /// From `width` to the residual stream.
    pub projection: Option<Linear>,
    /// Learned absolute positions.
    pub positions: Option<LearnedPositions>,
    /// Norm of the sum.
    pub norm: Option<Norm>,
    /// What the layers have of a token besides.
    pub per_layer: Option<PerLayerEmbedding>,
    /// Other residual streams.
    pub others: Option<OtherStreams>,
    /// Residual streams that hyper-connections mix.
    pub streams: Option<Streams>,
    /// Token ids in whose place other parts of a multimodal model put their own vectors.
    pub placeholders: Vec<Range<usize>>,
}

impl Embedding {
    /// A table as wide as the residual stream, used as it is.
    pub fn new(tokens: String, width: usize) -> Self {
        Self {
            tokens,
            width,
            scale: 1.0,
            learned_scale: None,
            projection: None,
            positions: None,
            norm: None,
            per_layer: None,
            others: None,
            streams: None,
            placeholders: Vec::new(),
        }
    }
}

/// A table of learned positions, `[max_positions + offset, hidden_size]`.
#[derive(Debug, Clone)]
pub struct LearnedPositions {
    /// The tensor.
    pub table: String,
    /// Row of position 0.
    pub offset: usize,
}

/// Language-model head: `cap(scale * (project(x) W^T + b))`.
#[derive(Debug, Clone)]
pub struct Head {
    /// Before the table, where the embedding has another width.
    pub projection: Option<Linear>,
    /// `[vocab_size, width]`; the embedding table when tied.
    pub linear: Linear,
    /// Factor on the logits.
    pub scale: f32,
    /// Logits become `cap * tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
}

impl Head {
    /// A plain head.
    pub fn new(weight: String, width: usize, vocab_size: usize) -> Self {
        Self {
            projection: None,
            linear: Linear::new(weight, width, vocab_size),
            scale: 1.0,
            soft_cap: None,
        }
    }
}
