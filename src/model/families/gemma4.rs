//! Gemma 4 (transformers `modeling_gemma4.py`, `modeling_gemma4_unified.py`): Gemma 3 whose norms store
//! the factor itself, with a norm on the values, heads of another size in global layers, a scalar on
//! each layer's output; in some sizes experts beside the MLP, in others embeddings for each layer and
//! late layers that read the keys and values of earlier ones.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    gemma::embedding_scale,
    gemma_layers::{Embeddings, key_sources, share_or_norm},
    gemma2::{sandwich, soft_cap},
    llama_like::{self, Options, Sizes},
    moe::{USUAL, gated},
    parts::{LayerParts, activation, consecutive, required_window, sliding_layers},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{
            Activation, DecoderSpec, Experts, GatedMlp, Learned, Linear, Mlp, Norm, Norms,
            Projections, Routing, Score, SideBySide, Vector,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 262_144),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 30),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 512),
        ("vocab_size_per_layer_input", 262_144),
        ("hidden_size_per_layer_input", 256),
    ],
    computes: COMPUTES,
    // Where it is no part of `rope_parameters`.
    without_effect: &["rope_scaling", "rope_theta"],
    ..Family::llama_like(
        "gemma4_text",
        "google/gemma-4-31B",
        "Gemma 3 with a norm on the values, other heads in global layers, a scalar on each layer's output; experts beside the MLP (26B-A4B) or embeddings for each layer and shared keys and values (E2B, E4B)",
        |config, names| describe(config, names, true),
    )
};

/// Registry row.
pub(super) const UNIFIED: Family = Family {
    model_type: "gemma4_unified_text",
    example: "google/gemma-4-12B",
    notes: "`gemma4_text` without experts and embeddings for each layer",
    defaults: &[
        ("vocab_size", 262_144),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 30),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 262_144),
        ("sliding_window", 1024),
    ],
    without_effect: &[
        "enable_moe_block",
        "hidden_size_per_layer_input",
        "moe_intermediate_size",
        "num_experts",
        "rope_scaling",
        "rope_theta",
        "top_k_experts",
        "vocab_size_per_layer_input",
    ],
    describe: |config, names| describe(config, names, false),
    ..FAMILY
};

/// Bidirectional attention of images' tokens alone, which a text has none of, and the heads of layers.
const COMPUTES: &[&str] = &["per_layer_config", "use_bidirectional_attention"];

/// Gemma 4; `extras` are experts and embeddings for each layer, which one of the classes lacks.
fn describe(config: &Config, names: &Names, extras: bool) -> Result<DecoderSpec> {
    let bidirectional = config.get("use_bidirectional_attention");
    if bidirectional.is_some_and(|tokens| *tokens != "vision" && *tokens != false) {
        return Err(config.refuse(
            "use_bidirectional_attention",
            "every token would see the later ones, which massact does not compute",
        ));
    }
    let options = Options {
        tied: true,
        mlp_bias: false,
        ..Options::read(config)?
    };
    let sizes = options.sizes;
    let hidden = sizes.hidden;
    let slides = layer_kinds(config, sizes.layers)?;
    let of_layer = sizes_by_layer(config, sizes, &slides)?;
    let shared = config.number_or("num_kv_shared_layers", 0.0)?;
    let sources = key_sources(config, &slides, shared)?;
    let window = required_window(config)?;
    let activation = activation(config.text_or("hidden_activation", "gelu_pytorch_tanh")?)?;
    let same_values = config.flag_or("attention_k_eq_v", false)?;
    let wide = config.flag_or("use_double_wide_mlp", false)?;
    let sparse = match extras && config.flag_or("enable_moe_block", false)? {
        true => Some(Sparse::read(config, hidden, activation)?),
        false => {
            config.without_effect(&["moe_intermediate_size", "num_experts", "top_k_experts"]);
            None
        }
    };
    let per_layer = match extras {
        true => Embeddings::read(config, sizes, activation)?,
        false => None,
    };
    if per_layer.is_some_and(|own| own.rows < sizes.vocab) {
        return Err(config.refuse(
            "vocab_size_per_layer_input",
            "some tokens of the vocabulary would have no embedding for the layers",
        ));
    }
    let without_ropes = config.without(&["rope_parameters", "rope_scaling", "rope_theta"]);
    let mut spec = llama_like::describe(&without_ropes, names, &options, |parts, layer| {
        let (index, slides) = (parts.index, slides[parts.index]);
        let (sizes, source) = (of_layer[index], sources[index]);
        let mut attention = llama_like::attention(parts, &Options { sizes, ..options });
        attention.scale = 1.0;
        attention.window = slides.then_some(window);
        attention.rope = Some(usize::from(slides));
        if let Projections::Direct { k, v, .. } = &mut attention.projections
            && same_values
            && !slides
        {
            *v = k.clone();
        }
        share_or_norm(parts, &mut attention, source);
        layer.attention = attention;
        sandwich(parts, hidden, layer);
        let inner = match wide && source.is_some() {
            true => 2 * sizes.inner,
            false => sizes.inner,
        };
        let dense = gated(parts, "mlp", USUAL, (hidden, inner), activation, false);
        layer.mlp = match &sparse {
            None => Mlp::Gated(dense),
            Some(sparse) => {
                let before = layer.mlp_norms.input.take();
                Mlp::SideBySide(Box::new(sparse.beside(parts, dense, before)))
            }
        };
        Ok(())
    })?;
    spec.ropes = ropes(config, &of_layer, &slides)?;
    embedding_scale(&mut spec);
    spec.head.soft_cap = soft_cap(config, "final_logit_softcapping", None)?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style: options.norm,
        };
        layer.output_scale = Some(Vector::new(parts.name("layer_scalar"), 1));
        layer.per_layer = per_layer.map(|own| own.input(&parts));
    }
    spec.embedding.per_layer = per_layer.map(|own| own.embedding(names, options.norm));
    Ok(spec)
}

