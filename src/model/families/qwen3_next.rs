//! Qwen3-Next and Qwen3.5, dense and with experts (transformers `modeling_qwen3_next.py`,
//! `modeling_qwen3_5.py`, `modeling_qwen3_5_moe.py`): gated delta nets in three layers of four, gated
//! attention in the others.
#![forbid(unsafe_code)]

use super::{
    Family,
    gated_delta::{DeltaSizes, linear_layers, replace},
    llama_like::{self, Options},
    moe::{Mixture, MixtureSizes, sparse_layers},
    parts::{LayerParts, consecutive},
    qwen3::head_norms,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, GatedDelta, TransformerLayer},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 256),
        ("intermediate_size", 5632),
        ("max_position_embeddings", 32_768),
        ("linear_conv_kernel_dim", 4),
        ("linear_key_head_dim", 128),
        ("linear_value_head_dim", 128),
        ("linear_num_key_heads", 16),
        ("linear_num_value_heads", 32),
        ("num_experts", 512),
        ("num_experts_per_tok", 10),
        ("moe_intermediate_size", 512),
        ("shared_expert_intermediate_size", 512),
    ],
    without_effect: WITHOUT_EFFECT,
    ..Family::llama_like(
        "qwen3_next",
        "Qwen/Qwen3-Next-80B-A3B-Instruct",
        "gated delta nets in three layers of four, attention as in `qwen3` with a gate and partial rotation in the others, experts as in `qwen2_moe`",
        |config, names| {
            let renormalise = config.flag_or("norm_topk_prob", true)?;
            let mixture = Mixture {
                renormalise,
                ..Mixture::read(config, "num_experts")?
            };
            let options = options(config)?;
            let sizes = MixtureSizes::read(config, options.sizes.hidden)?;
            let sparse = sparse_layers(config, options.sizes.layers)?;
            describe(config, names, &options, fused, |parts, layer| {
                if sparse[parts.index] {
                    layer.mlp = mixture.beside_shared(parts, sizes);
                }
            })
        },
    )
};

/// Registry row.
pub(super) const QWEN3_5: Family = Family {
    defaults: &[
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 32_768),
        ("linear_conv_kernel_dim", 4),
        ("linear_key_head_dim", 128),
        ("linear_value_head_dim", 128),
        ("linear_num_key_heads", 16),
        ("linear_num_value_heads", 32),
    ],
    ..Family {
        model_type: "qwen3_5_text",
        example: "Qwen/Qwen3.5-27B",
        notes: "`qwen3_next` without experts, other tensors of its gated delta nets",
        describe: |config, names| describe(config, names, &options(config)?, separate, |_, _| ()),
        ..FAMILY
    }
};

/// Registry row.
pub(super) const QWEN3_5_MOE: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 256),
        // Every layer has experts.
        ("intermediate_size", 1),
        ("max_position_embeddings", 32_768),
        ("linear_conv_kernel_dim", 4),
        ("linear_key_head_dim", 128),
        ("linear_value_head_dim", 128),
        ("linear_num_key_heads", 16),
        ("linear_num_value_heads", 32),
        ("num_experts", 256),
        ("num_experts_per_tok", 8),
        ("moe_intermediate_size", 512),
        ("shared_expert_intermediate_size", 512),
    ],
    model_type: "qwen3_5_moe_text",
    example: "Qwen/Qwen3.5-35B-A3B",
    notes: "`qwen3_5_text` with experts as in `qwen3_next`, weights of the chosen always renormalised",
    describe: |config, names| {
        let mixture = Mixture {
            renormalise: true,
            ..Mixture::read(config, "num_experts")?
        };
        let options = options(config)?;
        let sizes = MixtureSizes::read(config, options.sizes.hidden)?;
        describe(config, names, &options, separate, |parts, layer| {
            layer.mlp = mixture.beside_shared(parts, sizes);
        })
    },
    ..QWEN3_5
};

/// Where a list says the kinds of layers; what every attention of these families has; how M-RoPE's three
/// positions, which are one in a text, share the pairs of a head.
const WITHOUT_EFFECT: &[&str] = &[
    "attn_output_gate",
    "full_attention_interval",
    "mamba_ssm_dtype",
    "mlp_only_layers",
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
    "output_gate_type",
    "rope_parameters.mrope_interleaved",
    "rope_parameters.mrope_section",
    "rope_scaling.mrope_interleaved",
    "rope_scaling.mrope_section",
];

fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    options.norm.offset = 1.0;
    options.rope.partial = Some(0.25);
    Ok(options)
}

/// The description; `net` knows the tensors of the delta nets, and `adjust` changes each layer further.
fn describe(
    config: &Config,
    names: &Names,
    options: &Options,
    net: fn(&LayerParts<'_>, &DeltaSizes) -> GatedDelta,
    adjust: impl Fn(&LayerParts<'_>, &mut TransformerLayer),
) -> Result<DecoderSpec> {
    let sizes = options.sizes;
    let delta = DeltaSizes::read(config, sizes.hidden)?;
    let interval = config.size_or("full_attention_interval", 4)?;
    let linear = linear_layers(config, sizes.layers, |index| {
        !(index + 1).is_multiple_of(interval)
    })?;
    let mut spec = llama_like::describe(config, names, options, |parts, layer| {
        layer.attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        layer.attention.gate_beside_queries(sizes.head_dim);
        adjust(parts, layer);
        Ok(())
    })?;
    replace(&mut spec, names, options.norm, &linear, |parts| {
        net(parts, &delta)
    });
    Ok(spec)
}

/// Qwen3-Next's: each key head's rows of queries, keys, values and gate together in one tensor, those of
/// beta and decay in another.
fn fused(parts: &LayerParts<'_>, sizes: &DeltaSizes) -> GatedDelta {
    let served = sizes.heads / sizes.key_heads;
    let (keys, values) = (sizes.key_dim, served * sizes.value_dim);
    let part = |name: &str, first: usize, size: usize, stride: usize| {
        let name = format!("linear_attn.{name}");
        let whole = parts.linear(&name, sizes.hidden, sizes.key_heads * size, false);
        whole.grouped(first, size, stride, sizes.key_heads * stride)
    };
    let stride = 2 * (keys + values);
    let qkvz = |first, size| part("in_proj_qkvz", first, size, stride);
    let ba = |first| part("in_proj_ba", first, served, 2 * served);
    sizes.net(
        parts,
        "linear_attn",
        [qkvz(0, keys), qkvz(keys, keys), qkvz(2 * keys, values)],
        [ba(served), ba(0)],
        qkvz(2 * keys + values, values),
    )
}

/// Qwen3.5's: one tensor for queries, keys and values, and one each for the others.
fn separate(parts: &LayerParts<'_>, sizes: &DeltaSizes) -> GatedDelta {
    let (keys, values) = (sizes.keys(), sizes.values());
    let linear = |name: &str, outputs| {
        parts.linear(&format!("linear_attn.{name}"), sizes.hidden, outputs, false)
    };
    let qkv = linear("in_proj_qkv", 2 * keys + values);
    sizes.net(
        parts,
        "linear_attn",
        consecutive(&qkv, [keys, keys, values]),
        ["in_proj_a", "in_proj_b"].map(|name| linear(name, sizes.heads)),
        linear("in_proj_z", values),
    )
}
