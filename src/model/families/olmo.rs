//! OLMo (transformers `modeling_olmo.py`): LayerNorm without learned vectors, clipped q, k and v.
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
pub(super) const FAMILY: Family = Family::llama_like(
    "olmo",
    "allenai/OLMo-7B-0724-hf",
    "LayerNorm without weights, q, k and v clipped where the config says so",
    describe,
);

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    options.norm = NormStyle {
        weight: false,
        ..NormStyle::layer(1e-5).without_bias()
    };
    let clip = clip(config)?;
    llama_like::describe(config, names, &options, |_, layer| {
        layer.attention.clip = clip;
        Ok(())
    })
}

/// `clip_qkv`, where it is set.
pub(super) fn clip(config: &Config) -> Result<Option<f32>> {
    let clip = config.number_opt("clip_qkv")?;
    match clip {
        Some(limit) if limit <= 0.0 => Err(config.refuse("clip_qkv", "a limit must be positive")),
        _ => Ok(clip.map(|limit| limit as f32)),
    }
}
