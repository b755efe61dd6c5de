//! Apertus (transformers `modeling_apertus.py`): Llama with a norm on each query and key head and an
//! MLP without gate, whose nonlinearity xIELU has learned scalars.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    llama_relatives::llama3_by_default,
    parts::activation,
    qwen3::head_norms,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mlp, Xielu},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 131_072),
        ("hidden_size", 4096),
        ("intermediate_size", 14_336),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("max_position_embeddings", 65_536),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &["mlp_bias", "post_norm", "qk_norm"],
    renamed: &[
        ("input_layernorm", "attention_layernorm"),
        ("post_attention_layernorm", "feedforward_layernorm"),
    ],
    ..Family::llama_like(
        "apertus",
        "swiss-ai/Apertus-8B-2509",
        "`llama` with RMSNorm per query and key head, xIELU with learned scalars without gate",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    const XIELU: &str = "xielu";
    let mut options = Options::read(config)?;
    options.rope.theta = 1.2e7;
    let sizes = options.sizes;
    let act = config.text_or("hidden_act", XIELU)?;
    let usual = match act {
        XIELU => None,
        other => Some(activation(other)?),
    };
    // The MLP is replaced.
    let inner = &config.with("hidden_act", "silu".into());
    let mut spec = llama_like::describe(inner, names, &options, |parts, layer| {
        layer.attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        let up = parts.linear("mlp.up_proj", sizes.hidden, sizes.inner, false);
        let down = parts.linear("mlp.down_proj", sizes.inner, sizes.hidden, false);
        layer.mlp = match usual {
            Some(activation) => Mlp::Plain {
                up,
                down,
                activation,
            },
            None => Mlp::Xielu {
                up,
                down,
                scalars: Xielu::new(&parts.name("mlp.act_fn")),
            },
        };
        Ok(())
    })?;
    llama3_by_default(config, &options, 8.0, &mut spec)?;
    Ok(spec)
}
