//! LFM2 (transformers `modeling_lfm2.py`, `modeling_lfm2_moe.py`): gated short convolutions in most
//! layers, attention with a norm on each query and key head in the others.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options, Sizes},
    moe::Mixture,
    parts::{LayerParts, NormStyle, consecutive},
    qwen3::head_norms,
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, Convolution, DecoderSpec, Mixer, Mlp, Score, ShortConvolution,
            TransformerLayer, Vector,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 65_536),
        ("hidden_size", 2560),
        ("intermediate_size", 12_288),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 128_000),
        ("conv_L_cache", 3),
        ("block_multiple_of", 256),
    ],
    other_names: &[
        ("tie_embedding", "tie_word_embeddings"),
        ("block_ff_dim", "intermediate_size"),
    ],
    without_effect: &[
        "block_dim",
        // Without `block_auto_adjust_ff_dim`.
        "block_ffn_dim_multiplier",
        "block_mlp_init_scale",
        "block_multiple_of",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_swiglu",
        "block_use_xavier_init",
        "conv_dim",
        "conv_dim_out",
        "conv_use_xavier_init",
        // Where `layer_types` says it.
        "full_attn_idxs",
        "num_heads",
        "theta",
        "use_pos_enc",
    ],
    renamed: &[
        ("norm", "embedding_norm"),
        ("input_layernorm", "operator_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj.", "self_attn.out_proj."),
        ("self_attn.q_norm", "self_attn.q_layernorm"),
        ("self_attn.k_norm", "self_attn.k_layernorm"),
        ("mlp.gate_proj.", "feed_forward.w1."),
        ("mlp.up_proj.", "feed_forward.w3."),
        ("mlp.down_proj.", "feed_forward.w2."),
    ],
    ..Family::llama_like(
        "lfm2",
        "LiquidAI/LFM2-1.2B",
        "gated short convolutions in most layers, attention with RMSNorm per query and key head in the others, tied head",
        |config, names| {
            let mut options = options(config)?;
            options.sizes.inner = adjusted(config, options.sizes.inner)?;
            let attends = config.indices_opt("full_attn_idxs")?;
            let attends = |index| {
                let listed = |list: &Vec<u64>| list.contains(&(index as u64));
                attends.as_ref().is_none_or(listed)
            };
            let attends = match config.get("layer_types") {
                Some(_) => attention_layers(config, options.sizes.layers)?,
                None => (0..options.sizes.layers).map(attends).collect(),
            };
            describe(config, names, &options, &attends, |_, _| Ok(()))
        },
    )
};

/// Registry row.
pub(super) const MOE: Family = Family {
    model_type: "lfm2_moe",
    example: "LiquidAI/LFM2-8B-A1B",
    notes: "`lfm2` with experts, sigmoid routing with correction; the first layers are dense",
    defaults: &[
        ("vocab_size", 65_536),
        ("hidden_size", 2048),
        ("intermediate_size", 7168),
        ("moe_intermediate_size", 1792),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 128_000),
        ("conv_L_cache", 3),
        ("num_experts_per_tok", 4),
        ("num_experts", 32),
    ],
    other_names: &[("tie_embedding", "tie_word_embeddings")],
    describe: |config, names| {
        let options = options(config)?;
        let (hidden, inner) = (options.sizes.hidden, config.size("moe_intermediate_size")?);
        let attends = attention_layers(config, options.sizes.layers)?;
        let dense = config.number_or("num_dense_layers", 2.0)?;
        let mixture = Mixture {
            count: config.experts("num_experts")?,
            top_k: config.size("num_experts_per_tok")?,
            renormalise: config.flag_or("norm_topk_prob", true)?,
            activation: Activation::Silu,
        };
        let corrected = config.flag_or("use_expert_bias", true)?;
        let scale = config.number_or("routed_scaling_factor", 1.0)? as f32;
        describe(config, names, &options, &attends, |parts, layer| {
            if (parts.index as f64) < dense {
                return Ok(());
            }
            let names = ["w1", "w3", "w2"];
            let mut experts = mixture.experts(parts, "feed_forward", names, (hidden, inner));
            let routing = &mut experts.routing;
            routing.score = Score::Sigmoid;
            routing.scale = scale;
            routing.epsilon = 1e-6;
            routing.correction = corrected
                .then(|| Vector::new(parts.name("feed_forward.expert_bias"), mixture.count));
            layer.mlp = Mlp::Experts(Box::new(experts));
            Ok(())
        })
    },
    ..FAMILY
};

fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    options.norm = NormStyle::rms(config.number_or("norm_eps", 1e-5)?);
    options.rope.theta = 1e6;
    options.tied = true;
    Ok(options)
}

/// The MLP's width: the config has that of an MLP without gate, of which two thirds are left, rounded
/// up to a multiple.
fn adjusted(config: &Config, inner: usize) -> Result<usize> {
    if !config.flag_or("block_auto_adjust_ff_dim", true)? {
        return Ok(inner);
    }
    let inner = 2 * inner / 3;
    const FACTOR: &str = "block_ffn_dim_multiplier";
    let factor = match config.has(FACTOR) {
        true => config.number_opt(FACTOR)?,
        false => Some(1.0),
    };
    let inner = match factor {
        Some(factor) => {
            let multiple = config.size("block_multiple_of")?;
            ((inner as f64 * factor) as usize).next_multiple_of(multiple)
        }
        None => inner,
    };
    match inner {
        1..=0x7fff_ffff => Ok(inner),
        _ => Err(config.refuse(FACTOR, "it leaves no MLP that can be computed")),
    }
}

/// Which layers have attention.
fn attention_layers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let kinds = config.texts_opt(KEY)?.unwrap_or_default();
    config.check_per_layer(KEY, &kinds, layers)?;
    let attends = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(true),
        "conv" => Ok(false),
        other => Err(Error::new(
            "config.json",
            format!("`{KEY}` has `{other}`, which massact does not compute"),
        )
        .remedy("run `massact models` for what is supported")),
    };
    kinds.iter().map(attends).collect()
}

/// Attention where `attends` says so, convolutions elsewhere; `adjust` changes the MLPs.
fn describe(
    config: &Config,
    names: &Names,
    options: &Options,
    attends: &[bool],
    mut adjust: impl FnMut(&LayerParts<'_>, &mut TransformerLayer) -> Result<()>,
) -> Result<DecoderSpec> {
    let sizes = options.sizes;
    // The activation is SiLU, whatever the config says.
    let config = &config.with("hidden_act", "silu".into());
    let width = config.size("conv_L_cache")?;
    let biased = config.flag_or("conv_bias", false)?;
    let mut mixers = Vec::new();
    let mut spec = llama_like::describe(config, names, options, |parts, layer| {
        layer.attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        mixers.push(match attends[parts.index] {
            true => None,
            false => Some(convolution(parts, sizes, width, biased)),
        });
        adjust(parts, layer)
    })?;
    for (layer, mixer) in spec.layers.iter_mut().zip(mixers) {
        if mixer.is_some() {
            (layer.attention, layer.mixer) = (None, mixer);
        }
    }
    Ok(spec)
}

/// A layer's gated short convolution of as many channels as the residual stream has.
fn convolution(parts: &LayerParts<'_>, sizes: Sizes, width: usize, biased: bool) -> Mixer {
    let hidden = sizes.hidden;
    let fused = parts.linear("conv.in_proj", hidden, 3 * hidden, biased);
    let [b, c, x] = consecutive(&fused, [hidden; 3]);
    Mixer::ShortConvolution(Box::new(ShortConvolution {
        b,
        c,
        x,
        convolution: Convolution::new(&parts.name("conv.conv"), hidden, width, biased),
        out: parts.linear("conv.out_proj", hidden, hidden, biased),
    }))
}
