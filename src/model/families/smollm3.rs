//! SmolLM3 (transformers `modeling_smollm3.py`): Llama in which some layers do not rotate.
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
        ("num_key_value_heads", 4),
        ("max_position_embeddings", 32_768),
    ],
    // Without `use_sliding_window`, or beside a list of the layers that rotate.
    without_effect: &[
        "max_window_layers",
        "no_rope_layer_interval",
        "sliding_window",
    ],
    ..Family::llama_like(
        "smollm3",
        "HuggingFaceTB/SmolLM3-3B-Base",
        "Llama without rotation in every fourth layer, tied head",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.tied = true;
    options.rope.theta = 2e6;
    let layers = options.sizes.layers;
    let rotates = match config.indices_opt("no_rope_layers")? {
        // The name notwithstanding, 1 means that the layer rotates.
        Some(list) => {
            config.check_per_layer("no_rope_layers", &list, layers)?;
            list.into_iter().map(|flag| flag != 0).collect()
        }
        None => {
            let interval = config.size_or("no_rope_layer_interval", 4)?;
            (1..=layers)
                .map(|number| number % interval != 0)
                .collect::<Vec<_>>()
        }
    };
    let window = if config.flag_or("use_sliding_window", false)? {
        window(config)?
    } else {
        None
    };
    let windows = windows(config, layers, window, |index| !rotates[index])?;
    llama_like::describe(config, names, &options, |parts, layer| {
        if !rotates[parts.index] {
            layer.attention.rope = None;
        }
        layer.attention.window = windows[parts.index];
        Ok(())
    })
}
