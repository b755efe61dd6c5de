//! Laguna (transformers `modeling_laguna.py`): attention whose output a softplus gates, with heads and a
//! rotation by layer; experts beside a shared MLP, chosen by sigmoid scores with a correction.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    llama_like::{self, Options, Sizes},
    moe::{Mixture, USUAL, gated},
    parts::{activation, required_window, sliding_layers},
    qwen3::head_norms,
    routed::sparse_by_type,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{Activation, DecoderSpec, Mlp, Score, Shared, Vector},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 100_352),
        ("hidden_size", 2048),
        ("intermediate_size", 8192),
        ("num_hidden_layers", 40),
        ("num_attention_heads", 48),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 512),
        ("moe_intermediate_size", 512),
        ("shared_expert_intermediate_size", 512),
        ("num_experts_per_tok", 8),
        ("num_experts", 256),
    ],
    // Rotation is by kind of layer.
    without_effect: &["partial_rotary_factor", "rope_scaling", "rope_theta"],
    ..Family::llama_like(
        "laguna",
        "poolside/Laguna-XS.2",
        "a softplus gate per head or value on the output of attention, query heads and rotation by layer, RMSNorm per query and key head, experts as in `minimax_m2` beside a shared MLP",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    for (key, allowed) in [
        ("moe_apply_router_weight_on_input", Value::from(false)),
        ("moe_router_logit_softcapping", Value::from(0)),
    ] {
        config.refuse_unless(key, &allowed)?;
    }
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let sizes = options.sizes;
    let per_head = gates_heads(config)?;
    let heads = heads(config, sizes)?;
    let slides = sliding_layers(config, sizes.layers, |_| false)?;
    let window = required_window(config)?;
    let sparse = sparse_by_type(config, sizes.layers, 1.0)?;
    let mixture = Mixture {
        renormalise: true,
        ..Mixture::read(config, "num_experts")?
    };
    let activation = activation(config.text_or("hidden_act", "silu")?)?;
    let inner = config.size("moe_intermediate_size")?;
    let shared = config.size("shared_expert_intermediate_size")?;
    let scale = config.number_or("moe_routed_scaling_factor", 1.0)? as f32;
    let ropes = ropes_by_kind(config, sizes, &slides, [(5e5, 0.5), (1e4, 1.0)], 1.0)?;
    let mut spec =
        llama_like::describe(&without_ropes(config), names, &options, |parts, layer| {
            let mut own = options;
            own.sizes.heads = heads[parts.index];
            let mut attention = llama_like::attention(parts, &own);
            attention.window = slides[parts.index].then_some(window);
            attention.rope = Some(usize::from(slides[parts.index]));
            attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
            let gates = if per_head {
                own.sizes.heads
            } else {
                own.sizes.q_width()
            };
            attention.gate = Some(parts.linear("self_attn.g_proj", sizes.hidden, gates, false));
            attention.gate_activation = Activation::Softplus;
            layer.attention = attention;
            if sparse[parts.index] {
                let mut experts = mixture.experts(parts, "mlp", USUAL, (sizes.hidden, inner));
                let routing = &mut experts.routing;
                (routing.score, routing.scale, routing.epsilon) = (Score::Sigmoid, scale, 0.0);
                // As published, or as transformers keeps it in memory.
                let stored = |published: &'static str, kept, probe: &str| {
                    let published_name = parts.name(&format!("{published}{probe}"));
                    parts
                        .names
                        .shape(&published_name)
                        .map_or(kept, |_| published)
                };
                let correction = "mlp.experts.e_score_correction_bias";
                let correction = stored(correction, "mlp.gate.e_score_correction_bias", "");
                routing.correction = Some(Vector::new(parts.name(correction), mixture.count));
                let module = stored("mlp.shared_expert", "mlp.shared_experts", ".up_proj.weight");
                let width = (sizes.hidden, shared);
                let mlp = gated(parts, module, USUAL, width, activation, false);
                experts.shared = Some(Shared { mlp, gate: None });
                layer.mlp = Mlp::Experts(Box::new(experts));
            }
            Ok(())
        })?;
    spec.ropes = ropes;
    Ok(spec)
}

/// Whether there is a gate for each head, not for each of its values.
fn gates_heads(config: &Config) -> Result<bool> {
    match config.raw("gating") {
        None | Some(Value::Bool(true)) => Ok(true),
        Some(Value::String(kind)) if kind == "per-head" => Ok(true),
        Some(Value::String(kind)) if kind == "per-element" => Ok(false),
        Some(_) => Err(config.refuse("gating", "massact knows true, per-head and per-element")),
    }
}

/// Query heads by layer.
fn heads(config: &Config, sizes: Sizes) -> Result<Vec<usize>> {
    const KEY: &str = "num_attention_heads_per_layer";
    let Some(list) = config.indices_opt(KEY)? else {
        return Ok(vec![sizes.heads; sizes.layers]);
    };
    config.check_per_layer(KEY, &list, sizes.layers)?;
    let some = |heads: &u64| match usize::try_from(*heads) {
        Ok(heads @ 1..=4096) => Ok(heads),
        _ => Err(config.refuse(KEY, "a layer has between 1 and 4096 heads")),
    };
    list.iter().map(some).collect()
}

/// Without what sets one rotation for all layers.
pub(super) fn without_ropes(config: &Config) -> Config {
    config.without(&[
        "partial_rotary_factor",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
    ])
}

/// The ropes of full and of sliding layers from the sections of `rope_parameters`; without it the bases
/// and shares of `usual`. `share` is rotated where a section without scaling does not say how much.
pub(super) fn ropes_by_kind(
    config: &Config,
    sizes: Sizes,
    slides: &[bool],
    usual: [(f64, f64); 2],
    share: f64,
) -> Result<Vec<Rope>> {
    const KEY: &str = "rope_parameters";
    let part = |share: f64| (sizes.head_dim as f64 * share) as usize;
    let kinds = ["full_attention", "sliding_attention"];
    let Some(both) = config.section(KEY)? else {
        let plain = |(theta, share)| Rope::plain(theta, part(share), false);
        return usual.into_iter().map(plain).collect();
    };
    both.refuse_unless("truncate", &Value::Bool(true))?;
    let mut ropes = Vec::new();
    for (index, kind) in kinds.into_iter().enumerate() {
        let Some(section) = both.section(kind)? else {
            if slides.contains(&(index == 1)) {
                let why = format!("it lacks the settings of `{kind}` layers");
                return Err(config.refuse(KEY, &why));
            }
            ropes.push(Rope::plain(1.0, 2, false)?);
            continue;
        };
        for key in ["rope_theta", "rope_type"] {
            if section.get(key).is_none() {
                return Err(section.refuse(key, "each kind of layers needs its own"));
            }
        }
        let scaled = section
            .get("rope_type")
            .is_some_and(|kind| kind != "default");
        let defaults = RopeDefaults {
            partial: Some(if scaled { 1.0 } else { share }),
            ..RopeDefaults::default()
        };
        // transformers looks `truncate` up beside the kinds of layers, not in their settings.
        let section = section.without(&["truncate"]);
        let (width, positions) = (sizes.head_dim, sizes.positions);
        let rope = Rope::from_section(&section, Some(&section), width, positions, defaults)?;
        ropes.push(rope);
    }
    Ok(ropes)
}