/// Which layers slide. The last one never does, whatever the config says.
fn layer_kinds(config: &Config, layers: usize) -> Result<Vec<bool>> {
    let mut slides = sliding_layers(config, layers, |index| (index + 1) % 6 != 0)?;
    if let Some(last) = slides.last_mut()
        && std::mem::take(last)
        && config.get("layer_types").is_some()
    {
        config.notice(
            "config.json: `layer_types` lets the last layer slide; as in transformers it attends to all tokens"
                .to_owned(),
        );
    }
    Ok(slides)
}

/// The sizes of each layer. Global layers have heads of their own: published configs have keys for
/// these, and those that transformers saves a list of what single layers have.
fn sizes_by_layer(config: &Config, sizes: Sizes, slides: &[bool]) -> Result<Vec<Sizes>> {
    const SINGLE: &str = "per_layer_config";
    let mut all = vec![sizes; slides.len()];
    if config.raw(SINGLE).is_none() {
        let kv_heads = match config.flag_or("attention_k_eq_v", false)? {
            true => config.size_opt("num_global_key_value_heads")?,
            false => None,
        };
        let global = Sizes {
            head_dim: config.size_or("global_head_dim", 512)?,
            kv_heads: kv_heads.unwrap_or(sizes.kv_heads),
            ..sizes
        };
        for (own, _) in all.iter_mut().zip(slides).filter(|(_, slides)| !**slides) {
            *own = global;
        }
        return Ok(all);
    }
    let single = config.section(SINGLE)?.unwrap_or_default();
    for key in single.keys() {
        let own = single.section(&key)?.unwrap_or_default();
        let layer = key.parse().ok();
        let Some(layer) = layer.and_then(|layer: usize| all.get_mut(layer)) else {
            return Err(config.refuse(SINGLE, "it has keys that are no numbers of layers"));
        };
        for setting in own.keys() {
            match setting.as_str() {
                "head_dim" => layer.head_dim = own.size("head_dim")?,
                "num_key_value_heads" => layer.kv_heads = own.heads("num_key_value_heads")?,
                "skip" => own.refuse_unless("skip", &Value::Array(Vec::new()))?,
                _ => {
                    return Err(config.refuse(
                        SINGLE,
                        "massact computes only heads of their own for single layers",
                    ));
                }
            }
        }
    }
    let heads = |index: usize| (all[index].head_dim, all[index].kv_heads);
    for (index, own) in slides.iter().enumerate() {
        let first = slides.iter().position(|other| other == own);
        if first.is_some_and(|first| heads(first) != heads(index)) {
            return Err(config.refuse(SINGLE, "layers of one kind differ in their heads"));
        }
    }
    Ok(all)
}

