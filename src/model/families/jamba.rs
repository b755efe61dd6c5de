//! Jamba (transformers `modeling_jamba.py`): Mamba's layer in the place of attention in most layers,
//! experts in the place of the MLP in some, no positions.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    mamba::{Mamba, rank},
    moe::{Mixture, USUAL},
    parts::{LayerParts, activation},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mixer, Mlp},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("num_experts_per_tok", 2),
        ("num_experts", 16),
        ("expert_layer_period", 2),
        ("attn_layer_period", 8),
        ("mamba_d_state", 16),
        ("mamba_d_conv", 4),
        ("mamba_expand", 2),
    ],
    numbers: &[("expert_layer_offset", 1.0), ("attn_layer_offset", 4.0)],
    other_names: &[("num_local_experts", "num_experts")],
    without_effect: &[
        "attention_bias",
        "layer_types",
        "layers_block_type",
        "mamba_inner_layernorms",
        "max_position_embeddings",
        "mlp_bias",
        "num_logits_to_keep",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "sliding_window",
        "use_associative_scan",
        "use_mamba_kernels",
        "use_mambapy",
    ],
    renamed: &[
        ("mlp.gate.", "feed_forward.router."),
        ("mlp.", "feed_forward."),
        ("post_attention_layernorm", "pre_ff_layernorm"),
        ("norm", "final_layernorm"),
    ],
    ..Family::llama_like(
        "jamba",
        "ai21labs/AI21-Jamba-Reasoning-3B",
        "Mamba in the place of attention in most layers, experts in some, no positions",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    // Nothing is rotated, whatever the config says of it.
    let config = &config.without(&["rope_parameters", "rope_scaling", "rope_theta"]);
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    let sizes = options.sizes;
    let mamba = Mamba {
        hidden: sizes.hidden,
        inner: config.size("mamba_expand")? * sizes.hidden,
        state: config.size("mamba_d_state")?,
        rank: rank(config, "mamba_dt_rank", sizes.hidden)?,
        width: config.size("mamba_d_conv")?,
        convolution_bias: config.flag_or("mamba_conv_bias", true)?,
        bias: config.flag_or("mamba_proj_bias", false)?,
        activation: activation(config.text_or("hidden_act", "silu")?)?,
    };
    let attends = Every::read(config, "attn_layer_period", "attn_layer_offset")?;
    let sparse = Every::read(config, "expert_layer_period", "expert_layer_offset")?;
    let mixture = Mixture {
        renormalise: false,
        ..Mixture::read(config, "num_experts")?
    };
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.rope = None;
        if mixture.count > 1 && sparse.has(parts.index) {
            let sizes = (sizes.hidden, sizes.inner);
            let experts = mixture.experts(parts, "mlp", USUAL, sizes);
            layer.mlp = Mlp::Experts(Box::new(experts));
        }
        Ok(())
    })?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if attends.has(index) {
            continue;
        }
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style: options.norm,
        };
        let mut mixer = mamba.mixer(&parts, "mamba");
        mamba.normalise(&mut mixer, &parts, "mamba", options.norm);
        layer.attention = None;
        layer.mixer = Some(Mixer::SelectiveScan(Box::new(mixer)));
    }
    spec.ropes.clear();
    spec.max_positions = None;
    Ok(spec)
}

/// Every so many layers one, the first of them so many from the start.
struct Every {
    period: usize,
    offset: usize,
}

impl Every {
    fn read(config: &Config, period: &str, offset: &str) -> Result<Self> {
        let first = config.number_or(offset, 0.0)?;
        let period = config.size(period)?;
        if first < 0.0 || first.fract() != 0.0 || first >= period as f64 {
            return Err(config.refuse(offset, "a layer's number below the period is expected"));
        }
        Ok(Self {
            period,
            offset: first as usize,
        })
    }

    fn has(&self, index: usize) -> bool {
        index % self.period == self.offset
    }
}
