//! Nemotron (transformers `modeling_nemotron.py`): LayerNorm with 1 + w, squared ReLU.
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
        spec::{DecoderSpec, Mlp},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[("max_position_embeddings", 4096)],
    ..Family::llama_like(
        "nemotron",
        "nvidia/Minitron-4B-Base",
        "LayerNorm with 1 + w, half of each head rotated, squared ReLU without gate",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.norm = NormStyle {
        offset: 1.0,
        ..NormStyle::layer(config.number_or("norm_eps", 1e-5)?)
    };
    options.rope.partial = Some(0.5);
    options.activation = "relu2";
    let activation = activation(config.text_or("hidden_act", options.activation)?)?;
    let (hidden, inner, biased) = (options.sizes.hidden, options.sizes.inner, options.mlp_bias);
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.mlp = Mlp::Plain {
            up: parts.linear("mlp.up_proj", hidden, inner, biased),
            down: parts.linear("mlp.down_proj", inner, hidden, biased),
            activation,
        };
        Ok(())
    })
}
