//! Kimi Linear (transformers `modeling_kimi_linear.py`): delta nets with a decay per key channel in three
//! layers of four, DeepSeek's latent attention without rotation in the others, and its experts.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    gated_delta::{DeltaSizes, linear_layers, replace},
    latent::{self, LatentSizes},
    llama_like::Options,
    moe::{USUAL, gated},
    parts::{LayerParts, NormStyle, activation},
    routed::{DEEPSEEK_V3, Style, sparse_by_type},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        spec::{Activation, DecoderSpec, GatedDelta, Linear, Mlp, Narrowed, Vector},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("kv_lora_rank", 512),
        ("qk_nope_head_dim", 128),
        ("qk_rope_head_dim", 64),
        ("v_head_dim", 128),
        ("max_position_embeddings", 1_048_576),
        ("moe_intermediate_size", 1024),
        ("num_local_experts", 256),
        ("num_experts_per_tok", 8),
        ("linear_conv_kernel_dim", 4),
        ("linear_head_dim", 128),
        ("linear_num_heads", 32),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    other_names: &[
        ("model_max_length", "max_position_embeddings"),
        ("moe_renormalize", "norm_topk_prob"),
        ("num_expert_group", "n_group"),
        ("num_experts", "num_local_experts"),
        ("num_experts_per_token", "num_experts_per_tok"),
        ("num_shared_experts", "n_shared_experts"),
    ],
    without_effect: &[
        "first_k_dense_replace",
        "head_dim",
        // Where published configs have them in a section.
        "linear_conv_kernel_dim",
        "linear_head_dim",
        "linear_num_heads",
        "num_key_value_heads",
        "num_nextn_predict_layers",
        "qk_head_dim",
        "rope_interleave",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
    ],
    ..Family::llama_like(
        "kimi_linear",
        "moonshotai/Kimi-Linear-48B-A3B-Instruct",
        "gated delta nets with a decay per key channel in three layers of four, latent attention as in `deepseek_v3` without rotation, its experts",
        describe,
    )
};

/// Its experts, by the names that transformers has in memory.
const EXPERTS: Style = Style {
    count: "num_local_experts",
    scale: ("routed_scaling_factor", 2.446),
    groups: Some([1, 1]),
    ..DEEPSEEK_V3
};

/// By those of published files.
const PUBLISHED: Style = Style {
    module: SPARSE,
    names: ["w1", "w3", "w2"],
    router: "block_sparse_moe.gate",
    correction: Some("block_sparse_moe.gate.e_score_correction_bias"),
    shared_module: "block_sparse_moe.shared_experts",
    ..EXPERTS
};

/// The MLP's module in layers with experts; transformers saves it so in every layer.
const SPARSE: &str = "block_sparse_moe";

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    for (key, only) in [
        ("moe_layer_freq", Value::from(1)),
        ("moe_router_activation_func", Value::from("sigmoid")),
        ("mla_use_nope", Value::Bool(true)),
        ("use_grouped_topk", Value::Bool(true)),
    ] {
        config.refuse_unless(key, &only)?;
    }
    // Nothing rotates.
    let mut config = config.without(&["rope_parameters", "rope_scaling", "rope_theta"]);
    if config.raw("moe_renormalize") == Some(&Value::Null) {
        config = config.with("norm_topk_prob", Value::Bool(false));
    }
    let config = &config;
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let (hidden, inner) = (options.sizes.hidden, options.sizes.inner);
    let layers = options.sizes.layers;
    let stored = |index: usize, tensor: &str| {
        let name = names.layer("layers", index, &format!("{SPARSE}.{tensor}"));
        names.shape(&name).is_some()
    };
    let style = match (0..layers).any(|index| stored(index, "gate.weight")) {
        true => PUBLISHED,
        false => EXPERTS,
    };
    let routed = style.read(config, hidden)?;
    let first = config.number_or("first_k_dense_replace", 1.0)?;
    let sparse = sparse_by_type(config, layers, first)?;
    let (delta, linear) = nets(config, &options)?;
    let latent = LatentSizes::read(config, &options)?;
    let rope = Rope::from_config(config, latent.rope, options.sizes.positions, options.rope)?;
    let mut spec = latent::describe(config, names, options, &latent, rope, |parts, layer| {
        layer.attention.rope = None;
        if sparse[parts.index] {
            layer.mlp = routed.mlp(parts);
        } else if stored(parts.index, "gate_proj.weight") {
            let sizes = (hidden, inner);
            layer.mlp = Mlp::Gated(gated(parts, SPARSE, USUAL, sizes, delta.activation, false));
        }
        Ok(())
    })?;
    spec.ropes.clear();
    replace(&mut spec, names, options.norm, &linear, |parts| {
        net(parts, &delta)
    });
    Ok(spec)
}

