//! Llama-like decoders with experts: Mixtral, OLMoE, FlexOlmo, Qwen2-MoE and Qwen3-MoE (transformers
//! `modeling_mixtral.py`, `modeling_olmoe.py`, `modeling_flex_olmo.py`, `modeling_qwen2_moe.py`,
//! `modeling_qwen3_moe.py`).
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    olmo::clip,
    olmo2::{place_norms, projection_norms},
    parts::{LayerParts, NormStyle, activation, consecutive, window, windows},
    qwen3::head_norms,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, DecoderSpec, Experts, GatedMlp, Linear, Mlp, Routing, Score, Shared,
            WeightLayout,
        },
    },
};

/// Registry row.
pub(super) const MIXTRAL: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("num_local_experts", 8),
        ("num_experts_per_tok", 2),
    ],
    other_names: &[("num_experts", "num_local_experts")],
    ..Family::llama_like(
        "mixtral",
        "mistralai/Mixtral-8x7B-v0.1",
        "Mistral with experts, weights of the chosen renormalised",
        mixtral,
    )
};

/// Registry row.
pub(super) const OLMOE: Family = Family {
    defaults: &[
        ("max_position_embeddings", 4096),
        ("num_experts", 64),
        ("num_experts_per_tok", 8),
    ],
    other_names: &[("num_local_experts", "num_experts")],
    ..Family::llama_like(
        "olmoe",
        "allenai/OLMoE-1B-7B-0924",
        "experts, RMSNorm over whole query and key projections, q, k and v clipped where the config says so",
        olmoe,
    )
};

/// Registry row.
pub(super) const QWEN2_MOE: Family = Family {
    defaults: &[
        ("num_key_value_heads", 16),
        ("max_position_embeddings", 32_768),
        ("num_experts", 60),
        ("num_experts_per_tok", 4),
        ("moe_intermediate_size", 1408),
        ("shared_expert_intermediate_size", 5632),
        ("sliding_window", 4096),
    ],
    // Without `use_sliding_window`.
    without_effect: &["sliding_window"],
    ..Family::llama_like(
        "qwen2_moe",
        "Qwen/Qwen1.5-MoE-A2.7B",
        "Qwen2 with experts beside a gated shared one; some layers may be dense",
        qwen2_moe,
    )
};

/// Registry row.
pub(super) const QWEN3_MOE: Family = Family {
    defaults: &[
        ("num_key_value_heads", 4),
        ("max_position_embeddings", 32_768),
        ("num_experts_per_tok", 8),
        ("moe_intermediate_size", 768),
        ("sliding_window", 4096),
    ],
    other_names: &[("num_local_experts", "num_experts")],
    without_effect: &["max_window_layers", "sliding_window"],
    ..Family::llama_like(
        "qwen3_moe",
        "Qwen/Qwen3-30B-A3B",
        "Qwen3 with experts; some layers may be dense",
        |config, names| {
            let slides = config.flag_or("use_sliding_window", false)?;
            let window = if slides { window(config)? } else { None };
            let mixture = Mixture::read(config, "num_experts")?;
            qwen3_moe(config, names, Options::read(config)?, window, &mixture)
        },
    )
};

/// Registry row.
pub(super) const FLEX_OLMO: Family = Family {
    defaults: &[
        ("max_position_embeddings", 4096),
        ("num_experts", 7),
        ("num_experts_per_tok", 5),
    ],
    other_names: &[("num_local_experts", "num_experts")],
    ..Family::llama_like(
        "flex_olmo",
        "allenai/FlexOlmo-7x7B-1T",
        "`olmo2` with experts",
        |config, names| {
            let mut options = Options::read(config)?;
            options.rope.theta = 5e5;
            let sizes = options.sizes;
            let mixture = Mixture::read(config, "num_experts")?;
            llama_like::describe(config, names, &options, |parts, layer| {
                place_norms(parts, sizes, layer);
                let experts = mixture.experts(parts, "mlp", USUAL, (sizes.hidden, sizes.inner));
                layer.mlp = Mlp::Experts(Box::new(experts));
                Ok(())
            })
        },
    )
};

