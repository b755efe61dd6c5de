//! MiniMax-M2 (transformers `modeling_minimax_m2.py`): norms over whole query and key projections,
//! part of each head rotated, experts chosen by sigmoid scores with a correction.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    moe::Mixture,
    olmo2::projection_norms,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mlp, Score, Vector},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 196_608),
        ("num_experts_per_tok", 8),
    ],
    other_names: &[("num_experts", "num_local_experts")],
    without_effect: &[
        "attn_type_list",
        "attention_bias",
        "layernorm_full_attention_beta",
        "layernorm_linear_attention_beta",
        "layernorm_mlp_beta",
        "max_model_len",
        "mlp_bias",
        "mlp_intermediate_size",
        "moe_router_logit_scale",
        "mtp_transformer_layers",
        "norm_topk_prob",
        "num_mtp_modules",
        "qk_norm_type",
        "scoring_func",
        "shared_intermediate_size",
        "shared_moe_mode",
        "sliding_window",
        "swa_rope_theta",
        "use_mtp",
        "use_qk_norm",
        "use_routing_bias",
    ],
    ..Family::llama_like(
        "minimax_m2",
        "MiniMaxAI/MiniMax-M2",
        "RMSNorm over whole query and key projections, part of each head rotated, experts with sigmoid routing and correction",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    options.rope.theta = 5e6;
    let sizes = options.sizes;
    let rotated = config.size_opt("rotary_dim")?;
    options.rope.partial =
        Some(rotated.map_or(1.0, |rotated| rotated as f64 / sizes.head_dim as f64));
    let mixture = Mixture {
        renormalise: true,
        ..Mixture::read(config, "num_local_experts")?
    };
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.qk_norm = Some(projection_norms(parts, sizes));
        let module = mixture.module(parts);
        let expert = (sizes.hidden, sizes.inner);
        let mut experts = mixture.experts(parts, module, ["w1", "w3", "w2"], expert);
        experts.routing.score = Score::Sigmoid;
        let correction = format!("{module}.e_score_correction_bias");
        experts.routing.correction = Some(Vector::new(parts.name(&correction), experts.count));
        layer.mlp = Mlp::Experts(Box::new(experts));
        Ok(())
    })
}
