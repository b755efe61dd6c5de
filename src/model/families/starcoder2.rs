//! StarCoder2 (transformers `modeling_starcoder2.py`): LayerNorm, biases, plain MLP.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{NormStyle, activation, window},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mlp},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("max_position_embeddings", 4096),
    ],
    without_effect: &[
        // transformers reads `hidden_act` and `norm_epsilon`.
        "activation_function",
        "attention_softmax_in_fp32",
        "layer_norm_epsilon",
        "mlp_type",
        "norm_type",
        "scale_attention_softmax_in_fp32",
        "scale_attn_weights",
    ],
    ..Family::llama_like(
        "starcoder2",
        "bigcode/starcoder2-3b",
        "LayerNorm, biases everywhere, MLP without gate, sliding window, tied head",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    let biased = config.flag_or("use_bias", true)?;
    (options.qkv_bias, options.o_bias) = (biased, biased);
    options.norm = NormStyle::layer(config.number_or("norm_epsilon", 1e-5)?);
    options.tied = true;
    options.activation = "gelu_pytorch_tanh";
    let activation = activation(config.text_or("hidden_act", options.activation)?)?;
    let window = window(config)?;
    let (hidden, inner) = (options.sizes.hidden, options.sizes.inner);
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = window;
        layer.mlp = Mlp::Plain {
            up: parts.linear("mlp.c_fc", hidden, inner, biased),
            down: parts.linear("mlp.c_proj", inner, hidden, biased),
            activation,
        };
        Ok(())
    })
}
