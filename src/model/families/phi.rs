//! Phi-1, 1.5 and 2 (transformers `modeling_phi.py`): attention and MLP side by side behind one
//! LayerNorm, biases everywhere, the head's included.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{NormStyle, activation},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mlp, Norms, QkNorm, Wiring},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family::llama_like(
    "phi",
    "microsoft/phi-2",
    "parallel attention and MLP behind one LayerNorm, partial rotation, biases everywhere, optional LayerNorm per head",
    describe,
);

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.norm = NormStyle::layer(config.number_or("layer_norm_eps", 1e-5)?);
    options.qkv_bias = true;
    options.rope.partial = Some(0.5);
    options.activation = "gelu_new";
    let activation = activation(config.text_or("hidden_act", options.activation)?)?;
    let norms = config.flag_or("qk_layernorm", false)?;
    let sizes = options.sizes;
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        layer.wiring = Wiring::ParallelSharedNorm;
        layer.mlp_norms = Norms::default();
        layer.attention.o = parts.linear("self_attn.dense", sizes.q_width(), sizes.hidden, true);
        if norms {
            layer.attention.qk_norm = Some(QkNorm {
                q: parts.norm("self_attn.q_layernorm", sizes.head_dim),
                k: parts.norm("self_attn.k_layernorm", sizes.head_dim),
            });
        }
        layer.mlp = Mlp::Plain {
            up: parts.linear("mlp.fc1", sizes.hidden, sizes.inner, true),
            down: parts.linear("mlp.fc2", sizes.inner, sizes.hidden, true),
            activation,
        };
        Ok(())
    })?;
    let final_norm = names.base("final_layernorm");
    spec.final_norm = Some(options.norm.norm(&final_norm, sizes.hidden));
    spec.head.linear.bias = Some(names.root("lm_head.bias"));
    Ok(spec)
}
