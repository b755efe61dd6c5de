//! gpt-oss (transformers `modeling_gpt_oss.py`): experts with clamped SwiGLU in four-bit floats,
//! attention sinks, every other layer sliding.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{LayerParts, NormStyle, required_window, windows},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        rope_config::filled,
        spec::{
            Activation, DecoderSpec, Experts, GatedMlp, Linear, Mlp, Routing, Score, Vector,
            WeightLayout,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 64),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 128),
    ],
    other_names: &[("num_experts", "num_local_experts")],
    without_effect: &["experts_per_token", "initial_context_length"],
    ..Family::llama_like(
        "gpt_oss",
        "openai/gpt-oss-20b",
        "experts with clamped SwiGLU (MXFP4 or 16-bit), learned attention sinks, yarn, every other layer sliding, biases",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let biased = config.flag_or("attention_bias", true)?;
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias) = (biased, biased);
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    options.rope.theta = 1.5e5;
    let window = Some(required_window(config)?);
    let windows = windows(config, options.sizes.layers, window, |index| index % 2 == 0)?;
    let experts = ExpertSizes {
        hidden: options.sizes.hidden,
        inner: options.sizes.inner,
        count: config.experts("num_local_experts")?,
        top_k: config.size_or("num_experts_per_tok", 4)?,
        alpha: config.number_or("swiglu_alpha", 1.702)? as f32,
        limit: config.number_or("swiglu_limit", 7.0)? as f32,
    };
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        layer.attention.sinks = Some(Vector::new(
            parts.name("self_attn.sinks"),
            layer.attention.heads,
        ));
        layer.mlp = Mlp::Experts(Box::new(experts.describe(parts)));
        Ok(())
    })?;
    if config.get("rope_parameters").is_none() && filled(config, "rope_scaling")?.is_none() {
        // What the config class assumes.
        let yarn = Config::parse(
            br#"{"rope_type": "yarn", "factor": 32.0, "truncate": false,
                "original_max_position_embeddings": 4096}"#,
        )?;
        let sizes = options.sizes;
        let (width, positions) = (sizes.head_dim, sizes.positions);
        spec.ropes = vec![Rope::from_section(
            config,
            Some(&yarn),
            width,
            positions,
            options.rope,
        )?];
    }
    Ok(spec)
}

struct ExpertSizes {
    hidden: usize,
    inner: usize,
    count: usize,
    top_k: usize,
    alpha: f32,
    limit: f32,
}

impl ExpertSizes {
    fn describe(&self, parts: &LayerParts<'_>) -> Experts {
        let (hidden, inner) = (self.hidden, self.inner);
        let stacked = |name: &str, inputs, outputs| {
            let name = parts.name(&format!("mlp.experts.{name}"));
            Linear::new(name.clone(), inputs, outputs)
                .with_bias(Some(format!("{name}_bias")))
                .with_layout(WeightLayout::InOut)
                .stacked(self.count)
        };
        // Gate and up alternate.
        let gate_up =
            |first| stacked("gate_up_proj", hidden, inner).grouped(first, 1, 2, 2 * inner);
        let down = stacked("down_proj", inner, hidden);
        Experts {
            count: self.count,
            expert: GatedMlp {
                limit: Some(self.limit),
                up_offset: 1.0,
                ..GatedMlp::new(
                    gate_up(0),
                    gate_up(1),
                    down,
                    Activation::ScaledSilu(self.alpha),
                )
            },
            routing: Routing {
                router: parts.linear("mlp.router", hidden, self.count, true),
                // Softmax over the chosen logits is softmax over all, renormalised.
                score: Score::Softmax,
                correction: None,
                table: None,
                groups: None,
                top_k: self.top_k,
                renormalise: true,
                epsilon: 1e-20,
                scale: 1.0,
            },
            latent: None,
            weighted_inputs: false,
            shared: None,
        }
    }
}
