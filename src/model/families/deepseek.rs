//! DeepSeek-V2 and V3 (transformers `modeling_deepseek_v2.py`, `modeling_deepseek_v3.py`):
//! multi-head latent attention, grouped routing, shared experts.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    llama_like::{self, Options},
    moe::{Mixture, USUAL, gated},
    parts::{LayerParts, NormStyle},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        rope_config::filled,
        spec::{
            Attention, DecoderSpec, ExpertGroups, Latent, LowRank, Mlp, Routing, Score, Shared,
        },
    },
};

/// Registry row.
pub(super) const V2: Family = Family {
    defaults: &[
        ("q_lora_rank", 1536),
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
    ],
    other_names: &[("num_experts", "n_routed_experts")],
    without_effect: &["ep_size", "head_dim", "num_key_value_heads", "qk_head_dim"],
    ..Family::llama_like(
        "deepseek_v2",
        "deepseek-ai/DeepSeek-V2-Lite",
        "multi-head latent attention, experts beside shared ones, grouped softmax routing",
        |config, names| describe(config, names, false),
    )
};

/// Registry row.
pub(super) const V3: Family = Family {
    defaults: &[
        ("q_lora_rank", 1536),
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
        ("max_position_embeddings", 4096),
    ],
    other_names: &[("num_local_experts", "n_routed_experts")],
    without_effect: &[
        "ep_size",
        "head_dim",
        "num_key_value_heads",
        "num_mtp_layers",
        "num_nextn_predict_layers",
        "qk_head_dim",
        "topk_method",
    ],
    ..Family::llama_like(
        "deepseek_v3",
        "deepseek-ai/DeepSeek-V3",
        "multi-head latent attention, experts beside shared ones, grouped sigmoid routing with correction",
        |config, names| describe(config, names, true),
    )
};

fn describe(config: &Config, names: &Names, third: bool) -> Result<DecoderSpec> {
    config.refuse_unless("moe_layer_freq", &Value::from(1))?;
    let scoring = if third { "sigmoid" } else { "softmax" };
    config.refuse_unless("scoring_func", &Value::from(scoring))?;
    let mut options = Options::read(config)?;
    options.mlp_bias &= !third;
    let hidden = options.sizes.hidden;
    let latent = LatentSizes::read(config, &options)?;
    let defaults = RopeDefaults {
        interleaved: !third || config.flag_or("rope_interleave", true)?,
        ..options.rope
    };
    let rope = Rope::from_config(config, latent.rope, options.sizes.positions, defaults)?;
    let scale = latent.scale(config)?;
    let dense = config.number_or("first_k_dense_replace", if third { 3.0 } else { 0.0 })?;
    let mixture = Mixture::read(config, "n_routed_experts")?;
    let inner = config.size("moe_intermediate_size")?;
    let shared = inner * config.size_or("n_shared_experts", if third { 1 } else { 2 })?;
    let routing = RoutingSettings::read(config, third)?;
    let without_ropes = config.without(&["rope_parameters", "rope_scaling"]);
    // The rotated width is the latent attention's own.
    options.sizes.head_dim = latent.rope;
    let mut spec = llama_like::describe(&without_ropes, names, &options, |parts, layer| {
        layer.attention = latent.attention(parts, scale);
        if parts.index as f64 >= dense {
            let mut experts = mixture.experts(parts, "mlp", USUAL, (hidden, inner));
            routing.apply(parts, &mut experts.routing);
            experts.shared = Some(Shared {
                mlp: gated(
                    parts,
                    "mlp.shared_experts",
                    USUAL,
                    (hidden, shared),
                    mixture.activation,
                    options.mlp_bias,
                ),
                gate: None,
            });
            layer.mlp = Mlp::Experts(Box::new(experts));
        }
        Ok(())
    })?;
    spec.ropes = vec![rope];
    Ok(spec)
}

/// Sizes of multi-head latent attention.
struct LatentSizes {
    hidden: usize,
    heads: usize,
    q_rank: Option<usize>,
    rank: usize,
    nope: usize,
    rope: usize,
    value: usize,
    biased: bool,
}

impl LatentSizes {
    fn read(config: &Config, options: &Options) -> Result<Self> {
        Ok(Self {
            hidden: options.sizes.hidden,
            heads: options.sizes.heads,
            q_rank: config.size_opt("q_lora_rank")?,
            rank: config.size("kv_lora_rank")?,
            nope: config.size("qk_nope_head_dim")?,
            rope: config.size("qk_rope_head_dim")?,
            value: config.size("v_head_dim")?,
            biased: options.qkv_bias,
        })
    }

