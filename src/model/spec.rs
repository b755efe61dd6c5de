//! `DecoderSpec`: what a decoder computes, as data.
//!
//! A family file maps a Hugging Face `config.json` to this description; the forward pass reads the
//! description and knows no family. Tensor names are complete (prefix included).
#![forbid(unsafe_code)]

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
    /// Names of the tensors that layer `index` reads.
    pub fn layer_tensors(&self, index: usize) -> Vec<&str> {
        let layer = &self.layers[index];
        let attention = &layer.attention;
        let mut names = Vec::new();
        for linear in [&attention.q, &attention.k, &attention.v, &attention.o] {
            names.extend(linear.tensors());
        }
        match &layer.mlp {
            Mlp::Gated { gate, up, down, .. } => {
                for linear in [gate, up, down] {
                    names.extend(linear.tensors());
                }
            }
            Mlp::Plain { up, down, .. } => {
                for linear in [up, down] {
                    names.extend(linear.tensors());
                }
            }
        }
        for norm in [&layer.attention_norm, &layer.mlp_norm] {
            names.extend(norm.tensors());
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The longest of the widths that a layer's intermediate tensors have.
    pub fn widest_intermediate(&self) -> usize {
        self.layers
            .iter()
            .map(|layer| match &layer.mlp {
                Mlp::Gated { up, .. } | Mlp::Plain { up, .. } => up.out_features,
            })
            .max()
            .unwrap_or(self.hidden_size)
    }
}

/// Token (and learned position) embeddings.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// Table `[vocab_size, hidden_size]`.
    pub tokens: String,
    /// Learned absolute positions, table `[max_positions, hidden_size]`.
    pub positions: Option<String>,
}

/// One decoder layer: `h = x + attention(norm(x)); out = h + mlp(norm(h))`.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Norm before attention.
    pub attention_norm: Norm,
    /// Self-attention.
    pub attention: Attention,
    /// Norm before the MLP.
    pub mlp_norm: Norm,
    /// Feed-forward part.
    pub mlp: Mlp,
}

/// Causal multi-head self-attention; query head `h` reads KV head `h / (heads / kv_heads)`.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads (GQA when fewer than `heads`).
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on q.k.
    pub scale: f32,
    /// Index into [`DecoderSpec::ropes`]; none for no rotation.
    pub rope: Option<usize>,
    /// Query projection to `heads * head_dim`.
    pub q: Linear,
    /// Key projection to `kv_heads * head_dim`.
    pub k: Linear,
    /// Value projection to `kv_heads * head_dim`.
    pub v: Linear,
    /// Output projection to `hidden_size`.
    pub o: Linear,
}

/// Feed-forward part of a layer.
#[derive(Debug, Clone)]
pub enum Mlp {
    /// `down(activation(gate(x)) * up(x))`.
    Gated {
        /// Gate projection.
        gate: Linear,
        /// Up projection.
        up: Linear,
        /// Down projection.
        down: Linear,
        /// Nonlinearity on the gate.
        activation: Activation,
    },
    /// `down(activation(up(x)))`.
    Plain {
        /// Up projection.
        up: Linear,
        /// Down projection.
        down: Linear,
        /// Nonlinearity.
        activation: Activation,
    },
}

/// Elementwise nonlinearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)` (SiLU, swish).
    Silu,
    /// GELU with the error function.
    GeluErf,
    /// GELU, tanh form.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

/// `y = x W^T + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// Tensor that holds the weight (perhaps among others' rows).
    pub weight: String,
    /// Tensor that holds the bias, sliced like the weight.
    pub bias: Option<String>,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// How the stored tensor is laid out.
    pub layout: WeightLayout,
    /// First output of this projection inside a fused tensor.
    pub first_output: usize,
    /// Outputs of the whole stored tensor.
    pub stored_outputs: usize,
}

impl Linear {
    /// A projection with a tensor of its own, stored as PyTorch's `nn.Linear` does.
    pub fn new(weight: String, in_features: usize, out_features: usize) -> Self {
        Self {
            weight,
            bias: None,
            in_features,
            out_features,
            layout: WeightLayout::OutIn,
            first_output: 0,
            stored_outputs: out_features,
        }
    }

    /// With a bias tensor.
    #[must_use]
    pub fn with_bias(mut self, bias: Option<String>) -> Self {
        self.bias = bias;
        self
    }

    /// With another layout of the stored weight.
    #[must_use]
    pub fn with_layout(mut self, layout: WeightLayout) -> Self {
        self.layout = layout;
        self
    }

    /// The outputs `first..first + out_features` of a tensor with `stored_outputs` of them.
    #[must_use]
    pub fn part_of(mut self, first: usize, stored_outputs: usize) -> Self {
        self.first_output = first;
        self.stored_outputs = stored_outputs;
        self
    }

    fn tensors(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.weight.as_str()).chain(self.bias.as_deref())
    }
}

/// Order of the axes of a stored weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    /// `[out, in]`: PyTorch's `nn.Linear`.
    OutIn,
    /// `[in, out]`: the `Conv1D` of GPT-2.
    InOut,
}

/// A normalisation over the hidden dimension.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Which one.
    pub kind: NormKind,
    /// Learned factor; none is 1.
    pub weight: Option<String>,
    /// Learned offset.
    pub bias: Option<String>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm {
    fn tensors(&self) -> impl Iterator<Item = &str> {
        self.weight
            .as_deref()
            .into_iter()
            .chain(self.bias.as_deref())
    }
}

/// Kind of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * w` (Zhang & Sennrich 2019).
    Rms,
    /// `(x - mean) / sqrt(var + eps) * w + b` (Ba et al. 2016), biased variance.
    Layer,
}

/// Language-model head.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[vocab_size, hidden_size]`; the embedding table when tied.
    pub weight: String,
}
