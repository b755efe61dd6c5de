//! Gemma 3 (transformers `modeling_gemma3.py`), text only or the text part of the multimodal
//! checkpoints: Gemma 2 with a norm per query and key head and a rope for each kind of layer.
#![forbid(unsafe_code)]

use super::{
    Family,
    gemma::{embedding_scale, options, set_activation},
    gemma2::{sandwich, scale, soft_cap},
    llama_like,
    olmo2::ropes_by_layer,
    parts::{activation, required_window, sliding_layers},
    qwen3::head_norms,
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    without_effect: WITHOUT_EFFECT,
    ..Family::llama_like(
        "gemma3_text",
        "google/gemma-3-1b-pt",
        "Gemma 2 with RMSNorm per query and key head, five sliding layers with their own rope to a global one",
        describe,
    )
};

/// transformers does not apply the cap to attention in this family, and derives the pattern from
/// `sliding_window_pattern` only.
const WITHOUT_EFFECT: &[&str] = &["_sliding_window_pattern", "attn_logit_softcapping"];

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    // A nested config leaves out what equals the defaults of its class.
    let defaults = [
        ("vocab_size", 262_208),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 4096),
    ];
    let config = &config.with_defaults(&defaults);
    let options = options(config)?;
    let sizes = options.sizes;
    let activation = activation(config.text_or("hidden_activation", "gelu_pytorch_tanh")?)?;
    let pattern = config.size_or("sliding_window_pattern", 6)?;
    let slides = sliding_layers(config, sizes.layers, |index| (index + 1) % pattern != 0)?;
    let window = required_window(config)?;
    let scale = scale(config)?;
    let ropes = ropes_by_layer(config, sizes, [1e6, 1e4], Some("rope_local_base_freq"))?;
    let without_ropes = config.without(&["rope_parameters", "rope_scaling"]);
    let mut spec = llama_like::describe(&without_ropes, names, &options, |parts, layer| {
        let slides = slides[parts.index];
        sandwich(parts, sizes.hidden, layer);
        set_activation(layer, activation);
        let attention = &mut layer.attention;
        attention.scale = scale;
        attention.window = slides.then_some(window);
        attention.rope = Some(usize::from(slides));
        attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        Ok(())
    })?;
    spec.ropes = ropes;
    embedding_scale(&mut spec);
    spec.head.soft_cap = soft_cap(config, "final_logit_softcapping", None)?;
    Ok(spec)
}
