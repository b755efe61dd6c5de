//! Hy3 (transformers `modeling_hy_v3.py`): Qwen3's attention, experts beside a shared MLP, chosen by
//! sigmoid scores with a correction.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    qwen3::head_norms,
    routed::{DEEPSEEK_V3, Style, sparse_by_type},
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
        ("num_experts_per_tok", 8),
    ],
    other_names: &[("num_local_experts", "num_experts")],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &[
        // Of the precision in which the two sums meet.
        "enable_moe_fp32_combine",
        "first_k_dense_replace",
        "num_nextn_predict_layers",
    ],
    ..Family::llama_like(
        "hy_v3",
        "tencent/Hy3-preview",
        "attention as in `qwen3`, experts beside a shared MLP, sigmoid routing with correction",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.rope.theta = 11_158_840.0;
    let sizes = options.sizes;
    let sparse = sparse_by_type(config, sizes.layers, 1.0)?;
    let style = Style {
        count: "num_experts",
        shared: ("num_shared_experts", 1),
        scale: ("router_scaling_factor", 2.826),
        groups: None,
        renormalise: None,
        router: "mlp.router.gate",
        correction: Some("mlp.expert_bias"),
        shared_module: "mlp.shared_mlp",
        ..DEEPSEEK_V3
    };
    let mut routed = style.read(config, sizes.hidden)?;
    routed.shared_bias = options.mlp_bias;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        if sparse[parts.index] {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })
}
