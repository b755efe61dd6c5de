//! Phi-3, 3.5 and 4 (transformers `modeling_phi3.py`): Llama with fused projections.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{NormStyle, window},
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("max_position_embeddings", 4096),
        ("original_max_position_embeddings", 4096),
    ],
    // Without LongRoPE.
    without_effect: &["original_max_position_embeddings"],
    ..Family::llama_like(
        "phi3",
        "microsoft/phi-4",
        "Llama with fused projections; partial and LongRoPE rotation, sliding window",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    (options.fused_qkv, options.fused_gate) = (true, true);
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    options.rope.partial = Some(1.0);
    let window = window(config)?;
    if let Some(scaling) = config.section("rope_scaling")? {
        // Here it would mean LongRoPE.
        let key = scaling.either(&["rope_type", "type"]);
        if scaling.text_or(key, "default")? == "yarn" {
            return Err(scaling.refuse(key, "Phi-3 has LongRoPE only"));
        }
    }
    llama_like::describe(config, names, &options, |_, layer| {
        layer.attention.window = window;
        Ok(())
    })
}
