//! Phi-3.5-MoE (transformers `modeling_phimoe.py`): Llama with LayerNorm, biases where the config says
//! so, LongRoPE with its own factors on cosines and sines, and experts chosen by SparseMixer.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    moe::Mixture,
    parts::{LayerParts, NormStyle, window},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeScaling},
        rope_config::filled,
        spec::{DecoderSpec, Mlp, Score},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 32_064),
        ("hidden_size", 4096),
        ("intermediate_size", 6400),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("num_experts_per_tok", 2),
        ("num_local_experts", 16),
    ],
    without_effect: &["input_jitter_noise", "original_max_position_embeddings"],
    ..Family::llama_like(
        "phimoe",
        "microsoft/Phi-3.5-MoE-instruct",
        "LayerNorm, biases or not, LongRoPE with its own factors on cosines and sines, two experts a token chosen by SparseMixer",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    // The router takes two, whatever the config says.
    config.refuse_unless("num_experts_per_tok", &2.into())?;
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    options.norm = NormStyle::layer(config.number_or("rms_norm_eps", 1e-5)?);
    options.rope.theta = 1e6;
    let sizes = options.sizes;
    let window = window(config)?;
    let mixture = Mixture {
        renormalise: false,
        ..Mixture::read(config, "num_local_experts")?
    };
    // The one in the rotary settings counts.
    let config = &config.without(&["original_max_position_embeddings"]);
    let jitter = config.number_or("router_jitter_noise", 0.01)?;
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = window;
        let (module, router) = modules(parts);
        let (names, width) = (["w1", "w3", "w2"], (sizes.hidden, sizes.inner));
        let mut experts = mixture.experts(parts, module, names, width);
        let routing = &mut experts.routing;
        routing.router = parts.linear(router, sizes.hidden, mixture.count, false);
        routing.score = Score::Sparse((2.0 * jitter) as f32);
        layer.mlp = Mlp::Experts(Box::new(experts));
        Ok(())
    })?;
    for rope in &mut spec.ropes {
        rope.scaling = scaling(config, rope)?;
    }
    if config.flag_or("lm_head_bias", false)? {
        spec.head.linear.bias = Some(names.root("lm_head.bias"));
    }
    Ok(spec)
}

/// The modules of a layer's experts and of their router: as published, or as transformers keeps them
/// in memory.
fn modules(parts: &LayerParts<'_>) -> (&'static str, &'static str) {
    match parts.names.shape(&parts.name("mlp.router.weight")) {
        Some(_) => ("mlp", "mlp.router"),
        None => ("block_sparse_moe", "block_sparse_moe.gate"),
    }
}

/// LongRoPE as this family has it: the config's own factors on cosines and sines, and, as in
/// transformers, the short divisors whatever the length.
fn scaling(config: &Config, rope: &Rope) -> Result<RopeScaling> {
    let (short, original) = match &rope.scaling {
        RopeScaling::Default => return Ok(RopeScaling::Default),
        RopeScaling::Long {
            short, original, ..
        } => (short, *original),
        _ => {
            return Err(Error::new(
                "config.json",
                "rope scaling of this family is `longrope`; massact computes no other here",
            )
            .remedy("run `massact models` for what is supported"));
        }
    };
    let section = match filled(config, "rope_scaling")? {
        Some(section) => Some(section),
        None => filled(config, "rope_parameters")?,
    };
    let section = section.unwrap_or_default();
    let factor = |key: &str| match section.number_opt(key)? {
        Some(factor) => Ok(factor),
        None => Err(section.refuse(key, "LongRoPE of this family needs a number")),
    };
    Ok(RopeScaling::Long {
        short: short.clone(),
        long: short.clone(),
        attention: factor("short_mscale")?,
        long_attention: factor("long_mscale")?,
        original,
    })
}
