//! Places in the forward pass where a tensor can be observed.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::{
    error::{Error, Result},
    model::spec::{Attention, DecoderSpec, Layer, Mlp, Wiring},
};

/// A tensor of the forward pass. One of `[tokens, hidden_size]` unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// The residual stream before the first layer.
    Embedding,
    /// The residual stream as a layer receives it.
    LayerInput,
    /// What attention reads: the output of the norm before it, where there is one. In a block beside the
    /// stream that of the stream and the embedding, `[tokens, 2 * hidden_size]`.
    AttentionInput,
    /// Queries as the dot product sees them, after rotation: `[tokens, heads * head_dim]`.
    Q,
    /// Keys as the dot product sees them, after rotation: `[tokens, kv_heads * head_dim]`.
    K,
    /// Values: `[tokens, kv_heads * head_dim]`.
    V,
    /// What the heads' outputs are multiplied by, where attention has a gate, after the gate's
    /// activation function: `[tokens, heads * value_dim]`, or `[tokens, heads]`.
    AttentionGate,
    /// What attention adds to the residual stream, after the output projection. In a block beside the stream
    /// it adds nothing to it: this is what the norm before the MLP reads.
    AttentionOutput,
    /// What the token mixer adds to the residual stream, whatever it is: attention, another one, or
    /// the sum of both where they run side by side.
    MixerOutput,
    /// The residual stream that the MLP's part of the layer starts from: with what attention added,
    /// or, where both parts run side by side, the layer's input.
    ResidualMid,
    /// What the MLP reads: the output of the norm before it, where there is one.
    MlpInput,
    /// The router's logits, before any score or correction: `[tokens, experts]`.
    RouterLogits,
    /// The activation function's output in the MLP: `[tokens, intermediate_size]`.
    Gate,
    /// What the MLP's down projection reads: `[tokens, intermediate_size]`. Without a gate the
    /// activation function's output once more.
    MlpInner,
    /// What the down projections of the experts that a token visits read, those of the earlier experts
    /// first: `[tokens, top_k * intermediate_size]`.
    ExpertInner,
    /// What they give, before it is weighted and added up: `[tokens, top_k * width]`.
    ExpertOutput,
    /// What the MLP adds to the residual stream, after the down projection. In a block beside the stream it is
    /// what the mixer reads beside the stream, after the projection behind the MLP.
    MlpOutput,
    /// The residual stream after a layer: the hidden state in which massive activations are
    /// defined.
    LayerOutput,
    /// The sum of the residual streams after a layer that hands on several, where
    /// [`Site::LayerOutput`] is all of them: `[tokens, streams * hidden_size]`, as is what goes into a
    /// layer and what is between its parts.
    StreamSum,
    /// After the norm before the head.
    FinalNorm,
}

