//! GLM 4.5 and later (transformers `modeling_glm4_moe.py`, `modeling_glm4v_moe.py`): grouped queries
//! of which a part rotates, DeepSeek-V3's experts.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
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
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("num_experts_per_tok", 8),
    ],
    other_names: &[("num_local_experts", "n_routed_experts")],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &[
        "num_mtp_layers",
        "num_nextn_predict_layers",
        "scoring_func",
        "topk_method",
    ],
    ..Family::llama_like(
        "glm4_moe",
        "zai-org/GLM-4.5-Air",
        "half of each head rotated, biases on q, k and v or not, optional RMSNorm per query and key head, experts as in `deepseek_v3`",
        |config, names| {
            let norms = config.flag_or("use_qk_norm", false)?;
            describe(config, names, norms, false)
        },
    )
};

/// The description, with norms of query and key heads or without, and with biases on q, k and v or
/// without where the config does not say.
pub(super) fn describe(
    config: &Config,
    names: &Names,
    norms: bool,
    biased: bool,
) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.qkv_bias = config.flag_or("attention_bias", biased)?;
    (options.o_bias, options.mlp_bias) = (false, false);
    options.rope.partial = Some(0.5);
    let style = Style {
        scale: ("routed_scaling_factor", 1.0),
        groups: Some([1, 1]),
        ..DEEPSEEK_V3
    };
    let sizes = options.sizes;
    let routed = style.read(config, sizes.hidden)?;
    let dense = config.number_or("first_k_dense_replace", 1.0)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.qk_norm = norms.then(|| head_norms(parts, sizes.head_dim));
        if parts.index as f64 >= dense {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })
}
