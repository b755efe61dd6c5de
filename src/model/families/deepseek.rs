//! DeepSeek-V2, V3 and the latter's relatives (transformers `modeling_deepseek_v2.py`,
//! `modeling_deepseek_v3.py`, `modeling_deepseek_v32.py`, `modeling_glm_moe_dsa.py`,
//! `modeling_glm4_moe_lite.py`): multi-head latent attention, grouped routing, shared experts.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    latent::{self, LatentSizes},
    llama_like::Options,
    parts::{LayerParts, NormStyle},
    routed::{DEEPSEEK_V3, Style, sparse_by_type},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{DecoderSpec, ExpertGroups, Indexer, KeyChoice, Score},
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
        second,
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
        // Of the configs inside multimodal ones.
        ("moe_intermediate_size", 2048),
        ("n_routed_experts", 256),
        ("num_experts_per_tok", 8),
    ],
    other_names: &[("num_local_experts", "n_routed_experts")],
    without_effect: WITHOUT_EFFECT,
    ..Family::llama_like(
        "deepseek_v3",
        "deepseek-ai/DeepSeek-V3",
        "multi-head latent attention, experts beside shared ones, grouped sigmoid routing with correction",
        |config, names| {
            let first = config.number_or("first_k_dense_replace", 3.0)?;
            let interleaved = config.flag_or("rope_interleave", true)?;
            third(config, names, DEEPSEEK_V3, interleaved, |layers| {
                Ok((0..layers).map(|index| index as f64 >= first).collect())
            })
        },
    )
};

/// Registry row.
pub(super) const KIMI_K2: Family = Family {
    model_type: "kimi_k2",
    example: "moonshotai/Kimi-K2-Base",
    notes: "an alias of `deepseek_v3`",
    ..V3
};

/// Registry row.
pub(super) const V32: Family = Family {
    defaults: &[
        ("q_lora_rank", 1536),
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
        ("max_position_embeddings", 163_840),
        ("index_topk", 2048),
        ("index_head_dim", 128),
        ("index_n_heads", 64),
    ],
    other_names: &[
        ("num_local_experts", "n_routed_experts"),
        ("num_experts", "n_routed_experts"),
    ],
    ..Family {
        model_type: "deepseek_v32",
        example: "deepseek-ai/DeepSeek-V3.2-Exp",
        notes: "`deepseek_v3` with an indexer that picks the keys that a query sees",
        describe: |config, names| indexed(config, names, DEEPSEEK_V3, false),
        ..V3
    }
};

/// Registry row.
pub(super) const GLM_MOE_DSA: Family = Family {
    defaults: &[
        ("q_lora_rank", 2048),
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 192),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 256),
        ("max_position_embeddings", 202_752),
        ("index_topk", 2048),
        ("index_head_dim", 128),
        ("index_n_heads", 32),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    model_type: "glm_moe_dsa",
    example: "zai-org/GLM-5",
    notes: "`deepseek_v32` whose layers may share an indexer, experts in one group",
    describe: |config, names| {
        let style = Style {
            groups: Some([1, 1]),
            ..DEEPSEEK_V3
        };
        indexed(config, names, style, true)
    },
    ..V32
};

/// Registry row.
pub(super) const GLM4_MOE_LITE: Family = Family {
    defaults: &[
        ("q_lora_rank", 768),
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 192),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 256),
        ("max_position_embeddings", 202_752),
        ("moe_intermediate_size", 1536),
        ("n_routed_experts", 64),
        ("num_experts_per_tok", 4),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    model_type: "glm4_moe_lite",
    example: "zai-org/GLM-4.7-Flash",
    notes: "`deepseek_v3` with experts in one group, dense layers by a list",
    describe: |config, names| {
        let style = Style {
            groups: Some([1, 1]),
            scale: ("routed_scaling_factor", 1.8),
            ..DEEPSEEK_V3
        };
        let interleaved = config.flag_or("rope_interleave", true)?;
        third(config, names, style, interleaved, |layers| {
            sparse_by_type(config, layers, 1.0)
        })
    },
    ..V3
};

const WITHOUT_EFFECT: &[&str] = &[
    "ep_size",
    // In families that have lists of the kinds of layers.
    "first_k_dense_replace",
    "head_dim",
    "index_share_for_mtp_iteration",
    "index_skip_topk_offset",
    "index_topk_freq",
    "index_topk_pattern",
    "indexer_rope_interleave",
    "indexer_types",
    "layer_types",
    "num_key_value_heads",
    "num_mtp_layers",
    "num_nextn_predict_layers",
    "qk_head_dim",
    "rope_interleave",
    "topk_method",
];

