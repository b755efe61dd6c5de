//! Command R (transformers `modeling_cohere.py`, `modeling_cohere2.py`): attention and MLP side by
//! side, neighbouring dimensions rotated, scaled logits.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{LayerParts, NormStyle, required_window, sliding_layers},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Learned, Norm, Norms, QkNorm, TransformerLayer, Wiring},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[("max_position_embeddings", 8192)],
    ..Family::llama_like(
        "cohere",
        "CohereLabs/c4ai-command-r-v01",
        "parallel attention and MLP, LayerNorm without bias, neighbouring pairs rotated, scaled logits, optional norm per head",
        cohere,
    )
};

/// Registry row.
pub(super) const COHERE2: Family = Family {
    defaults: &[("max_position_embeddings", 8192), ("sliding_window", 4096)],
    without_effect: &[
        "layer_switch",
        "order_of_interleaved_layers",
        "position_embedding_type",
        "rotary_pct",
        "use_embedding_sharing",
        "use_gated_activation",
        "use_parallel_block",
        "use_parallel_embedding",
    ],
    ..Family::llama_like(
        "cohere2",
        "CohereLabs/c4ai-command-r7b-12-2024",
        "Cohere with sliding layers that rotate and global ones that do not",
        cohere2,
    )
};

fn options(config: &Config, theta: f64) -> Result<Options> {
    let mut options = Options::read(config)?;
    let epsilon = config.number_or("layer_norm_eps", 1e-5)?;
    options.norm = NormStyle::layer(epsilon).without_bias();
    options.mlp_bias = false;
    options.tied = true;
    options.rope.theta = theta;
    options.rope.interleaved = true;
    Ok(options)
}

fn scale_logits(config: &Config, mut spec: DecoderSpec) -> Result<DecoderSpec> {
    spec.head.scale = config.number_or("logit_scale", 0.0625)? as f32;
    Ok(spec)
}

fn parallel(layer: &mut TransformerLayer) {
    layer.wiring = Wiring::ParallelSharedNorm;
    layer.mlp_norms = Norms::default();
}

fn cohere(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let options = options(config, 5e5)?;
    let sizes = options.sizes;
    let norms = config.flag_or("use_qk_norm", false)?;
    let spec = llama_like::describe(config, names, &options, |parts, layer| {
        parallel(layer);
        if norms {
            layer.attention.qk_norm = Some(QkNorm {
                q: head_norm(parts, "self_attn.q_norm", sizes.heads, sizes.head_dim),
                k: head_norm(parts, "self_attn.k_norm", sizes.kv_heads, sizes.head_dim),
            });
        }
        Ok(())
    })?;
    scale_logits(config, spec)
}

/// A norm of each head with a weight of its own, stored `[heads, head_dim]`.
fn head_norm(parts: &LayerParts<'_>, module: &str, heads: usize, head_dim: usize) -> Norm {
    let mut norm = parts.norm(module, head_dim);
    norm.weight = Some(Learned {
        tensors: vec![parts.name(&format!("{module}.weight"))],
        shape: vec![heads, head_dim],
    });
    norm
}

fn cohere2(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let options = options(config, 1e4)?;
    let pattern = config.size_or("sliding_window_pattern", 4)?;
    let slides = sliding_layers(config, options.sizes.layers, |index| {
        (index + 1) % pattern != 0
    })?;
    let window = required_window(config)?;
    let spec = llama_like::describe(config, names, &options, |parts, layer| {
        parallel(layer);
        if slides[parts.index] {
            layer.attention.window = Some(window);
        } else {
            layer.attention.rope = None;
        }
        Ok(())
    })?;
    scale_logits(config, spec)
}
