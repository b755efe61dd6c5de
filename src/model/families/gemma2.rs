//! Gemma 2 (transformers `modeling_gemma2.py`): Gemma with norms on both sides of attention and
//! MLP, soft caps, every other layer sliding.
#![forbid(unsafe_code)]

use super::{
    Family,
    gemma::{embedding_scale, options, set_activation},
    llama_like,
    parts::{LayerParts, activation, required_window, windows},
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
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 8192),
        ("sliding_window", 4096),
    ],
    without_effect: &["sliding_window_size"],
    ..Family::llama_like(
        "gemma2",
        "google/gemma-2-2b",
        "Gemma with norms before and after attention and MLP, soft caps on attention and logits, every other layer sliding",
        |config, names| describe(config, names, sandwich),
    )
};

/// Registry row.
pub(super) const VAULTGEMMA: Family = Family {
    model_type: "vaultgemma",
    example: "google/vaultgemma-1b",
    notes: "`gemma2` without norms after attention and MLP",
    describe: |config, names| {
        describe(config, names, |parts, hidden, layer| {
            layer.mlp_norms.input = Some(parts.norm("pre_feedforward_layernorm", hidden));
        })
    },
    ..FAMILY
};

/// Norms before and after attention and MLP.
pub(super) fn sandwich(parts: &LayerParts<'_>, hidden: usize, layer: &mut TransformerLayer) {
    let norm = |module| Some(parts.norm(module, hidden));
    layer.attention_norms.output = norm("post_attention_layernorm");
    layer.mlp_norms.input = norm("pre_feedforward_layernorm");
    layer.mlp_norms.output = norm("post_feedforward_layernorm");
}

/// A soft cap, where it is set.
pub(super) fn soft_cap(config: &Config, key: &str, default: Option<f64>) -> Result<Option<f32>> {
    // A null switches it off, an absent key does not.
    let cap = if config.has(key) {
        config.number_opt(key)?
    } else {
        default
    };
    match cap {
        Some(cap) if cap <= 0.0 => Err(config.refuse(key, "a cap must be positive")),
        _ => Ok(cap.map(|cap| cap as f32)),
    }
}

/// Factor on q.k, `1 / sqrt(query_pre_attn_scalar)`.
pub(super) fn scale(config: &Config) -> Result<f32> {
    Ok(config
        .number_or("query_pre_attn_scalar", 256.0)?
        .sqrt()
        .recip() as f32)
}

fn describe(
    config: &Config,
    names: &Names,
    place_norms: impl Fn(&LayerParts<'_>, usize, &mut TransformerLayer),
) -> Result<DecoderSpec> {
    let options = options(config)?;
    let sizes = options.sizes;
    let hidden = sizes.hidden;
    let activation = activation(config.text_or("hidden_activation", "gelu_pytorch_tanh")?)?;
    let window = Some(required_window(config)?);
    let windows = windows(config, sizes.layers, window, |index| index % 2 == 0)?;
    let scale = scale(config)?;
    let cap = soft_cap(config, "attn_logit_softcapping", Some(50.0))?;
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        place_norms(parts, hidden, layer);
        set_activation(layer, activation);
        layer.attention.scale = scale;
        layer.attention.soft_cap = cap;
        layer.attention.window = windows[parts.index];
        Ok(())
    })?;
    embedding_scale(&mut spec);
    spec.head.soft_cap = soft_cap(config, "final_logit_softcapping", Some(30.0))?;
    Ok(spec)
}
