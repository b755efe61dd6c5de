//! Decoders that exist only inside multimodal models, with a `model_type` of their own. Their rotation
//! has three positions a token (M-RoPE, Qwen2-VL 2024), which are equal in a text.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family, exaone, glm, glm_moe,
    llama_like::{self, Options},
    moe::{self, Mixture},
    qwen2, qwen3,
};
use crate::{
    error::Result,
    model::{config::Config, names::Names, spec::DecoderSpec},
};

/// How the three positions share the pairs of a head, and windows, which most of these classes lack.
const WITHOUT_EFFECT: &[&str] = &[
    "max_window_layers",
    "rope_parameters.mrope_interleaved",
    "rope_parameters.mrope_section",
    "rope_scaling.mrope_interleaved",
    "rope_scaling.mrope_section",
    "sliding_window",
    "use_sliding_window",
];

const fn text(
    model_type: &'static str,
    describe: fn(&Config, &Names) -> Result<DecoderSpec>,
) -> Family {
    Family {
        without_effect: WITHOUT_EFFECT,
        ..Family::llama_like(model_type, "", "", describe)
    }
}

/// Every one of them.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        model_type: "exaone4_5_text",
        ..exaone::FOURTH
    },
    QWEN2_5_VL,
    Family {
        model_type: "qwen2_vl_text",
        ..QWEN2_5_VL
    },
    Family {
        defaults: &[
            ("num_key_value_heads", 32),
            ("head_dim", 128),
            ("max_position_embeddings", 128_000),
        ],
        ..text("qwen3_vl_text", |config, names| {
            let mut options = Options::read(config)?;
            options.mlp_bias = false;
            options.rope.theta = 5e5;
            llama_like::describe(config, names, &options, |parts, layer| {
                let norms = qwen3::head_norms(parts, options.sizes.head_dim);
                layer.attention.qk_norm = Some(norms);
                Ok(())
            })
        })
    },
    Family {
        defaults: &[
            ("num_key_value_heads", 16),
            ("max_position_embeddings", 128_000),
            ("num_experts", 60),
            ("num_experts_per_tok", 4),
            ("moe_intermediate_size", 1408),
        ],
        other_names: &[("num_local_experts", "num_experts")],
        ..text("qwen3_vl_moe_text", |config, names| {
            let mut options = Options::read(config)?;
            options.rope.theta = 5e5;
            let mixture = Mixture {
                renormalise: true,
                ..Mixture::read(config, "num_experts")?
            };
            moe::qwen3_moe(config, names, options, None, &mixture)
        })
    },
    Family {
        defaults: &[
            ("num_key_value_heads", 2),
            ("max_position_embeddings", 32_768),
        ],
        numbers: &[("rms_norm_eps", 1e-5)],
        ..text("glm4v_text", |config, names| {
            let mut options = glm::options(config)?;
            // Its projections know no other width of a head, its rotation does.
            let whole = options.sizes.hidden / options.sizes.heads;
            config.refuse_unless("head_dim", &Value::from(whole))?;
            // In this class the bias is no setting, and a whole head rotates unless the config says so.
            (options.qkv_bias, options.rope.partial) = (true, Some(1.0));
            glm::glm4(config, names, &options)
        })
    },
    Family {
        defaults: &[
            ("num_key_value_heads", 8),
            ("max_position_embeddings", 65_536),
            ("n_routed_experts", 128),
            ("num_experts_per_tok", 8),
            ("moe_intermediate_size", 1408),
        ],
        other_names: &[("num_local_experts", "n_routed_experts")],
        ..text("glm4v_moe_text", |config, names| {
            glm_moe::describe(config, names, false, true)
        })
    },
];

const QWEN2_5_VL: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 32_768),
        ("sliding_window", 4096),
    ],
    numbers: &[("max_window_layers", 80.0), ("rms_norm_eps", 1e-5)],
    ..text("qwen2_5_vl_text", |config, names| {
        qwen2::describe(config, names, 1e6)
    })
};
