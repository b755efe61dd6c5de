//! What is told of single values of the residual stream on their way through a layer.
#![forbid(unsafe_code)]

use serde::Serialize;

/// A step of the residual stream through a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The stream as the layer receives it.
    Input,
    /// What attention adds.
    Attention,
    /// What another token mixer adds.
    Mixer,
    /// What the MLP adds.
    Mlp,
    /// What the layer's own embedding of the token adds.
    PerLayerEmbedding,
    /// What norms on the stream itself make of it.
    Norm,
    /// What the low-rank part beside attention (LAuReL) makes of it, with its factor.
    Laurel,
    /// What prediction from, and correction with, the other streams (AltUp) make of it.
    Altup,
    /// What the factor on the layer's output makes of it.
    Scale,
    /// The stream as it leaves the layer.
    Output,
}

impl Step {
    /// What changes the stream, in the order in which a layer is read.
    pub const CHANGES: [Self; 8] = [
        Self::Attention,
        Self::Mixer,
        Self::Mlp,
        Self::PerLayerEmbedding,
        Self::Norm,
        Self::Laurel,
        Self::Altup,
        Self::Scale,
    ];

    /// Name in JSON and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Attention => "attention",
            Self::Mixer => "mixer",
            Self::Mlp => "mlp",
            Self::PerLayerEmbedding => "per_layer_embedding",
            Self::Norm => "norm",
            Self::Laurel => "laurel",
            Self::Altup => "altup",
            Self::Scale => "scale",
            Self::Output => "output",
        }
    }
}

/// What of a layer's MLP has a down projection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "source", content = "expert")]
pub enum Source {
    /// The MLP that every token visits.
    Dense,
    /// The MLP beside the experts.
    Shared,
    /// An expert, by its number.
    Expert(usize),
}
