//! Mistral 4 (transformers `modeling_mistral4.py`): DeepSeek-V3's attention, softmax routing.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    latent::{self, LatentSizes},
    llama_like::Options,
    mistral::{OF_ROPE, grow, growing_queries},
    routed::{DEEPSEEK_V3, Style},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{DecoderSpec, Score},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("q_lora_rank", 1024),
        ("kv_lora_rank", 256),
        ("qk_nope_head_dim", 64),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
        ("max_position_embeddings", 1 << 20),
        ("moe_intermediate_size", 2048),
        ("n_routed_experts", 128),
        ("num_experts_per_tok", 4),
    ],
    other_names: &[("num_local_experts", "n_routed_experts")],
    without_effect: OF_ROPE,
    ..Family::llama_like(
        "mistral4",
        "mistralai/Mistral-Small-4-119B-2603",
        "multi-head latent attention as in `deepseek_v3`, softmax routing, queries that grow with their position",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let style = Style {
        scale: ("routed_scaling_factor", 1.0),
        groups: Some([1, 1]),
        score: Score::Softmax,
        correction: None,
        ..DEEPSEEK_V3
    };
    let routed = style.read(config, options.sizes.hidden)?;
    let yarn = br#"{"rope_type": "yarn", "rope_theta": 10000.0, "factor": 128.0, "mscale": 1.0,
        "original_max_position_embeddings": 8192, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}"#;
    let (section, growth) = growing_queries(config, yarn)?;
    let latent = LatentSizes::read(config, &options)?.scaled_by(&section)?;
    let width = latent.nope + latent.rope;
    // transformers takes a share of it for rotation.
    config.refuse_unless("head_dim", &Value::from(width))?;
    let defaults = RopeDefaults {
        partial: Some(latent.rope as f64 / width as f64),
        interleaved: config.flag_or("rope_interleave", true)?,
        ..options.rope
    };
    let positions = options.sizes.positions;
    let rope = Rope::from_section(config, Some(&section), width, positions, defaults)?;
    if rope.dims != latent.rope {
        return Err(section.refuse("partial_rotary_factor", "`qk_rope_head_dim` says otherwise"));
    }
    let dense = config.number_or("first_k_dense_replace", 0.0)?;
    let mut spec = latent::describe(config, names, options, &latent, rope, |parts, layer| {
        if parts.index as f64 >= dense {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })?;
    grow(&mut spec, growth);
    Ok(spec)
}
