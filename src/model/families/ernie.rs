//! ERNIE 4.5 (transformers `modeling_ernie4_5.py`, `modeling_ernie4_5_moe.py`): Llama with neighbouring
//! pairs rotated and biases everywhere or nowhere; experts chosen by corrected softmax scores.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    routed::{DEEPSEEK_V3, Style},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Score},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    ..Family::llama_like(
        "ernie4_5",
        "baidu/ERNIE-4.5-0.3B-PT",
        "`llama` with neighbouring pairs rotated, biases everywhere or nowhere, tied head",
        |config, names| llama_like::describe(config, names, &options(config)?, |_, _| Ok(())),
    )
};

/// Registry row.
pub(super) const MOE: Family = Family {
    defaults: &[
        ("num_key_value_heads", 4),
        ("max_position_embeddings", 131_072),
        ("moe_k", 6),
        ("moe_intermediate_size", 1536),
        ("moe_layer_interval", 1),
    ],
    other_names: &[
        ("num_experts", "moe_num_experts"),
        ("num_experts_per_tok", "moe_k"),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: &[
        "moe_capacity",
        "moe_gate",
        "moe_use_aux_free",
        "num_nextn_predict_layers",
    ],
    ..Family::llama_like(
        "ernie4_5_moe",
        "baidu/ERNIE-4.5-21B-A3B-PT",
        "`ernie4_5` with experts beside shared ones, softmax routing with correction; some layers may be dense",
        mixture,
    )
};

fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    let biased = config.flag_or("use_bias", false)?;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (biased, biased, biased);
    options.rope.theta = 5e5;
    options.rope.interleaved = true;
    options.tied = true;
    Ok(options)
}

fn mixture(config: &Config, names: &Names) -> Result<DecoderSpec> {
    // The sum of the weights is at least this: beneath it they would not be renormalised.
    if config.number_or("moe_norm_min", 1e-12)? > 1e-6 {
        return Err(config.refuse("moe_norm_min", "so large a floor is not computed"));
    }
    let options = options(config)?;
    let style = Style {
        count: "moe_num_experts",
        top_k: "moe_k",
        shared: ("moe_num_shared_experts", 2),
        scale: ("routed_scaling_factor", 1.0),
        groups: None,
        renormalise: None,
        score: Score::Softmax,
        correction: Some("mlp.moe_statics.e_score_correction_bias"),
        ..DEEPSEEK_V3
    };
    let config_of_experts = config.without(&["routed_scaling_factor"]);
    let mut routed = style.read(&config_of_experts, options.sizes.hidden)?;
    routed.shared_bias = options.mlp_bias;
    let first = config.number_or("moe_layer_start_index", 1.0)?;
    let last = match config.number_or("moe_layer_end_index", 27.0)? {
        -1.0 => f64::INFINITY,
        last => last,
    };
    let every = config.size("moe_layer_interval")?;
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        let index = parts.index;
        if (index + 1) % every == 0 && (first..=last).contains(&(index as f64)) {
            layer.mlp = routed.mlp(parts);
        }
        Ok(())
    })?;
    if options.mlp_bias {
        spec.head.linear.bias = Some(names.root("lm_head.bias"));
    }
    Ok(spec)
}
