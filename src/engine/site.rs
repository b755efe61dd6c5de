//! Places in the forward pass where a tensor can be observed.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::{
    error::{Error, Result},
    model::spec::{DecoderSpec, Layer},
};

/// A tensor of the forward pass. One of `[tokens, hidden_size]` unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The residual stream before the first layer.
    Embedding,
    /// The residual stream as a layer receives it.
    LayerInput,
    /// What attention reads: the output of the norm before it, where there is one.
    AttentionInput,
    /// Queries as the dot product sees them, after rotation: `[tokens, heads * head_dim]`.
    Q,
    /// Keys as the dot product sees them, after rotation: `[tokens, kv_heads * head_dim]`.
    K,
    /// Values: `[tokens, kv_heads * head_dim]`.
    V,
    /// What attention adds to the residual stream, after the output projection.
    AttentionOutput,
    /// What the token mixer adds to the residual stream, whatever it is: attention, another one, or
    /// the sum of both where they run side by side.
    MixerOutput,
    /// The residual stream that the MLP's part of the layer starts from: with what attention added,
    /// or, where both parts run side by side, the layer's input.
    ResidualMid,
    /// What the MLP reads: the output of the norm before it, where there is one.
    MlpInput,
    /// The activation function's output in the MLP: `[tokens, intermediate_size]`.
    Gate,
    /// What the MLP's down projection reads: `[tokens, intermediate_size]`. Without a gate the
    /// activation function's output once more.
    MlpInner,
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
    pub const ALL: [Self; 15] = [
        Self::Embedding,
        Self::LayerInput,
        Self::AttentionInput,
        Self::Q,
        Self::K,
        Self::V,
        Self::AttentionOutput,
        Self::MixerOutput,
        Self::ResidualMid,
        Self::MlpInput,
        Self::Gate,
        Self::MlpInner,
        Self::MlpOutput,
        Self::LayerOutput,
        Self::FinalNorm,
    ];

    /// Name on the command line, in JSON and in tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::LayerInput => "layer_input",
            Self::AttentionInput => "attention_input",
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::AttentionOutput => "attention_output",
            Self::MixerOutput => "mixer_output",
            Self::ResidualMid => "residual_mid",
            Self::MlpInput => "mlp_input",
            Self::Gate => "gate",
            Self::MlpInner => "mlp_inner",
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

    /// Whether the model has this site. Experts have no inner tensor that all tokens share.
    pub fn exists_in(self, spec: &DecoderSpec) -> bool {
        let experts = |layer: &Layer| layer.experts().is_some();
        let inner = matches!(self, Self::Gate | Self::MlpInner);
        !(inner && spec.layers.iter().any(experts))
            && spec.layers.iter().any(|layer| self.is_in(layer))
    }

    /// Whether a layer has this site, or where it is of no layer, whether there is one at all.
    pub fn is_in(self, layer: &Layer) -> bool {
        match self {
            Self::AttentionInput | Self::Q | Self::K | Self::V | Self::AttentionOutput => {
                layer.attention.is_some()
            }
            Self::MixerOutput => layer.attention.is_some() || layer.mixer.is_some(),
            Self::ResidualMid | Self::MlpInput | Self::MlpOutput => layer.mlp.is_some(),
            Self::Gate | Self::MlpInner => layer.mlp.is_some() && layer.experts().is_none(),
            Self::Embedding | Self::LayerInput | Self::LayerOutput | Self::FinalNorm => true,
        }
    }

    /// Whether it is a site of layers; the others count as layer 0.
    pub fn per_layer(self) -> bool {
        !matches!(self, Self::Embedding | Self::FinalNorm)
    }
}
