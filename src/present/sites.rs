//! What figures call the tensors of the forward pass.

use crate::engine::Site;

/// A site's tensors, as in "median queries".
pub(super) fn tensors(site: Site) -> &'static str {
    match site {
        Site::Embedding => "embeddings",
        Site::LayerInput => "layer inputs",
        Site::AttentionInput => "attention inputs",
        Site::Q => "queries",
        Site::K => "keys",
        Site::V => "values",
        Site::AttentionGate => "attention gates",
        Site::AttentionOutput => "attention outputs",
        Site::MixerOutput => "token mixer outputs",
        Site::ResidualMid => "states before the MLP",
        Site::MlpInput => "MLP inputs",
        Site::RouterLogits => "router logits",
        Site::Gate => "activation function outputs",
        Site::MlpInner => "down projection inputs",
        Site::ExpertInner => "experts' down projection inputs",
        Site::ExpertOutput => "experts' outputs",
        Site::MlpOutput => "MLP outputs",
        Site::LayerOutput => "hidden states",
        Site::StreamSum => "sums of streams",
        Site::FinalNorm => "final norm outputs",
    }
}
