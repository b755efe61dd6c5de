//! Mistral and Ministral (transformers `modeling_mistral.py`, `modeling_ministral.py`): Llama with
//! a sliding window, in all layers or in some.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{window, windows},
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
        ("sliding_window", 4096),
    ],
    ..Family::llama_like(
        "mistral",
        "mistralai/Mistral-7B-v0.3",
        "Llama with a sliding window in every layer, where the config has one",
        mistral,
    )
};

/// Registry row.
pub(super) const MINISTRAL: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 4096),
    ],
    ..Family::llama_like(
        "ministral",
        "mistralai/Ministral-8B-Instruct-2410",
        "Mistral with global and sliding layers",
        ministral,
    )
};

/// transformers ignores `layer_types` in this family.
fn mistral(config: &Config, names: &Names) -> Result<DecoderSpec> {
    describe(config, names, |options| {
        Ok(vec![window(config)?; options.sizes.layers])
    })
}

fn ministral(config: &Config, names: &Names) -> Result<DecoderSpec> {
    describe(config, names, |options| {
        windows(config, options.sizes.layers, window(config)?, |_| true)
    })
}

fn describe(
    config: &Config,
    names: &Names,
    windows: impl FnOnce(&Options) -> Result<Vec<Option<usize>>>,
) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    // These families have no biases, whatever the config says.
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    let windows = windows(&options)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        Ok(())
    })
}
