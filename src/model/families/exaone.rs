//! EXAONE (transformers `modeling_exaone4.py`, `modeling_exaone_moe.py`; the third generation is Llama
//! with other tensor names, `conversion_mapping.py`).
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options, Sizes},
    olmo2,
    parts::{LayerParts, window, windows},
    qwen3::head_norms,
    routed::{DEEPSEEK_V3, Style, sparse_by_type},
};
use crate::{
    error::Result,
    model::{config::Config, spec::TransformerLayer},
};

/// Registry row.
pub(super) const THIRD: Family = Family {
    embedding: "wte.weight",
    prefixes: &["transformer.", "model.", ""],
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 4096),
    ],
    other_names: &[
        ("num_layers", "num_hidden_layers"),
        ("layer_norm_epsilon", "rms_norm_eps"),
        ("activation_function", "hidden_act"),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    renamed: &[
        ("embed_tokens.", "wte."),
        ("layers", "h"),
        ("norm", "ln_f"),
        ("input_layernorm", "ln_1"),
        ("post_attention_layernorm", "ln_2"),
        ("self_attn.o_proj.", "attn.attention.out_proj."),
        ("self_attn.", "attn.attention."),
        ("mlp.gate_proj.", "mlp.c_fc_0."),
        ("mlp.up_proj.", "mlp.c_fc_1."),
        ("mlp.down_proj.", "mlp.c_proj."),
    ],
    ..Family::llama_like(
        "exaone",
        "LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct",
        "`llama` under other tensor names",
        |config, names| {
            let mut options = Options::read(config)?;
            options.rope.theta = 5e5;
            llama_like::describe(config, names, &options, |_, _| Ok(()))
        },
    )
};

/// Registry row.
pub(super) const FOURTH: Family = Family {
    defaults: &[("num_key_value_heads", 32), ("sliding_window", 4096)],
    numbers: &[("rms_norm_eps", 1e-5)],
    // Where a list says which layers slide.
    without_effect: &["sliding_window_pattern"],
    ..Family::llama_like(
        "exaone4",
        "LGAI-EXAONE/EXAONE-4.0-1.2B",
        "norms after attention and MLP as in `olmo2`, RMSNorm per query and key head, sliding layers that rotate and global ones that do not",
        |config, names| {
            let options = options(config)?;
            let adjust = attention(config, options.sizes)?;
            llama_like::describe(config, names, &options, |parts, layer| {
                olmo2::place_norms(parts, options.sizes, layer);
                adjust(parts, layer);
                Ok(())
            })
        },
    )
};

/// Registry row.
pub(super) const MOE: Family = Family {
    defaults: &[
        ("num_key_value_heads", 32),
        ("sliding_window", 4096),
        ("num_experts_per_tok", 8),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &[
        "first_k_dense_replace",
        "is_moe_layer",
        "num_nextn_predict_layers",
        "scoring_func",
        "sliding_window_pattern",
        "topk_method",
    ],
    ..Family::llama_like(
        "exaone_moe",
        "LGAI-EXAONE/K-EXAONE-236B-A23B",
        "attention as in `exaone4`, norms before both parts, experts as in `deepseek_v3`",
        |config, names| {
            let options = options(config)?;
            let sizes = options.sizes;
            let adjust = attention(config, sizes)?;
            let first = config.number_or("first_k_dense_replace", 1.0)?;
            let sparse = sparse_by_type(config, sizes.layers, first)?;
            let style = Style {
                count: "num_experts",
                shared: ("num_shared_experts", 1),
                groups: Some([1, 1]),
                correction: Some("mlp.e_score_correction_bias"),
                ..DEEPSEEK_V3
            };
            let routed = style.read(config, sizes.hidden)?;
            llama_like::describe(config, names, &options, |parts, layer| {
                adjust(parts, layer);
                if sparse[parts.index] {
                    layer.mlp = routed.mlp(parts);
                }
                Ok(())
            })
        },
    )
};

/// Without biases, whatever the config says.
fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    Ok(options)
}

/// Norms of the heads, and windows: where there is one, layers without it do not rotate.
fn attention(
    config: &Config,
    sizes: Sizes,
) -> Result<impl Fn(&LayerParts<'_>, &mut TransformerLayer) + use<>> {
    let window = window(config)?;
    let pattern = match config.get("layer_types") {
        Some(_) => 1,
        None => config.size_or("sliding_window_pattern", 4)?,
    };
    let slides = |index: usize| window.is_some() && !(index + 1).is_multiple_of(pattern);
    let windows = windows(config, sizes.layers, window, slides)?;
    Ok(
        move |parts: &LayerParts<'_>, layer: &mut TransformerLayer| {
            let attention = &mut layer.attention;
            attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
            attention.window = windows[parts.index];
            if window.is_some() && attention.window.is_none() {
                attention.rope = None;
            }
        },
    )
}
