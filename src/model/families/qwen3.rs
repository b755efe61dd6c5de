//! Qwen3 (transformers `modeling_qwen3.py`): Llama with a norm on each query and key head.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::LayerParts,
    qwen2::late_windows,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, QkNorm},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 32),
        ("head_dim", 128),
        ("max_position_embeddings", 32_768),
        ("sliding_window", 4096),
    ],
    // Without `use_sliding_window`.
    without_effect: &["sliding_window"],
    ..Family::llama_like(
        "qwen3",
        "Qwen/Qwen3-0.6B",
        "Llama with RMSNorm on each query and key head",
        describe,
    )
};

/// Norms of every query and key head, shared by the heads.
pub(super) fn head_norms(parts: &LayerParts<'_>, head_dim: usize) -> QkNorm {
    QkNorm {
        q: parts.norm("self_attn.q_norm", head_dim),
        k: parts.norm("self_attn.k_norm", head_dim),
    }
}

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let windows = late_windows(config, options.sizes.layers)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        layer.attention.qk_norm = Some(head_norms(parts, options.sizes.head_dim));
        Ok(())
    })
}
