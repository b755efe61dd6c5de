//! Granite (transformers `modeling_granite.py`): Llama with multipliers.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::LayerParts,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, TransformerLayer},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family::llama_like(
    "granite",
    "ibm-granite/granite-3.1-2b-base",
    "Llama with multipliers on embeddings, attention, residual stream and logits",
    |config, names| {
        let options = Options::read(config)?;
        describe(config, names, &options, |_, _| Ok(()))
    },
);

/// Granite with these options; `adjust` changes each layer further.
pub(super) fn describe(
    config: &Config,
    names: &Names,
    options: &Options,
    mut adjust: impl FnMut(&LayerParts<'_>, &mut TransformerLayer) -> Result<()>,
) -> Result<DecoderSpec> {
    let multiplier = |key: &str| -> Result<f32> { Ok(config.number_or(key, 1.0)? as f32) };
    let attention = multiplier("attention_multiplier")?;
    let residual = multiplier("residual_multiplier")?;
    let mut spec = llama_like::describe(config, names, options, |parts, layer| {
        layer.attention.scale = attention;
        layer.residual_scale = residual;
        adjust(parts, layer)
    })?;
    spec.embedding.scale = multiplier("embedding_multiplier")?;
    spec.head.scale = 1.0 / multiplier("logits_scaling")?;
    if !spec.head.scale.is_finite() {
        return Err(config.refuse("logits_scaling", "logits are divided by it"));
    }
    Ok(spec)
}