/// A gated MLP, `{module}.{name}.weight` and perhaps `.bias` for gate, up and down.
pub(super) fn gated(
    parts: &LayerParts<'_>,
    module: &str,
    names: [&str; 3],
    (hidden, inner): (usize, usize),
    activation: Activation,
    biased: bool,
) -> GatedMlp {
    let linear = |name: &str, inputs, outputs| {
        parts.linear(&format!("{module}.{name}"), inputs, outputs, biased)
    };
    let [gate, up, down] = names;
    GatedMlp::new(
        linear(gate, hidden, inner),
        linear(up, hidden, inner),
        linear(down, inner, hidden),
        activation,
    )
}

/// Usual names of a gated MLP's projections.
pub(super) const USUAL: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// What the routing of these families has in common.
pub(super) struct Mixture {
    pub(super) count: usize,
    pub(super) top_k: usize,
    pub(super) renormalise: bool,
    pub(super) activation: Activation,
}

impl Mixture {
    pub(super) fn read(config: &Config, count: &str) -> Result<Self> {
        Ok(Self {
            count: config.experts(count)?,
            top_k: config.size("num_experts_per_tok")?,
            renormalise: config.flag_or("norm_topk_prob", false)?,
            activation: activation(config.text_or("hidden_act", "silu")?)?,
        })
    }

    /// The module of Mixtral's experts, as published or as transformers keeps it in memory.
    pub(super) fn module(&self, parts: &LayerParts<'_>) -> &'static str {
        match parts.names.shape(&parts.name("mlp.gate.weight")) {
            Some(_) => "mlp",
            None => "block_sparse_moe",
        }
    }

    /// An expert of those that transformers keeps in two tensors, `[experts, 2 inner, hidden]` with
    /// gate before up, and `[experts, hidden, inner]`, where they are stored so; Qwen3-VL's files have
    /// the last two axes in the other order, which their sizes tell.
    fn stacked(
        &self,
        parts: &LayerParts<'_>,
        module: &str,
        (hidden, inner): (usize, usize),
    ) -> Option<GatedMlp> {
        let name = |name: &str| parts.name(&format!("{module}.experts.{name}"));
        let fused = name("gate_up_proj");
        parts.names.shape(&fused)?;
        let linear = |name: String, inputs, outputs| {
            let turned = [self.count, inputs, outputs];
            let turned = inputs != outputs && parts.names.shape(&name) == Some(&turned);
            let linear = Linear::new(name, inputs, outputs).stacked(self.count);
            if turned {
                linear.with_layout(WeightLayout::InOut)
            } else {
                linear
            }
        };
        let fused = linear(fused, hidden, 2 * inner);
        let [gate, up] = consecutive(&fused, [inner, inner]);
        let down = linear(name("down_proj"), inner, hidden);
        Some(GatedMlp::new(gate, up, down, self.activation))
    }

    /// Softmax routing over experts `{module}.experts.{number}`, or over stacked ones.
    pub(super) fn experts(
        &self,
        parts: &LayerParts<'_>,
        module: &str,
        names: [&str; 3],
        sizes: (usize, usize),
    ) -> Experts {
        let stacked = self.stacked(parts, module, sizes);
        let expert = format!("{module}.experts.{{}}");
        Experts {
            count: self.count,
            expert: stacked
                .unwrap_or_else(|| gated(parts, &expert, names, sizes, self.activation, false)),
            routing: Routing {
                router: parts.linear(&format!("{module}.gate"), sizes.0, self.count, false),
                score: Score::Softmax,
                correction: None,
                table: None,
                groups: None,
                top_k: self.top_k,
                renormalise: self.renormalise,
                epsilon: 1e-20,
                scale: 1.0,
            },
            latent: None,
            weighted_inputs: false,
            shared: None,
        }
    }

    /// These experts beside a shared one with a gate.
    pub(super) fn beside_shared(&self, parts: &LayerParts<'_>, sizes: MixtureSizes) -> Mlp {
        let hidden = sizes.hidden;
        let mut experts = self.experts(parts, "mlp", USUAL, (hidden, sizes.inner));
        experts.shared = Some(Shared {
            mlp: gated(
                parts,
                "mlp.shared_expert",
                USUAL,
                (hidden, sizes.shared),
                self.activation,
                false,
            ),
            gate: Some(parts.linear("mlp.shared_expert_gate", hidden, 1, false)),
        });
        Mlp::Experts(Box::new(experts))
    }
}

/// Widths of experts and of a shared one beside them.
#[derive(Debug, Clone, Copy)]
pub(super) struct MixtureSizes {
    hidden: usize,
    inner: usize,
    shared: usize,
}

impl MixtureSizes {
    /// Reads the usual keys.
    pub(super) fn read(config: &Config, hidden: usize) -> Result<Self> {
        Ok(Self {
            hidden,
            inner: config.size("moe_intermediate_size")?,
            shared: config.size("shared_expert_intermediate_size")?,
        })
    }
}

fn mixtral(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias) = (false, false);
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    options.rope.theta = 1e6;
    let sizes = options.sizes;
    let window = window(config)?;
    let mixture = Mixture {
        renormalise: true,
        ..Mixture::read(config, "num_local_experts")?
    };
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = window;
        let sizes = (sizes.hidden, sizes.inner);
        let module = mixture.module(parts);
        let experts = mixture.experts(parts, module, ["w1", "w3", "w2"], sizes);
        layer.mlp = Mlp::Experts(Box::new(experts));
        Ok(())
    })
}

