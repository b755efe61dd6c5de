//! MiMo-V2-Flash (transformers `modeling_mimo_v2_flash.py`): wide queries and keys beside narrower,
//! scaled values, sliding layers with twice the key heads and learned sinks, DeepSeek-V3's experts.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    laguna::{ropes_by_kind, without_ropes},
    llama_like::{self, Options},
    parts::{required_window, sliding_layers},
    routed::{DEEPSEEK_V3, Style, sparse_by_type},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{Attention, DecoderSpec, Vector},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 152_576),
        ("hidden_size", 4096),
        ("intermediate_size", 16_384),
        ("num_hidden_layers", 48),
        ("num_attention_heads", 64),
        ("num_key_value_heads", 4),
        ("head_dim", 192),
        ("v_head_dim", 128),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 129),
        ("moe_intermediate_size", 2048),
        ("num_experts_per_tok", 8),
        ("n_routed_experts", 256),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    other_names: &[("num_local_experts", "n_routed_experts")],
    // Rotation is by kind of layer.
    without_effect: &[
        "attention_chunk_size",
        "attention_projection_layout",
        "rope_scaling",
        "sliding_window_size",
    ],
    ..Family::llama_like(
        "mimo_v2_flash",
        "XiaomiMiMo/MiMo-V2-Flash",
        "value heads narrower than query and key heads and scaled, part of each head rotated, sliding layers with twice the key/value heads and learned sinks, experts as in `deepseek_v3` without a shared one",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let sizes = options.sizes;
    let value_dim = config.size("v_head_dim")?;
    let usual = |index: usize| index != 0 && !(index + 1).is_multiple_of(6);
    let slides = sliding_layers(config, sizes.layers, usual)?;
    let sparse = sparse_by_type(config, sizes.layers, 1.0)?;
    agrees(config, &slides, &sparse)?;
    let window = match config.size_opt("sliding_window_size")? {
        // Which counts the tokens before.
        Some(before) => before + 1,
        None => required_window(config)?,
    };
    let value_scale = match config.has("attention_value_scale") {
        true => config.number_opt("attention_value_scale")?.unwrap_or(1.0),
        false => 0.707,
    };
    let style = Style {
        scale: ("routed_scaling_factor", 1.0),
        groups: Some([1, 1]),
        shared: ("n_shared_experts", 0),
        ..DEEPSEEK_V3
    };
    let nulls = ["n_shared_experts", "routed_scaling_factor"];
    let null = nulls.into_iter().filter(|key| config.get(key).is_none());
    let routed = style.read(&config.without(&null.collect::<Vec<_>>()), sizes.hidden)?;
    let share = 0.334;
    let ropes = ropes_by_kind(config, sizes, &slides, [(5e6, share), (1e4, share)], share)?;
    let mut spec =
        llama_like::describe(&without_ropes(config), names, &options, |parts, layer| {
            let slides = slides[parts.index];
            let kv_heads = sizes.kv_heads * if slides { 2 } else { 1 };
            let linear = |module: &str, outputs| {
                parts.linear(module, sizes.hidden, outputs, options.qkv_bias)
            };
            let qkv = [
                linear("self_attn.q_proj", sizes.q_width()),
                linear("self_attn.k_proj", kv_heads * sizes.head_dim),
                linear("self_attn.v_proj", kv_heads * value_dim),
            ];
            let width = sizes.heads * value_dim;
            let o = parts.linear("self_attn.o_proj", width, sizes.hidden, false);
            let mut attention = Attention::new(sizes.heads, kv_heads, sizes.head_dim, qkv, o);
            attention.value_dim = value_dim;
            attention.value_scale = value_scale as f32;
            attention.rope = Some(usize::from(slides));
            if slides {
                attention.window = Some(window);
                // As published, or as transformers keeps it in memory.
                let published = parts.name("self_attn.attention_sink_bias");
                let sinks = match parts.names.shape(&published) {
                    Some(_) => published,
                    None => parts.name("self_attn.sinks"),
                };
                attention.sinks = Some(Vector::new(sinks, sizes.heads));
            }
            layer.attention = attention;
            if sparse[parts.index] {
                layer.mlp = routed.mlp(parts);
            }
            Ok(())
        })?;
    spec.ropes = ropes;
    Ok(spec)
}

/// Refuses keys of the first published configs that say otherwise than what transformers computes
/// whatever they say.
fn agrees(config: &Config, slides: &[bool], sparse: &[bool]) -> Result<()> {
    let numbers = |flags: &[bool]| Value::from_iter(flags.iter().copied().map(u8::from));
    let of = |key: &str| config.get(key).cloned().unwrap_or_default();
    let doubled = 2 * config.size("num_key_value_heads")?;
    for (key, allowed) in [
        ("add_full_attention_sink_bias", false.into()),
        ("add_swa_attention_sink_bias", true.into()),
        ("hybrid_layer_pattern", numbers(slides)),
        ("layernorm_epsilon", of("rms_norm_eps")),
        ("moe_layer_freq", numbers(sparse)),
        ("n_shared_experts", Value::Null),
        ("scoring_func", "sigmoid".into()),
        ("swa_head_dim", of("head_dim")),
        ("swa_num_attention_heads", of("num_attention_heads")),
        ("swa_num_key_value_heads", doubled.into()),
        ("swa_v_head_dim", of("v_head_dim")),
        ("topk_method", "noaux_tc".into()),
    ] {
        config.refuse_unless(key, &allowed)?;
    }
    // Beside `rope_parameters` they say nothing; without it they must be what is computed.
    if config.get("rope_parameters").is_none() {
        for (key, allowed) in [
            ("partial_rotary_factor", 0.334),
            ("rope_theta", 5e6),
            ("swa_rope_theta", 1e4),
        ] {
            config.refuse_unless(key, &allowed.into())?;
        }
    }
    Ok(())
}