/// Sizes of the delta nets and their layers, which published configs have in a section.
fn nets(config: &Config, options: &Options) -> Result<(DeltaSizes, Vec<bool>)> {
    let section = config.section("linear_attn_config")?.unwrap_or_default();
    let size = |of_section: &str, key: &str| match section.has(of_section) {
        true => section.size(of_section),
        false => config.size(key),
    };
    let head_dim = size("head_dim", "linear_head_dim")?;
    let heads = match section.has("num_heads") {
        true => section.heads("num_heads")?,
        false => config.heads("linear_num_heads")?,
    };
    let sizes = DeltaSizes {
        hidden: options.sizes.hidden,
        key_heads: heads,
        heads,
        key_dim: head_dim,
        value_dim: head_dim,
        width: size("short_conv_kernel_size", "linear_conv_kernel_dim")?,
        activation: activation(config.text_or("hidden_act", "silu")?)?,
    };
    let layers = options.sizes.layers;
    let listed = listed(&section, layers)?;
    let linear = linear_layers(config, layers, |index| match &listed {
        Some(linear) => linear[index],
        None => index == 0 || index % 4 != 0,
    })?;
    Ok((sizes, linear))
}

/// Which layers have no attention, of lists that count from 1 and together name each layer.
fn listed(section: &Config, layers: usize) -> Result<Option<Vec<bool>>> {
    const KEYS: [&str; 2] = ["kda_layers", "full_attn_layers"];
    let [Some(linear), Some(full)] = [section.indices_opt(KEYS[0])?, section.indices_opt(KEYS[1])?]
    else {
        return Ok(None);
    };
    let kinds = (1..=layers as u64)
        .map(
            |layer| match (linear.contains(&layer), full.contains(&layer)) {
                (true, false) => Some(true),
                (false, true) => Some(false),
                _ => None,
            },
        )
        .collect::<Option<Vec<bool>>>();
    if linear.len() + full.len() == layers && kinds.is_some() {
        return Ok(kinds);
    }
    Err(Error::new(
        "config.json",
        format!(
            "`{}` and `{}` do not name each of {layers} layers once",
            KEYS[0], KEYS[1]
        ),
    )
    .remedy("correct it in config.json, or take the file of the original model"))
}

/// A net with a decay per key channel; decay and gate come through a middle as wide as a head.
fn net(parts: &LayerParts<'_>, sizes: &DeltaSizes) -> GatedDelta {
    let linear = |name: &str, inputs, outputs| -> Linear {
        parts.linear(&format!("self_attn.{name}"), inputs, outputs, false)
    };
    let narrowed = |first: &str, last: &str| Narrowed {
        first: Some(linear(first, sizes.hidden, sizes.key_dim)),
        last: linear(last, sizes.key_dim, sizes.keys()),
    };
    let mut net = sizes.net(
        parts,
        "self_attn",
        ["q_proj", "k_proj", "v_proj"].map(|name| linear(name, sizes.hidden, sizes.keys())),
        ["b_proj"; 2].map(|name| linear(name, sizes.hidden, sizes.heads)),
        narrowed("g_a_proj", "g_b_proj"),
    );
    net.decay = narrowed("f_a_proj", "f_b_proj");
    net.per_channel = true;
    let a_log = parts.name("self_attn.A_log");
    if parts
        .names
        .shape(&a_log)
        .is_some_and(|shape| shape.len() > 1)
    {
        net.a_log = Vector::of_shape(a_log, vec![1, 1, sizes.heads, 1]);
    }
    net.dt_bias = Vector::new(parts.name("self_attn.dt_bias"), sizes.keys());
    net.norm = NormStyle::norm(
        parts.style,
        &parts.name("self_attn.o_norm"),
        sizes.value_dim,
    );
    net.gate_activation = Activation::Sigmoid;
    net.out = linear("o_proj", sizes.values(), sizes.hidden);
    net
}
