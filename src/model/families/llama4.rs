//! Llama 4 (transformers `modeling_llama4.py`): attention within chunks, in some layers none of positions and
//! over all keys, and experts that read their tokens scaled.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options, Sizes},
    moe::{USUAL, gated},
    parts::{LayerParts, NormStyle, activation, consecutive},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, DecoderSpec, Experts, GatedMlp, Linear, Mlp, Norm, QkNorm, QueryGrowth,
            Routing, Score, Shared, WeightLayout,
        },
    },
};

/// Registry row.
pub(super) const TEXT: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
        ("intermediate_size", 8192),
        ("intermediate_size_mlp", 16_384),
        ("num_experts_per_tok", 1),
        ("num_local_experts", 16),
        ("attention_chunk_size", 8192),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    renamed: &[("mlp.", "feed_forward.")],
    without_effect: &[
        "for_llm_compressor",
        // Beside lists of the layers concerned.
        "interleave_moe_layer_step",
        "no_rope_layer_interval",
        "no_rope_layers",
        "rope_parameters.mrope_section",
    ],
    ..Family::llama_like(
        "llama4_text",
        "meta-llama/Llama-4-Scout-17B-16E",
        "attention within chunks, every fourth layer over all keys without rotation and with queries that grow, weightless norms of queries and keys, experts whose inputs are weighted beside a shared one",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    options.rope.theta = 5e5;
    options.rope.interleaved = true;
    let sizes = options.sizes;
    let rotates = rotating_layers(config, sizes.layers)?;
    let chunks = chunks(config, &rotates)?;
    let sparse = sparse_layers(config, sizes.layers)?;
    let mlp = MlpSizes::read(config, sizes)?;
    let qk_norm = config.flag_or("use_qk_norm", true)?;
    let growth = growth(config)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        let rotated = rotates[parts.index];
        if !rotated {
            layer.attention.rope = None;
            layer.attention.query_growth = growth;
        } else if qk_norm {
            let norm = head_norm(options.norm, sizes.head_dim);
            layer.attention.qk_norm = Some(QkNorm {
                q: norm.clone(),
                k: norm,
            });
            layer.attention.rotates_first = true;
        }
        layer.attention.chunk = chunks[parts.index];
        layer.mlp = if sparse[parts.index] {
            Mlp::Experts(Box::new(mlp.experts(parts)))
        } else {
            Mlp::Gated(mlp.gated(parts, "mlp", mlp.dense))
        };
        Ok(())
    })
}

/// A norm of heads without learned vectors.
fn head_norm(style: NormStyle, width: usize) -> Norm {
    Norm {
        modules: Vec::new(),
        weight: None,
        ..style.norm("", width)
    }
}

/// How queries of layers without rotation grow.
fn growth(config: &Config) -> Result<Option<QueryGrowth>> {
    let growth = QueryGrowth {
        rate: config.number_or("attn_scale", 0.1)? as f32,
        step: config.number_or("floor_scale", 8192.0)? as f32,
        offset: 1.0,
    };
    let grows = config.flag_or("attn_temperature_tuning", true)?;
    if grows && growth.step <= 0.0 {
        return Err(config.refuse("floor_scale", "it divides positions and must be positive"));
    }
    Ok(grows.then_some(growth))
}

/// Which layers rotate. The name of the list notwithstanding, 1 means that a layer does.
fn rotating_layers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "no_rope_layers";
    let list = config.indices_opt(KEY)?.unwrap_or_default();
    if list.is_empty() {
        let interval = config.size_or("no_rope_layer_interval", 4)?;
        return Ok((1..=layers).map(|number| number % interval != 0).collect());
    }
    config.check_per_layer(KEY, &list, layers)?;
    Ok(list.into_iter().map(|flag| flag != 0).collect())
}

/// The chunk of each layer: `layer_types` says which have one, or else those that rotate.
fn chunks(config: &Config, rotates: &[bool]) -> Result<Vec<Option<usize>>> {
    const KEY: &str = "layer_types";
    let chunk = config.size_opt("attention_chunk_size")?;
    let Some(kinds) = config.texts_opt(KEY)? else {
        return Ok(rotates
            .iter()
            .map(|rotates| chunk.filter(|_| *rotates))
            .collect());
    };
    config.check_per_layer(KEY, &kinds, rotates.len())?;
    let of_kind = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(None),
        "chunked_attention" if chunk.is_some() => Ok(chunk),
        "chunked_attention" => {
            Err(config.refuse(KEY, "it has chunks, and `attention_chunk_size` is not set"))
        }
        other => Err(Error::new(
            "config.json",
            format!("`{KEY}` has `{other}`, which massact does not compute"),
        )
        .remedy("run `massact models` for what is supported")),
    };
    kinds.iter().map(of_kind).collect()
}

/// Which layers have experts: those of a list, or every so many.
fn sparse_layers(config: &Config, layers: usize) -> Result<Vec<bool>> {
    if let Some(list) = config.indices_opt("moe_layers")? {
        return Ok((0..layers as u64)
            .map(|index| list.contains(&index))
            .collect());
    }
    let step = config.size_or("interleave_moe_layer_step", 1)?;
    Ok((1..=layers).map(|number| number % step == 0).collect())
}

/// What the MLPs of all layers share.
struct MlpSizes {
    hidden: usize,
    /// Inner width of dense layers, and of an expert.
    dense: usize,
    expert: usize,
    experts: usize,
    top_k: usize,
    activation: Activation,
}

impl MlpSizes {
    fn read(config: &Config, sizes: Sizes) -> Result<Self> {
        Ok(Self {
            hidden: sizes.hidden,
            dense: config.size("intermediate_size_mlp")?,
            expert: sizes.inner,
            experts: config.experts("num_local_experts")?,
            top_k: config.size("num_experts_per_tok")?,
            activation: activation(config.text_or("hidden_act", "silu")?)?,
        })
    }

    fn gated(&self, parts: &LayerParts<'_>, module: &str, inner: usize) -> GatedMlp {
        gated(
            parts,
            module,
            USUAL,
            (self.hidden, inner),
            self.activation,
            false,
        )
    }

    /// Experts in two tensors, `[experts, hidden, 2 inner]` with gate before up, and
    /// `[experts, inner, hidden]`.
    fn experts(&self, parts: &LayerParts<'_>) -> Experts {
        let stacked = |name: &str, inputs, outputs| {
            Linear::new(parts.name(&format!("mlp.experts.{name}")), inputs, outputs)
                .with_layout(WeightLayout::InOut)
                .stacked(self.experts)
        };
        let fused = stacked("gate_up_proj", self.hidden, 2 * self.expert);
        let [gate, up] = consecutive(&fused, [self.expert; 2]);
        let down = stacked("down_proj", self.expert, self.hidden);
        Experts {
            count: self.experts,
            expert: GatedMlp::new(gate, up, down, self.activation),
            routing: Routing {
                router: parts.linear("mlp.router", self.hidden, self.experts, false),
                score: Score::Sigmoid,
                correction: None,
                table: None,
                groups: None,
                top_k: self.top_k,
                renormalise: false,
                epsilon: 0.0,
                scale: 1.0,
            },
            latent: None,
            weighted_inputs: true,
            shared: Some(Shared {
                mlp: self.gated(parts, "mlp.shared_expert", self.expert),
                gate: None,
            }),
        }
    }
}
