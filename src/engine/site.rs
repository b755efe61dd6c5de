//! Places in the forward pass where a tensor can be observed.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::error::{Error, Result};

/// A tensor of the forward pass. One of `[tokens, hidden_size]` unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The residual stream before the first layer.
    Embedding,
    /// The residual stream as a layer receives it.
    LayerInput,
    /// Queries as the dot product sees them, after rotation: `[tokens, heads * head_dim]`.
    Q,
    /// Keys as the dot product sees them, after rotation: `[tokens, kv_heads * head_dim]`.
    K,
    /// Values: `[tokens, kv_heads * head_dim]`.
    V,
    /// What attention adds to the residual stream, after the output projection.
    AttentionOutput,
    /// The activation function's output in the MLP: `[tokens, intermediate_size]`.
    Gate,
    /// What the MLP adds to the residual stream, after the down projection.
    MlpOutput,
    /// The residual stream after a layer: the hidden state in which massive activations are
    /// defined.
    LayerOutput,
    /// After the norm before the head.
    FinalNorm,
}

impl Site {
    /// All sites, in the order of the forward pass.
    pub const ALL: [Self; 10] = [
        Self::Embedding,
        Self::LayerInput,
        Self::Q,
        Self::K,
        Self::V,
        Self::AttentionOutput,
        Self::Gate,
        Self::MlpOutput,
        Self::LayerOutput,
        Self::FinalNorm,
    ];

    /// Name on the command line, in JSON and in tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::LayerInput => "layer_input",
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::AttentionOutput => "attention_output",
            Self::Gate => "gate",
            Self::MlpOutput => "mlp_output",
            Self::LayerOutput => "layer_output",
            Self::FinalNorm => "final_norm",
        }
    }

    /// The site called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|site| site.name() == name)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|site| site.name()).collect();
                Error::usage(format!("site `{name}`"), "there is no such site")
                    .remedy(format!("choose from {}", names.join(", ")))
            })
    }

    /// Whether every layer has this site; the others count as layer 0.
    pub fn per_layer(self) -> bool {
        !matches!(self, Self::Embedding | Self::FinalNorm)
    }
}
