//! Hunyuan, dense and with experts (transformers `modeling_hunyuan_v1_dense.py`,
//! `modeling_hunyuan_v1_moe.py`): Llama with a norm on each query and key head behind the rotation.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    moe::{Mixture, USUAL, gated},
    parts::{LayerParts, activation},
    qwen3::head_norms,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mlp, Shared, TransformerLayer},
    },
};

/// Registry row.
pub(super) const DENSE: Family = Family {
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &[
        "add_classification_head",
        "attention_head_dim",
        "cla_share_factor",
        "class_num",
        "dense_list",
        "eod_token_id",
        "im_end_id",
        "im_newline_id",
        "im_start_id",
        "mask_init_id",
        "mlp_bias",
        "norm_type",
        "num_media_embeds",
        "org_vocab_size",
        "pool_type",
        "position_embedding_xdrope",
        // Where there is an `alpha`.
        "rope_parameters.beta_fast",
        "rope_parameters.beta_slow",
        "rope_parameters.factor",
        "rope_parameters.mscale",
        "rope_parameters.mscale_all_dim",
        "rope_scaling.beta_fast",
        "rope_scaling.beta_slow",
        "rope_scaling.factor",
        "rope_scaling.mscale",
        "rope_scaling.mscale_all_dim",
        "text_end_id",
        "text_start_id",
        "use_mixed_mlp_moe",
        "num_shared_expert",
        "use_rotary_pos_emb",
    ],
    renamed: &[
        ("self_attn.q_norm", "self_attn.query_layernorm"),
        ("self_attn.k_norm", "self_attn.key_layernorm"),
    ],
    ..Family::llama_like(
        "hunyuan_v1_dense",
        "tencent/Hunyuan-7B-Instruct",
        "`llama` with RMSNorm per query and key head behind the rotation, a base that `alpha` stretches",
        |config, names| describe(config, names, |_, _| Ok(())),
    )
};

/// Registry row.
pub(super) const MOE: Family = Family {
    model_type: "hunyuan_v1_moe",
    example: "tencent/Hunyuan-A13B-Instruct",
    notes: "`hunyuan_v1_dense` with experts beside a shared MLP, weights of the chosen renormalised",
    defaults: &[("num_experts", 1)],
    other_names: &[
        ("num_experts_per_tok", "moe_topk"),
        ("num_local_experts", "num_experts"),
    ],
    describe: |config, names| {
        // Of the published code, which transformers does not have.
        for key in ["use_cla", "use_mla"] {
            config.refuse_unless(key, &false.into())?;
        }
        let options = options(config)?;
        let (hidden, inner) = (options.sizes.hidden, options.sizes.inner);
        let top_k = visits(config, options.sizes.layers)?;
        let mut mixture = Mixture {
            count: config.experts("num_experts")?,
            top_k: 1,
            renormalise: true,
            activation: activation(config.text_or("hidden_act", "silu")?)?,
        };
        describe(config, names, |parts, layer| {
            mixture.top_k = top_k[parts.index];
            let mut experts = mixture.experts(parts, "mlp", USUAL, (hidden, inner));
            experts.routing.router = parts.linear("mlp.gate.wg", hidden, mixture.count, false);
            let (module, sizes) = ("mlp.shared_mlp", (hidden, inner));
            let mlp = gated(parts, module, USUAL, sizes, mixture.activation, false);
            experts.shared = Some(Shared { mlp, gate: None });
            layer.mlp = Mlp::Experts(Box::new(experts));
            Ok(())
        })
    },
    ..DENSE
};

/// Experts that a token visits, by layer: a number for all or a list.
fn visits(config: &Config, layers: usize) -> Result<Vec<usize>> {
    const KEY: &str = "moe_topk";
    if !config.get(KEY).is_some_and(serde_json::Value::is_array) {
        return Ok(vec![config.size_or(KEY, 1)?; layers]);
    }
    let list = config.indices_opt(KEY)?.unwrap_or_default();
    config.check_per_layer(KEY, &list, layers)?;
    let positive = |count: &u64| match usize::try_from(*count) {
        Ok(count @ 1..) => Ok(count),
        _ => Err(config.refuse(KEY, "a token has to visit experts")),
    };
    list.iter().map(positive).collect()
}

fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    options.rope.alpha = true;
    Ok(options)
}

fn describe(
    config: &Config,
    names: &Names,
    mut adjust: impl FnMut(&LayerParts<'_>, &mut TransformerLayer) -> Result<()>,
) -> Result<DecoderSpec> {
    let options = options(config)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        let attention = &mut layer.attention;
        attention.qk_norm = Some(head_norms(parts, options.sizes.head_dim));
        attention.rotates_first = true;
        adjust(parts, layer)
    })
}
