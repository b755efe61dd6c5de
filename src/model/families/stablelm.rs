//! StableLM (transformers `modeling_stablelm.py`): LayerNorm, partial rotation, a norm per head in
//! some, attention and MLP side by side in some.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{LayerParts, NormStyle},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Learned, Norm, Norms, QkNorm, Wiring},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 32),
        ("max_position_embeddings", 4096),
    ],
    ..Family::llama_like(
        "stablelm",
        "stabilityai/stablelm-2-1_6b",
        "LayerNorm, a quarter of each head rotated, optional biases on q, k and v, norms per head and parallel layers",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.norm = NormStyle::layer(config.number_or("layer_norm_eps", 1e-5)?);
    options.qkv_bias = config.flag_or("use_qkv_bias", false)?;
    (options.o_bias, options.mlp_bias) = (false, false);
    options.rope.partial = Some(0.25);
    let norms = config.flag_or("qk_layernorm", false)?;
    let parallel = config.flag_or("use_parallel_residual", false)?;
    let sizes = options.sizes;
    llama_like::describe(config, names, &options, |parts, layer| {
        if norms {
            layer.attention.qk_norm = Some(QkNorm {
                q: head_norm(parts, "self_attn.q_layernorm", sizes.heads, sizes.head_dim),
                k: head_norm(
                    parts,
                    "self_attn.k_layernorm",
                    sizes.kv_heads,
                    sizes.head_dim,
                ),
            });
        }
        if parallel {
            layer.wiring = Wiring::ParallelSharedNorm;
            layer.mlp_norms = Norms::default();
        }
        Ok(())
    })
}

/// A norm of each head with a tensor of its own.
fn head_norm(parts: &LayerParts<'_>, module: &str, heads: usize, head_dim: usize) -> Norm {
    let mut norm = parts.norm(module, head_dim);
    let module = |head: usize| parts.name(&format!("{module}.norms.{head}"));
    norm.modules = (0..heads).map(module).collect();
    norm.weight = Some(Learned {
        tensors: norm.tensors_named("weight"),
        shape: vec![head_dim],
    });
    norm.bias = None;
    norm
}