fn olmoe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    let sizes = options.sizes;
    let clip = clip(config)?;
    let mixture = Mixture::read(config, "num_experts")?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.clip = clip;
        layer.attention.qk_norm = Some(projection_norms(parts, sizes));
        let experts = mixture.experts(parts, "mlp", USUAL, (sizes.hidden, sizes.inner));
        layer.mlp = Mlp::Experts(Box::new(experts));
        Ok(())
    })
}

/// Which layers have experts.
pub(super) fn sparse_layers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    let dense = config.indices_opt("mlp_only_layers")?.unwrap_or_default();
    let step = config.size_or("decoder_sparse_step", 1)?;
    Ok((0..layers)
        .map(|index| !dense.contains(&(index as u64)) && (index + 1) % step == 0)
        .collect())
}

fn qwen2_moe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.qkv_bias = config.flag_or("qkv_bias", true)?;
    (options.o_bias, options.mlp_bias) = (false, false);
    let hidden = options.sizes.hidden;
    let slides = config.flag_or("use_sliding_window", false)?;
    // Unused windows may be 0.
    let window = if slides { window(config)? } else { None };
    let last = config.number_or("max_window_layers", 28.0)?;
    let windows = windows(config, options.sizes.layers, window, |index| {
        index % 2 == 0 && (index as f64) < last
    })?;
    let sparse = sparse_layers(config, options.sizes.layers)?;
    let mixture = Mixture::read(config, "num_experts")?;
    let sizes = MixtureSizes::read(config, hidden)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        if sparse[parts.index] {
            layer.mlp = mixture.beside_shared(parts, sizes);
        }
        Ok(())
    })
}

/// Qwen3 with this window in every layer and this mixture in some.
pub(super) fn qwen3_moe(
    config: &Config,
    names: &Names,
    mut options: Options,
    window: Option<usize>,
    mixture: &Mixture,
) -> Result<DecoderSpec> {
    options.mlp_bias = false;
    let sizes = options.sizes;
    let sparse = sparse_layers(config, sizes.layers)?;
    let inner = config.size("moe_intermediate_size")?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = window;
        layer.attention.qk_norm = Some(head_norms(parts, sizes.head_dim));
        if sparse[parts.index] {
            let experts = mixture.experts(parts, "mlp", USUAL, (sizes.hidden, inner));
            layer.mlp = Mlp::Experts(Box::new(experts));
        }
        Ok(())
    })
}
