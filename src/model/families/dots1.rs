//! dots.llm1 (transformers `modeling_dots1.py`): Qwen3's attention, DeepSeek-V3's experts.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{window, windows},
    qwen3::head_norms,
    routed::{DEEPSEEK_V3, Style},
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[("sliding_window", 4096)],
    other_names: &[("num_local_experts", "n_routed_experts")],
    numbers: &[("max_window_layers", 62.0)],
    without_effect: &["scoring_func", "topk_method"],
    ..Family::llama_like(
        "dots1",
        "rednote-hilab/dots.llm1.base",
        "attention as in `qwen3`, experts as in `deepseek_v3`",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let sizes = options.sizes;
    let style = Style {
        scale: ("routed_scaling_factor", 1.0),
        groups: Some([1, 1]),
        renormalise: Some(false),
        ..DEEPSEEK_V3
    };
    let routed = style.read(config, sizes.hidden)?;
    let dense = config.number_or("first_k_dense_replace", 0.0)?;
    let last = config.number_or("max_window_layers", 62.0)?;
    let slides = |index| index as f64 >= last;
    let windows = windows(config, sizes.layers, window(config)?, slides)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        layer.attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        if parts.index as f64 >= dense {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })
}
