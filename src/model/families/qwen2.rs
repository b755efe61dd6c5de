//! Qwen2 and 2.5 (transformers `modeling_qwen2.py`): Llama with biases on q, k and v.
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
        ("num_key_value_heads", 32),
        ("max_position_embeddings", 32_768),
        ("sliding_window", 4096),
    ],
    // Without `use_sliding_window`.
    without_effect: &["sliding_window", "use_mrope"],
    ..Family::llama_like(
        "qwen2",
        "Qwen/Qwen2.5-0.5B",
        "Llama with biases on q, k and v; later layers may slide",
        |config, names| describe(config, names, 1e4),
    )
};

/// The window of each layer; it counts only with `use_sliding_window`, from layer
/// `max_window_layers` on.
pub(super) fn late_windows(config: &Config, layers: usize) -> Result<Vec<Option<usize>>> {
    let window = if config.flag_or("use_sliding_window", false)? {
        window(config)?
    } else {
        None
    };
    let first = config.number_or("max_window_layers", 28.0)?;
    windows(config, layers, window, |index| index as f64 >= first)
}

/// Qwen2 whose rotation has this base where the config says none.
pub(super) fn describe(config: &Config, names: &Names, theta: f64) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.rope.theta = theta;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (true, false, false);
    let windows = late_windows(config, options.sizes.layers)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        Ok(())
    })
}