impl Site {
    /// All sites, in the order of the forward pass.
    pub const ALL: [Self; 20] = [
        Self::Embedding,
        Self::LayerInput,
        Self::AttentionInput,
        Self::Q,
        Self::K,
        Self::V,
        Self::AttentionGate,
        Self::AttentionOutput,
        Self::MixerOutput,
        Self::ResidualMid,
        Self::MlpInput,
        Self::RouterLogits,
        Self::Gate,
        Self::MlpInner,
        Self::ExpertInner,
        Self::ExpertOutput,
        Self::MlpOutput,
        Self::LayerOutput,
        Self::StreamSum,
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
            Self::AttentionGate => "attention_gate",
            Self::AttentionOutput => "attention_output",
            Self::MixerOutput => "mixer_output",
            Self::ResidualMid => "residual_mid",
            Self::MlpInput => "mlp_input",
            Self::RouterLogits => "router_logits",
            Self::Gate => "gate",
            Self::MlpInner => "mlp_inner",
            Self::ExpertInner => "expert_inner",
            Self::ExpertOutput => "expert_output",
            Self::MlpOutput => "mlp_output",
            Self::LayerOutput => "layer_output",
            Self::StreamSum => "stream_sum",
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
                    .meant(name, names)
            })
    }

    /// Whether any layer of the model has this site.
    pub fn exists_in(self, spec: &DecoderSpec) -> bool {
        spec.layers.iter().any(|layer| self.is_in(layer))
    }

    /// Whether a layer has this site; a site of no layer is in each.
    pub fn is_in(self, layer: &Layer) -> bool {
        self.lacking(layer).is_none()
    }

    /// Why a layer has no such site, as in "layers 0-2 have no attention"; none if it has it.
    pub(super) fn lacking(self, layer: &Layer) -> Option<&'static str> {
        let lacking = |lacks: bool, what| lacks.then_some(what);
        let attention = lacking(layer.attention.is_none(), "have no attention");
        let mlp = lacking(layer.mlp.is_none(), "have no MLP");
        match self {
            Self::AttentionInput | Self::Q | Self::K | Self::V | Self::AttentionOutput => attention,
            Self::AttentionGate => attention.or_else(|| {
                let gate = layer.attention.as_ref().map(|attention| &attention.gate);
                lacking(
                    gate.is_none_or(Option::is_none),
                    "have no gate on attention",
                )
            }),
            Self::MixerOutput => {
                let mixes = layer.attention.is_some() || layer.mixer.is_some();
                lacking(!mixes, "mix no tokens")
            }
            Self::ResidualMid if layer.side.is_some() => {
                Some("have an MLP that does not start from the residual stream")
            }
            Self::ResidualMid | Self::MlpInput | Self::MlpOutput => mlp,
            Self::RouterLogits | Self::ExpertInner | Self::ExpertOutput => {
                lacking(layer.experts().is_none(), "have no experts")
            }
            // Experts have no inner tensor that all tokens share.
            Self::Gate | Self::MlpInner => mlp.or(lacking(
                layer.experts().is_some(),
                "have experts, inside which tokens go different ways",
            )),
            Self::StreamSum => lacking(layer.connections.is_none(), "have one residual stream"),
            Self::Embedding | Self::LayerInput | Self::LayerOutput | Self::FinalNorm => None,
        }
    }

    /// The site and layer at which this tensor was shown before, where it is the same one.
    pub(super) fn shown_before(self, layers: &[Layer], layer: usize) -> Option<(Self, usize)> {
        let own = layers.get(layer)?;
        let mixes = own.attention.is_some() || own.mixer.is_some();
        let parallel = matches!(own.wiring, Wiring::Parallel | Wiring::ParallelSharedNorm);
        match self {
            Self::LayerInput => Some(match layer.checked_sub(1) {
                Some(before) => (Self::LayerOutput, before),
                None => (Self::Embedding, 0),
            }),
            Self::MixerOutput if own.attention.is_some() && own.mixer.is_none() => {
                Some((Self::AttentionOutput, layer))
            }
            Self::ResidualMid if parallel || !mixes => Some((Self::LayerInput, layer)),
            Self::MlpInner if matches!(own.mlp, Some(Mlp::Plain { .. } | Mlp::Xielu { .. })) => {
                Some((Self::Gate, layer))
            }
            _ => None,
        }
    }

    /// Columns of its tensor in a layer; 0 of a layer without it.
    pub fn width(self, spec: &DecoderSpec, layer: usize) -> usize {
        let own = &spec.layers[layer];
        let attention = |width: fn(&Attention) -> usize| own.attention.as_ref().map_or(0, width);
        match self {
            Self::AttentionInput if own.attention.is_some() => {
                let side = own.side.as_ref();
                side.map_or(spec.hidden_size, |side| side.norm.width)
            }
            Self::Q => attention(|attention| attention.heads * attention.head_dim),
            Self::K => attention(|attention| attention.kv_heads * attention.head_dim),
            Self::V => attention(|attention| attention.kv_heads * attention.value_dim),
            Self::AttentionGate => attention(|attention| {
                let gate = attention.gate.as_ref();
                gate.map_or(0, |gate| gate.out_features)
            }),
            Self::RouterLogits => own.experts().map_or(0, |experts| experts.count),
            Self::ExpertInner => own.experts().map_or(0, |experts| {
                experts.visits() * experts.expert.up.out_features
            }),
            Self::ExpertOutput => own.experts().map_or(0, |experts| {
                experts.visits() * experts.expert.down.out_features
            }),
            Self::Gate | Self::MlpInner => match &own.mlp {
                Some(Mlp::Gated(mlp)) => mlp.up.out_features,
                Some(Mlp::Plain { up, .. } | Mlp::Xielu { up, .. }) => up.out_features,
                // They have no such site.
                Some(Mlp::Experts(_) | Mlp::SideBySide(_)) | None => 0,
            },
            Self::LayerInput | Self::ResidualMid | Self::LayerOutput => spec.state_width(),
            _ => spec.hidden_size,
        }
    }

    /// Whether its columns are the dimensions of the residual stream in every layer that has it.
    pub fn is_of_stream(self, spec: &DecoderSpec) -> bool {
        let in_block = matches!(
            self,
            Self::AttentionInput | Self::AttentionOutput | Self::MlpInput
        );
        if in_block && spec.layers.iter().any(|layer| layer.side.is_some()) {
            return false;
        }
        !matches!(
            self,
            Self::Q
                | Self::K
                | Self::V
                | Self::AttentionGate
                | Self::RouterLogits
                | Self::Gate
                | Self::MlpInner
                | Self::ExpertInner
                | Self::ExpertOutput
        )
    }

    /// Whether it is a site of layers; the others count as layer 0.
    pub fn per_layer(self) -> bool {
        !matches!(self, Self::Embedding | Self::FinalNorm)
    }
}
