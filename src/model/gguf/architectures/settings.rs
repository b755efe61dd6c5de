//! Settings of architectures that take more than a line.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{
    super::{
        MOST_LAYERS,
        keys::{Keys, Settings},
    },
    LAYER_NORM,
};
use crate::error::Result;

/// Llama, and under the same name Mistral and Mixtral.
pub(super) fn llama(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
    let window = keys
        .size_opt("attention.sliding_window")?
        .filter(|window| *window != 0);
    if let Some(experts @ 1..) = keys.size_opt("expert_count")? {
        settings.set("model_type", "mixtral");
        settings.set("num_local_experts", experts);
        settings.set("num_experts_per_tok", keys.size("expert_used_count")?);
        settings.set("sliding_window", window.map_or(Value::Null, Value::from));
    } else if let Some(window) = window {
        settings.set("model_type", "mistral");
        settings.set("sliding_window", window);
    } else {
        keys.size_opt("expert_used_count")?;
        settings.set("model_type", "llama");
        biases(keys, settings);
    }
    Ok(())
}

/// Biases where the tensors show them.
pub(super) fn biases(keys: &Keys<'_>, settings: &mut Settings) {
    settings.set("attention_bias", keys.has("blk.0.attn_output.bias"));
    settings.set("mlp_bias", keys.has("blk.0.ffn_up.bias"));
}

pub(super) fn cohere(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
    settings.set("layer_norm_eps", keys.number(LAYER_NORM)?);
    settings.set("logit_scale", keys.number("logit_scale")?);
    Ok(())
}

/// OLMo 2, and under the same name OLMo 3, which slides and scales the rotation of other layers only.
pub(super) fn olmo2(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
    let Some(window) = keys.size_opt("attention.sliding_window")? else {
        settings.set("model_type", "olmo2");
        return Ok(());
    };
    settings.set("model_type", "olmo3");
    settings.set("sliding_window", window);
    sliding_layers(keys, settings, 4)?;
    let (theta, scaling) = (settings.take("rope_theta"), settings.take("rope_scaling"));
    let mut full = scaling.unwrap_or_else(|| json!({"rope_type": "default"}));
    full["rope_theta"] = json!(theta);
    let sliding = json!({"rope_type": "default", "rope_theta": theta});
    settings.set(
        "rope_parameters",
        json!({"full_attention": full, "sliding_attention": sliding}),
    );
    Ok(())
}

/// Which layers slide: as a list says, or all but every so many.
pub(super) fn sliding_layers(keys: &Keys<'_>, settings: &mut Settings, usual: u64) -> Result<()> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    let layers = keys.size("block_count")?;
    let kinds: Vec<&str> = match keys.list_opt(PATTERN)? {
        Some(list) => list.into_iter().map(|slides| kind(slides != 0.0)).collect(),
        None => {
            let every = keys.size_opt(PATTERN)?.unwrap_or(usual).max(1);
            let layers = layers.min(MOST_LAYERS);
            (1..=layers)
                .map(|number| kind(number % every != 0))
                .collect()
        }
    };
    settings.set("layer_types", kinds);
    Ok(())
}

pub(super) fn kind(slides: bool) -> &'static str {
    if slides {
        "sliding_attention"
    } else {
        "full_attention"
    }
}

/// Numbers of experts, and whether the weights of the chosen add up to one if nothing is said.
pub(super) fn experts(keys: &Keys<'_>, settings: &mut Settings, renormalised: bool) -> Result<()> {
    settings.set("num_experts", keys.size("expert_count")?);
    settings.set("num_experts_per_tok", keys.size("expert_used_count")?);
    let said = keys.flag_opt("expert_weights_norm")?;
    settings.set("norm_topk_prob", said.unwrap_or(renormalised));
    // 1 is softmax.
    keys.refuse_unless("expert_gating_func", 1.0)?;
    keys.refuse_unless("expert_weights_scale", 1.0)
}

/// The first layer with experts.
pub(super) fn sparse_layer(keys: &Keys<'_>) -> Option<u64> {
    let layers = keys.size("block_count").ok()?.min(MOST_LAYERS);
    (0..layers).find(|layer| keys.has(&format!("blk.{layer}.ffn_gate_inp.weight")))
}

/// Experts in some layers, as the tensors show.
pub(super) fn sparse(keys: &Keys<'_>, settings: &mut Settings, renormalised: bool) -> Result<()> {
    experts(keys, settings, renormalised)?;
    let layers = keys.size("block_count")?.min(MOST_LAYERS);
    let dense = (0..layers).filter(|layer| !keys.has(&format!("blk.{layer}.ffn_gate_inp.weight")));
    settings.set("mlp_only_layers", dense.collect::<Vec<u64>>());
    let inner = keys.size_opt("expert_feed_forward_length")?;
    let rows = sparse_layer(keys)
        .map(|layer| keys.rows(&format!("blk.{layer}.ffn_up_exps.weight")))
        .transpose()?;
    if let Some(inner) = inner.or(rows) {
        settings.set("moe_intermediate_size", inner);
    }
    Ok(())
}