/// The ropes of global and of sliding layers; none of the latter where there are none.
fn ropes(config: &Config, sizes: &[Sizes], slides: &[bool]) -> Result<Vec<Rope>> {
    const KEY: &str = "rope_parameters";
    if config.get("partial_rotary_factor").is_some() {
        return Err(config.refuse("partial_rotary_factor", "it belongs into `rope_parameters`"));
    }
    let given = config.section(KEY)?;
    let default = |kind: &str, theta: f64, share: f64| {
        Config::default()
            .with("rope_type", Value::from(kind))
            .with("rope_theta", Value::from(theta))
            .with("partial_rotary_factor", Value::from(share))
    };
    let kinds = [
        ("full_attention", false, default("proportional", 1e6, 0.25)),
        ("sliding_attention", true, default("default", 1e4, 1.0)),
    ];
    let kinds = kinds.into_iter().filter_map(|(kind, own, default)| {
        let first = slides.iter().position(|slides| *slides == own)?;
        Some((kind, sizes[first], default))
    });
    let rope = |(kind, sizes, default): (&str, Sizes, Config)| {
        let section = match &given {
            None => Some(default),
            Some(given) => given.section(kind)?,
        };
        let Some(section) = section.filter(|section| section.get("rope_theta").is_some()) else {
            return Err(Error::new(
                "config.json",
                format!("`{KEY}` has no `rope_theta` for `{kind}`"),
            )
            .remedy("correct it in config.json, or take the file of the original model"));
        };
        let positions = sizes.positions;
        let defaults = RopeDefaults::default();
        Rope::from_section(
            &section,
            Some(&section),
            sizes.head_dim,
            positions,
            defaults,
        )
    };
    kinds.map(rope).collect()
}

/// The experts of a model.
#[derive(Debug, Clone, Copy)]
struct Sparse {
    count: usize,
    top_k: usize,
    hidden: usize,
    inner: usize,
    activation: Activation,
}

impl Sparse {
    fn read(config: &Config, hidden: usize, activation: Activation) -> Result<Self> {
        Ok(Self {
            count: config.experts("num_experts")?,
            top_k: config.size("top_k_experts")?,
            hidden,
            inner: config.size("moe_intermediate_size")?,
            activation,
        })
    }

    /// A layer's experts beside its MLP, which has the norm `before` in front of it.
    fn beside(&self, parts: &LayerParts<'_>, dense: GatedMlp, before: Option<Norm>) -> SideBySide {
        let Self {
            count,
            hidden,
            inner,
            ..
        } = *self;
        let norm = |module| Some(parts.norm(module, hidden));
        let stacked = |tensor, inputs, outputs| {
            Linear::new(parts.name(tensor), inputs, outputs).stacked(count)
        };
        let fused = stacked("experts.gate_up_proj", hidden, 2 * inner);
        let [gate, up] = consecutive(&fused, [inner, inner]);
        let down = stacked("experts.down_proj", inner, hidden);
        SideBySide {
            dense,
            dense_norms: Norms {
                input: before,
                output: norm("post_feedforward_layernorm_1"),
                sum: None,
            },
            experts: Experts {
                count,
                expert: GatedMlp::new(gate, up, down, self.activation),
                routing: Routing {
                    router: parts.linear("router.proj", hidden, count, false),
                    score: Score::Softmax,
                    correction: None,
                    table: None,
                    groups: None,
                    top_k: self.top_k,
                    renormalise: true,
                    epsilon: 0.0,
                    scale: 1.0,
                },
                latent: None,
                weighted_inputs: false,
                shared: None,
            },
            expert_norms: Norms {
                input: norm("pre_feedforward_layernorm_2"),
                output: norm("post_feedforward_layernorm_2"),
                sum: None,
            },
            router_norm: Norm {
                weight: Some(Learned::vector(parts.name("router.scale"), hidden)),
                ..parts.norm("router.norm", hidden)
            },
            router_scale: (hidden as f64).sqrt().recip() as f32,
            expert_scale: Vector::new(parts.name("router.per_expert_scale"), count),
        }
    }
}
