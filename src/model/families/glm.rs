//! GLM-4 (transformers `modeling_glm.py`, `modeling_glm4.py`): partial rotation of neighbouring
//! dimensions, fused gate and up.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::NormStyle,
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
    ],
    ..Family::llama_like(
        "glm",
        "zai-org/glm-4-9b-hf",
        "half of each head rotated in neighbouring pairs, biases on q, k and v, fused gate and up",
        |config, names| llama_like::describe(config, names, &options(config)?, |_, _| Ok(())),
    )
};

/// Registry row.
pub(super) const GLM4: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
    ],
    ..Family::llama_like(
        "glm4",
        "zai-org/GLM-4-9B-0414",
        "GLM with norms before and after attention and MLP",
        |config, names| glm4(config, names, &options(config)?),
    )
};

/// GLM 4 with these options.
pub(super) fn glm4(config: &Config, names: &Names, options: &Options) -> Result<DecoderSpec> {
    llama_like::describe(config, names, options, |parts, layer| {
        let norm = |module| Some(parts.norm(module, options.sizes.hidden));
        layer.attention_norms.output = norm("post_self_attn_layernorm");
        layer.mlp_norms.output = norm("post_mlp_layernorm");
        Ok(())
    })
}

/// What both share.
pub(super) fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    options.qkv_bias = config.flag_or("attention_bias", true)?;
    (options.o_bias, options.mlp_bias) = (false, false);
    options.fused_gate = true;
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1.5625e-7)?);
    options.rope.partial = Some(0.5);
    options.rope.interleaved = true;
    Ok(options)
}
