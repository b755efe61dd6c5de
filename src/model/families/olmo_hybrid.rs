//! OLMo Hybrid (transformers `modeling_olmo_hybrid.py`): gated delta nets in three layers of four,
//! attention as in OLMo 2 in the others.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    gated_delta::{DeltaSizes, linear_layers, replace},
    llama_like::{self, Options},
    olmo2::place_norms,
    parts::{LayerParts, NormStyle},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope_config::filled,
        spec::{DecoderSpec, GatedDelta, Norm, Norms},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("max_position_embeddings", 65_536),
        ("linear_conv_kernel_dim", 4),
    ],
    // Where training starts; what scales no rotation.
    without_effect: &[
        "linear_a_log_max",
        "linear_a_log_min",
        "linear_dt_init_floor",
        "linear_dt_max",
        "linear_dt_min",
        "rope_parameters.rope_type",
    ],
    ..Family::llama_like(
        "olmo_hybrid",
        "allenai/Olmo-Hybrid-7B",
        "gated delta nets as in `qwen3_next`, with negative eigenvalues, in three layers of four, layers of `olmo2` without windows, with or without rotation, between them",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let sizes = options.sizes;
    let delta = delta_sizes(config, &options)?;
    let last = sizes.layers - 1;
    // A short model has attention at its end.
    let linear = linear_layers(config, sizes.layers, |index| {
        index % 4 != 3 && (index != last || last > 2)
    })?;
    let negative = config.flag_or("linear_allow_neg_eigval", true)?;
    options.rotates = rotates(config)?;
    if !options.rotates {
        config.without_effect(&["rope_parameters", "rope_scaling", "rope_theta"]);
    }
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        if linear[parts.index] {
            layer.attention_norms = Norms::before(norm(parts, LINEAR[0], sizes.hidden));
            layer.mlp_norms = Norms::before(norm(parts, LINEAR[1], sizes.hidden));
        } else {
            place_norms(parts, sizes, layer);
            layer.attention_norms = Norms::after(norm(parts, FULL, sizes.hidden));
        }
        Ok(())
    })?;
    replace(&mut spec, names, options.norm, &linear, |parts| {
        let mut net = net(parts, &delta);
        if negative {
            net.beta_scale = 2.0;
        }
        net
    });
    Ok(spec)
}

/// Names of the norms of a layer without attention, as published and as transformers keeps them in memory.
const LINEAR: [[&str; 2]; 2] = [
    ["attention_layer_norm", "input_layernorm"],
    ["feedforward_layer_norm", "post_attention_layernorm"],
];

/// Names of the norm of attention's output: transformers saves it by the name of another layer's.
const FULL: [&str; 2] = ["post_attention_layernorm", "feedforward_layer_norm"];

/// The norm that is stored by one of these names.
fn norm(parts: &LayerParts<'_>, [usual, other]: [&str; 2], width: usize) -> Norm {
    let stored = |module: &str| parts.names.shape(&parts.name(&format!("{module}.weight")));
    let name = if stored(usual).is_none() && stored(other).is_some() {
        other
    } else {
        usual
    };
    parts.norm(name, width)
}

/// Sizes that default to those of attention.
fn delta_sizes(config: &Config, options: &Options) -> Result<DeltaSizes> {
    let (hidden, heads) = (options.sizes.hidden, options.sizes.heads);
    let or_heads = |key: &str| match config.get(key) {
        Some(_) => config.heads(key),
        None => Ok(heads),
    };
    let key_heads = or_heads("linear_num_key_heads")?;
    let key_dim = config.size_opt("linear_key_head_dim")?;
    let key_dim = key_dim.unwrap_or((0.75 * hidden as f64 / key_heads as f64) as usize);
    let value_dim = config.size_opt("linear_value_head_dim")?;
    let config = config
        .with("linear_num_key_heads", Value::from(key_heads))
        .with(
            "linear_num_value_heads",
            Value::from(or_heads("linear_num_value_heads")?),
        )
        .with("linear_key_head_dim", Value::from(key_dim))
        .with(
            "linear_value_head_dim",
            Value::from(value_dim.unwrap_or(2 * key_dim)),
        );
    DeltaSizes::read(&config, hidden)
}

/// Whether queries and keys rotate: a base that is null says that they do not.
fn rotates(config: &Config) -> Result<bool> {
    let says = |section: Option<&Config>| {
        let own = section.filter(|section| section.has("rope_theta"));
        own.unwrap_or(config).raw("rope_theta") != Some(&Value::Null)
    };
    let sections = [
        filled(config, "rope_parameters")?,
        filled(config, "rope_scaling")?,
    ];
    match &sections {
        [Some(new), Some(old)] if says(Some(new)) != says(Some(old)) => Err(config.refuse(
            "rope_scaling",
            "beside `rope_parameters` that say something else of `rope_theta`",
        )),
        [new, old] => Ok(says(new.as_ref().or(old.as_ref()))),
    }
}

fn net(parts: &LayerParts<'_>, sizes: &DeltaSizes) -> GatedDelta {
    let linear = |name: &str, outputs| {
        parts.linear(&format!("linear_attn.{name}"), sizes.hidden, outputs, false)
    };
    let mut net = sizes.net(
        parts,
        "linear_attn",
        [
            linear("q_proj", sizes.keys()),
            linear("k_proj", sizes.keys()),
            linear("v_proj", sizes.values()),
        ],
        ["a_proj", "b_proj"].map(|name| linear(name, sizes.heads)),
        linear("g_proj", sizes.values()),
    );
    // Its class's own epsilon, whatever that of the others.
    net.norm = NormStyle::rms(1e-5).norm(&parts.name("linear_attn.o_norm"), sizes.value_dim);
    net.out = parts.linear("linear_attn.o_proj", sizes.values(), sizes.hidden, false);
    net
}