    /// Factor on q.k, which grows with yarn's `mscale_all_dim`.
    fn scale(&self, config: &Config) -> Result<f32> {
        let mut scale = 1.0 / ((self.nope + self.rope) as f64).sqrt();
        let new = filled(config, "rope_parameters")?;
        if let Some(section) = new.or(filled(config, "rope_scaling")?) {
            let kind = section.text_or("rope_type", section.text_or("type", "default")?)?;
            let all = section.number_opt("mscale_all_dim")?.unwrap_or(0.0);
            let factor = section.number_opt("factor")?.unwrap_or(1.0);
            if kind != "default" && all != 0.0 && factor > 1.0 {
                scale *= (0.1 * all * factor.ln() + 1.0).powi(2);
            }
        }
        Ok(scale as f32)
    }

    fn attention(&self, parts: &LayerParts<'_>, scale: f32) -> Attention {
        // The norms of the latents keep their class's own epsilon.
        let norm = |module: &str, width| NormStyle::rms(1e-6).norm(&parts.name(module), width);
        let linear = |name: &str, inputs, outputs, biased| {
            parts.linear(&format!("self_attn.{name}"), inputs, outputs, biased)
        };
        let width = self.nope + self.rope;
        let q = match self.q_rank {
            None => LowRank::Full(linear("q_proj", self.hidden, self.heads * width, false)),
            Some(rank) => LowRank::Factored {
                down: linear("q_a_proj", self.hidden, rank, self.biased),
                norm: norm("self_attn.q_a_layernorm", rank),
                up: linear("q_b_proj", rank, self.heads * width, false),
            },
        };
        let both = self.rank + self.rope;
        let compress = |first, outputs| {
            linear("kv_a_proj_with_mqa", self.hidden, outputs, self.biased).part_of(first, both)
        };
        let stride = self.nope + self.value;
        let expand = |first, size| {
            linear("kv_b_proj", self.rank, self.heads * size, false).grouped(
                first,
                size,
                stride,
                self.heads * stride,
            )
        };
        let o = linear("o_proj", self.heads * self.value, self.hidden, self.biased);
        let latent = Latent {
            q,
            compress: compress(0, self.rank),
            norm: norm("self_attn.kv_a_layernorm", self.rank),
            k: expand(0, self.nope),
            v: expand(self.nope, self.value),
            k_rope: compress(self.rank, self.rope),
        };
        let mut attention = Attention::new(self.heads, self.heads, width, latent, o);
        attention.value_dim = self.value;
        attention.scale = scale;
        attention.rope = Some(0);
        attention.rope_first = self.nope;
        attention
    }
}

/// How tokens choose experts.
struct RoutingSettings {
    third: bool,
    groups: Option<ExpertGroups>,
    scale: f32,
    renormalise: bool,
}

impl RoutingSettings {
    fn read(config: &Config, third: bool) -> Result<Self> {
        let grouped = third
            || match config.text_or("topk_method", "greedy")? {
                "greedy" => false,
                "group_limited_greedy" => true,
                _ => return Err(config.refuse("topk_method", "not one that massact computes")),
            };
        if !third {
            // transformers does not compute it.
            config.refuse_unless("norm_topk_prob", &Value::Bool(false))?;
        }
        let groups = ExpertGroups {
            count: config.size_opt("n_group")?.unwrap_or(8),
            kept: config.size_opt("topk_group")?.unwrap_or(4),
            // The third version adds a group's two best, the second takes the best.
            best: if third { 2 } else { 1 },
        };
        Ok(Self {
            third,
            groups: grouped.then_some(groups),
            scale: config.number_or("routed_scaling_factor", if third { 2.5 } else { 1.0 })? as f32,
            renormalise: third && config.flag_or("norm_topk_prob", true)?,
        })
    }

    fn apply(&self, parts: &LayerParts<'_>, routing: &mut Routing) {
        routing.groups = self.groups;
        routing.scale = self.scale;
        routing.renormalise = self.renormalise;
        if self.third {
            routing.score = Score::Sigmoid;
            routing.correction = Some(parts.name("mlp.gate.e_score_correction_bias"));
        }
    }
}