fn second(config: &Config, names: &Names) -> Result<DecoderSpec> {
    config.refuse_unless("moe_layer_freq", &Value::from(1))?;
    config.refuse_unless("scoring_func", &Value::from("softmax"))?;
    // transformers does not compute it.
    config.refuse_unless("norm_topk_prob", &Value::Bool(false))?;
    let style = Style {
        shared: ("n_shared_experts", 2),
        scale: ("routed_scaling_factor", 1.0),
        renormalise: Some(false),
        score: Score::Softmax,
        correction: None,
        ..DEEPSEEK_V3
    };
    let options = Options::read(config)?;
    let mut routed = style.read(config, options.sizes.hidden)?;
    routed.shared_bias = options.mlp_bias;
    routed.groups = match config.text_or("topk_method", "greedy")? {
        "greedy" => None,
        // The best of a group, not the sum of its two best.
        "group_limited_greedy" => routed
            .groups
            .map(|groups| ExpertGroups { best: 1, ..groups }),
        _ => return Err(config.refuse("topk_method", "not one that massact computes")),
    };
    let latent = LatentSizes::read(config, &options)?;
    let defaults = RopeDefaults {
        interleaved: true,
        ..options.rope
    };
    let rope = Rope::from_config(config, latent.rope, options.sizes.positions, defaults)?;
    let dense = config.number_or("first_k_dense_replace", 0.0)?;
    latent::describe(config, names, options, &latent, rope, |parts, layer| {
        if parts.index as f64 >= dense {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })
}

/// The third version, whose experts have this style; `sparse` says which layers have some.
fn third(
    config: &Config,
    names: &Names,
    style: Style,
    interleaved: bool,
    sparse: impl FnOnce(usize) -> Result<Vec<bool>>,
) -> Result<DecoderSpec> {
    config.refuse_unless("moe_layer_freq", &Value::from(1))?;
    config.refuse_unless("scoring_func", &Value::from("sigmoid"))?;
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let routed = style.read(config, options.sizes.hidden)?;
    let latent = LatentSizes::read(config, &options)?;
    let defaults = RopeDefaults {
        interleaved,
        ..options.rope
    };
    let rope = Rope::from_config(config, latent.rope, options.sizes.positions, defaults)?;
    let sparse = sparse(options.sizes.layers)?;
    latent::describe(config, names, options, &latent, rope, |parts, layer| {
        if sparse[parts.index] {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })
}

/// With an indexer in every layer, or, where layers may `share` one, in some.
fn indexed(config: &Config, names: &Names, style: Style, share: bool) -> Result<DecoderSpec> {
    let first = config.number_or("first_k_dense_replace", 3.0)?;
    let mut spec = third(config, names, style, true, |layers| {
        sparse_by_type(config, layers, first)
    })?;
    let sizes = IndexerSizes {
        most: config.size("index_topk")?,
        heads: config.heads("index_n_heads")?,
        head_dim: config.size("index_head_dim")?,
        hidden: spec.hidden_size,
        rank: config.size("q_lora_rank")?,
        // One rotates neighbours there, too, the other halves.
        rope: usize::from(!share),
    };
    if sizes.head_dim < spec.ropes[0].dims {
        return Err(config.refuse(
            "index_head_dim",
            "its heads are narrower than what is rotated",
        ));
    }
    if !share {
        let halves = Rope {
            interleaved: false,
            ..spec.ropes[0].clone()
        };
        spec.ropes.push(halves);
    }
    let own = if share {
        own_indexers(config, spec.layers.len())?
    } else {
        vec![true; spec.layers.len()]
    };
    for (index, (layer, own)) in spec.layers.iter_mut().zip(own).enumerate() {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style: NormStyle::layer(1e-6),
        };
        if let Some(attention) = &mut layer.attention {
            attention.choice = Some(if own {
                KeyChoice::Own(Box::new(sizes.indexer(&parts)))
            } else {
                KeyChoice::Earlier
            });
        }
    }
    Ok(spec)
}

/// Which layers have an indexer of their own: `indexer_types` says it, or else a pattern, or else how often
/// one comes and how many layers begin with their own.
fn own_indexers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    const KINDS: &str = "indexer_types";
    const PATTERN: &str = "index_topk_pattern";
    let own = |key, kind: &str| match kind {
        "full" | "F" => Ok(true),
        "shared" | "S" => Ok(false),
        other => Err(config.refuse(
            key,
            &format!("it has `{other}`, which massact does not compute"),
        )),
    };
    let letters = |text: &str| text.chars().map(String::from).collect();
    let listed = match (config.texts_opt(KINDS)?, config.get(PATTERN)) {
        (Some(kinds), _) => Some((KINDS, kinds)),
        (None, Some(Value::String(text))) => Some((PATTERN, letters(text))),
        (None, Some(_)) => config.texts_opt(PATTERN)?.map(|kinds| (PATTERN, kinds)),
        (None, None) => None,
    };
    let own: Vec<bool> = match listed {
        Some((key, kinds)) => {
            config.check_per_layer(key, &kinds, layers)?;
            let own = kinds.iter().map(|kind| own(key, kind));
            own.collect::<Result<_>>()?
        }
        None => {
            let every = config.number_or("index_topk_freq", 1.0)?.max(1.0);
            let offset = config.number_or("index_skip_topk_offset", 2.0)?;
            (0..layers)
                .map(|index| (index as f64 - offset + 1.0).max(0.0) % every == 0.0)
                .collect()
        }
    };
    if own.first() == Some(&false) {
        return Err(config.refuse(KINDS, "its first layer has no choice of keys before it"));
    }
    Ok(own)
}

/// Sizes of indexers.
struct IndexerSizes {
    most: usize,
    heads: usize,
    head_dim: usize,
    hidden: usize,
    rank: usize,
    rope: usize,
}

impl IndexerSizes {
    fn indexer(&self, parts: &LayerParts<'_>) -> Indexer {
        let linear = |name: &str, inputs, outputs| {
            parts.linear(&format!("self_attn.indexer.{name}"), inputs, outputs, false)
        };
        Indexer {
            most: self.most,
            heads: self.heads,
            head_dim: self.head_dim,
            q: linear("wq_b", self.rank, self.heads * self.head_dim),
            k: linear("wk", self.hidden, self.head_dim),
            k_norm: parts.norm("self_attn.indexer.k_norm", self.head_dim),
            weights: linear("weights_proj", self.hidden, self.heads),
            rope: self.rope,
        }
    }
}
