//! Trinity (transformers `modeling_afmoe.py`): a gate on the output of attention, norms on both sides
//! of every part, rotation in sliding layers only, experts beside shared ones.
#![forbid(unsafe_code)]

use super::{
    Family,
    gemma::embedding_scale,
    llama_like::{self, Options},
    parts::{required_window, sliding_layers},
    qwen3::head_norms,
    routed::{DEEPSEEK_V3, Style},
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("head_dim", 128),
        ("max_position_embeddings", 16_384),
        ("sliding_window", 1024),
        ("num_experts_per_tok", 6),
        ("moe_intermediate_size", 1408),
        ("global_attn_every_n_layers", 4),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &[
        "load_balance_coeff",
        "n_group",
        "num_expert_groups",
        "num_limited_groups",
        "route_norm",
        "score_func",
        "topk_group",
        "use_grouped_mm",
    ],
    ..Family::llama_like(
        "afmoe",
        "arcee-ai/Trinity-Mini",
        "a gate on the output of attention, norms before and after both parts, RMSNorm per query and key head, sliding layers that rotate and global ones that do not, experts beside shared ones with sigmoid routing",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let sizes = options.sizes;
    let every = config.size("global_attn_every_n_layers")?;
    let slides = sliding_layers(config, sizes.layers, |index| (index + 1) % every != 0)?;
    let window = required_window(config)?;
    let dense = config.number_or("num_dense_layers", 1.0)?;
    let style = Style {
        count: "num_experts",
        shared: ("num_shared_experts", 2),
        scale: ("route_scale", 1.0),
        groups: None,
        renormalise: None,
        router: "mlp.router.gate",
        correction: Some("mlp.expert_bias"),
        ..DEEPSEEK_V3
    };
    let routed = style.read(config, sizes.hidden)?;
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        let norm = |module| Some(parts.norm(module, sizes.hidden));
        layer.attention_norms.output = norm("post_attention_layernorm");
        layer.mlp_norms.input = norm("pre_mlp_layernorm");
        layer.mlp_norms.output = norm("post_mlp_layernorm");
        let attention = &mut layer.attention;
        attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        let gate = parts.linear("self_attn.gate_proj", sizes.hidden, sizes.q_width(), false);
        attention.gate = Some(gate);
        if slides[parts.index] {
            attention.window = Some(window);
        } else {
            attention.rope = None;
        }
        if parts.index as f64 >= dense {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })?;
    if config.flag_or("mup_enabled", false)? {
        embedding_scale(&mut spec);
    }
    Ok(spec)
}
