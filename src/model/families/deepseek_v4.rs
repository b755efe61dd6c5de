//! DeepSeek-V4 (transformers `modeling_deepseek_v4.py`): several residual streams that hyper-connections mix,
//! keys that are values, entries that stand for compressed tokens beside a window, an output projection in
//! groups, experts that a table or scores choose.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    moe::USUAL,
    parts::{LayerParts, NormStyle, required_window},
    routed::{DEEPSEEK_V3, Routed, Style},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        rope_config::{agreed, filled},
        spec::{
            Attention, Compressed, Compressor, DecoderSpec, Embedding, EntryChoice, Grouped, Head,
            HyperConnections, Layer, Linear, LowRank, Mlp, Norm, Norms, Projections, QkNorm, Score,
            StreamWeights, Streams, TokenTable, Vector,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 129_280),
        ("hidden_size", 4096),
        ("num_hidden_layers", 43),
        ("num_attention_heads", 64),
        ("head_dim", 512),
        ("q_lora_rank", 1024),
        ("max_position_embeddings", 1_048_576),
        ("moe_intermediate_size", 2048),
        ("n_routed_experts", 256),
        ("num_experts_per_tok", 6),
        ("sliding_window", 128),
        ("o_groups", 8),
        ("o_lora_rank", 1024),
        ("index_n_heads", 64),
        ("index_head_dim", 128),
        ("index_topk", 512),
        ("hc_mult", 4),
        ("hc_sinkhorn_iters", 20),
    ],
    other_names: &[
        ("num_local_experts", "n_routed_experts"),
        ("intermediate_size", "moe_intermediate_size"),
    ],
    without_effect: &[
        "attention_bias",
        "expert_dtype",
        "n_shared_experts",
        "norm_topk_prob",
        "num_key_value_heads",
        "num_nextn_predict_layers",
        // Where `partial_rotary_factor` is there.
        "qk_rope_head_dim",
        "topk_method",
    ],
    embedding: "embed.weight",
    renamed: PUBLISHED,
    ..Family::llama_like(
        "deepseek_v4",
        "deepseek-ai/DeepSeek-V4-Flash-Base",
        "four residual streams that hyper-connections mix, keys that are values, windows beside compressed tokens of two kinds (all of them, or those that an indexer picks), a grouped output projection, experts that a table over token ids or scores choose",
        describe,
    )
};

/// Names of the published files, also where transformers has saved them.
const PUBLISHED: &[(&str, &str)] = &[
    ("embed_tokens.weight", "embed.weight"),
    ("hc_head.hc_", "hc_head_"),
    ("self_attn.compressor.indexer.q_b_proj", "attn.indexer.wq_b"),
    (
        "self_attn.compressor.indexer.scorer.weights_proj",
        "attn.indexer.weights_proj",
    ),
    (
        "self_attn.compressor.indexer.kv_proj",
        "attn.indexer.compressor.wkv",
    ),
    (
        "self_attn.compressor.indexer.gate_proj",
        "attn.indexer.compressor.wgate",
    ),
    (
        "self_attn.compressor.indexer.position_bias",
        "attn.indexer.compressor.ape",
    ),
    (
        "self_attn.compressor.indexer.kv_norm",
        "attn.indexer.compressor.norm",
    ),
    ("self_attn.compressor.kv_proj", "attn.compressor.wkv"),
    ("self_attn.compressor.gate_proj", "attn.compressor.wgate"),
    ("self_attn.compressor.position_bias", "attn.compressor.ape"),
    ("self_attn.compressor.kv_norm", "attn.compressor.norm"),
    ("self_attn.q_a_proj", "attn.wq_a"),
    ("self_attn.q_a_norm", "attn.q_norm"),
    ("self_attn.q_b_proj", "attn.wq_b"),
    ("self_attn.kv_proj", "attn.wkv"),
    ("self_attn.o_a_proj", "attn.wo_a"),
    ("self_attn.o_b_proj", "attn.wo_b"),
    ("self_attn.sinks", "attn.attn_sink"),
    ("self_attn.", "attn."),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("attn_hc.", "hc_attn_"),
    ("ffn_hc.", "hc_ffn_"),
    ("mlp.gate.e_score_correction_bias", "ffn.gate.bias"),
    ("mlp.experts.{}.gate_proj", "ffn.experts.{}.w1"),
    ("mlp.experts.{}.up_proj", "ffn.experts.{}.w3"),
    ("mlp.experts.{}.down_proj", "ffn.experts.{}.w2"),
    ("mlp.shared_experts.gate_proj", "ffn.shared_experts.w1"),
    ("mlp.shared_experts.up_proj", "ffn.shared_experts.w3"),
    ("mlp.shared_experts.down_proj", "ffn.shared_experts.w2"),
    ("mlp.", "ffn."),
];

/// What a layer's queries see beside the tokens of its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// Entries that overlap, of which an indexer picks some.
    Some,
    /// All of its entries.
    All,
}

const KINDS: [(&str, Beside); 3] = [
    ("sliding_attention", Beside::Nothing),
    ("compressed_sparse_attention", Beside::Some),
    ("heavily_compressed_attention", Beside::All),
];

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let embedding = names.base("embed_tokens.weight");
    let sizes = Sizes::read(config)?;
    let first = names.layer("layers", 0, "attn.wq_a.weight");
    let published = names.renamed(PUBLISHED);
    let stored = names.shape(&first).is_some() || names.shape(&format!("{first}_packed")).is_some();
    let unchanged = names;
    let names = if stored { &published } else { names };
    let kinds = kinds(config, sizes.layers)?;
    let hashed = hashed(config, sizes.layers)?;
    let routed = routed(config, sizes.hidden)?;
    let layers = (0..sizes.layers)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "layers",
                index,
                style: sizes.norm,
            };
            let mut layer = Layer::empty();
            layer.mixer_norms = Norms::before(parts.norm("input_layernorm", sizes.hidden));
            layer.attention = Some(sizes.attention(&parts, kinds[index]));
            layer.mlp_norms = Norms::before(parts.norm("post_attention_layernorm", sizes.hidden));
            layer.mlp = Some(sizes.mlp(&parts, &routed, hashed[index]));
            let connections = |module: &str| {
                let products = (2 + sizes.streams) * sizes.streams;
                let name = |tensor: &str| parts.name(&format!("{module}.{tensor}"));
                sizes.stream_weights(name, 3, products)
            };
            layer.connections = Some(HyperConnections {
                mixer: connections("attn_hc"),
                mlp: connections("ffn_hc"),
            });
            layer
        })
        .collect();
    let tied = config.flag_or("tie_word_embeddings", false)?;
    let mut embedded = Embedding::new(embedding.clone(), sizes.hidden);
    // transformers may save layers as they are published, and what is beside them as it keeps it.
    let beside = [&published, unchanged];
    let beside = beside
        .into_iter()
        .find(|names| names.shape(&names.base("hc_head.hc_fn")).is_some());
    let beside = beside.unwrap_or(names);
    let collapse = |tensor: &str| beside.base(&format!("hc_head.hc_{tensor}"));
    embedded.streams = Some(Streams {
        count: sizes.streams,
        collapse: sizes.stream_weights(collapse, 1, sizes.streams),
    });
    Ok(DecoderSpec {
        model_type: config.text_or("model_type", "")?.to_owned(),
        vocab_size: sizes.vocab,
        hidden_size: sizes.hidden,
        max_positions: Some(sizes.positions),
        head: Head::new(names.head(tied, &embedding), sizes.hidden, sizes.vocab),
        embedding: embedded,
        ropes: ropes(config, &sizes)?,
        layers,
        final_norm: Some(sizes.norm.norm(&names.base("norm"), sizes.hidden)),
    })
}

/// Numbers that all layers share.
struct Sizes {
    vocab: usize,
    hidden: usize,
    layers: usize,
    positions: usize,
    heads: usize,
    head_dim: usize,
    /// Of a head, at its end, that is rotated.
    share: f64,
    q_rank: usize,
    groups: usize,
    o_rank: usize,
    window: usize,
    /// Tokens of an entry where some are picked, and where all are seen.
    rates: [usize; 2],
    /// Entries picked at most, heads and their width.
    indexer: [usize; 3],
    streams: usize,
    iterations: usize,
    epsilon: f32,
    limit: f32,
    norm: NormStyle,
}

impl Sizes {
    fn read(config: &Config) -> Result<Self> {
        let head_dim = config.size("head_dim")?;
        let share = match config.number_opt("partial_rotary_factor")? {
            Some(share) => share,
            None => match config.size_opt("qk_rope_head_dim")? {
                Some(width) => width as f64 / head_dim as f64,
                None => 0.125,
            },
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(config.refuse("partial_rotary_factor", "a share is between 0 and 1"));
        }
        Ok(Self {
            vocab: config.size("vocab_size")?,
            hidden: config.size("hidden_size")?,
            layers: config.layers("num_hidden_layers")?,
            positions: config.size("max_position_embeddings")?,
            heads: config.heads("num_attention_heads")?,
            head_dim,
            share,
            q_rank: config.size("q_lora_rank")?,
            groups: config.size("o_groups")?,
            o_rank: config.size("o_lora_rank")?,
            window: required_window(config)?,
            rates: rates(config)?,
            indexer: [
                config.size("index_topk")?,
                config.heads("index_n_heads")?,
                config.size("index_head_dim")?,
            ],
            streams: config.size("hc_mult")?,
            iterations: iterations(config)?,
            epsilon: config.number_or("hc_eps", 1e-6)? as f32,
            limit: config.number_or("swiglu_limit", 10.0)? as f32,
            norm: NormStyle::rms(config.number_or("rms_norm_eps", 1e-6)?),
        })
    }

    /// Rotated values of a head.
    fn rotated(&self) -> usize {
        (self.head_dim as f64 * self.share) as usize
    }

    fn attention(&self, parts: &LayerParts<'_>, beside: Beside) -> Attention {
        let (hidden, head_dim, q_width) = (self.hidden, self.head_dim, self.heads * self.head_dim);
        let linear = |name: &str, inputs, outputs| {
            parts.linear(&format!("self_attn.{name}"), inputs, outputs, false)
        };
        let q = LowRank::Factored {
            down: linear("q_a_proj", hidden, self.q_rank),
            norm: parts.norm("self_attn.q_a_norm", self.q_rank),
            up: linear("q_b_proj", self.q_rank, q_width),
        };
        let k = linear("kv_proj", hidden, head_dim);
        let narrow = self.groups * self.o_rank;
        let o = linear("o_b_proj", narrow, hidden);
        let projections = Projections::KeysAsValues { q, k };
        let mut attention = Attention::new(self.heads, 1, head_dim, projections, o);
        let unweighted = NormStyle {
            weight: false,
            ..self.norm
        };
        // As transformers saves what the published files call otherwise.
        let saved = parts.name("self_attn.norm");
        let k = match parts.names.shape(&format!("{saved}.weight")) {
            Some(_) => self.norm.norm(&saved, head_dim),
            None => parts.norm("self_attn.kv_norm", head_dim),
        };
        attention.qk_norm = Some(QkNorm {
            q: unweighted.norm(&parts.name("self_attn.q_b_norm"), head_dim),
            k,
        });
        attention.rope = Some(usize::from(beside != Beside::Nothing));
        attention.rope_first = head_dim - self.rotated();
        attention.rotates_back = true;
        attention.window = Some(self.window);
        attention.sinks = Some(Vector::new(parts.name("self_attn.sinks"), self.heads));
        attention.grouped = Some(Grouped {
            linear: linear("o_a_proj", q_width / self.groups, narrow),
            groups: self.groups,
        });
        let [some, all] = self.rates;
        let entries = |rate, overlaps| {
            self.compressor(parts, "self_attn.compressor", head_dim, rate, overlaps)
        };
        attention.compressed = match beside {
            Beside::Nothing => None,
            Beside::All => Some(Box::new(Compressed {
                rate: all,
                entries: entries(all, false),
                choice: None,
            })),
            Beside::Some => Some(Box::new(Compressed {
                rate: some,
                entries: entries(some, true),
                choice: Some(self.choice(parts, some)),
            })),
        };
        attention
    }

    fn choice(&self, parts: &LayerParts<'_>, rate: usize) -> EntryChoice {
        const MODULE: &str = "self_attn.compressor.indexer";
        let [most, heads, head_dim] = self.indexer;
        let linear = |name: &str, inputs, outputs| {
            parts.linear(&format!("{MODULE}.{name}"), inputs, outputs, false)
        };
        EntryChoice {
            most,
            heads,
            head_dim,
            q: linear("q_b_proj", self.q_rank, heads * head_dim),
            entries: self.compressor(parts, MODULE, head_dim, rate, true),
            weights: linear("scorer.weights_proj", self.hidden, heads),
        }
    }

    fn compressor(
        &self,
        parts: &LayerParts<'_>,
        module: &str,
        width: usize,
        rate: usize,
        overlaps: bool,
    ) -> Compressor {
        let outputs = if overlaps { 2 * width } else { width };
        let linear =
            |name: &str| parts.linear(&format!("{module}.{name}"), self.hidden, outputs, false);
        let bias = parts.name(&format!("{module}.position_bias"));
        Compressor {
            values: linear("kv_proj"),
            gate: linear("gate_proj"),
            bias: Vector::of_shape(bias, vec![rate, outputs]),
            norm: parts.norm(&format!("{module}.kv_norm"), width),
            overlaps,
        }
    }

    fn mlp(&self, parts: &LayerParts<'_>, routed: &Routed, hashed: bool) -> Mlp {
        let mut mlp = routed.mlp(parts);
        if let Mlp::Experts(experts) = &mut mlp {
            experts.expert.limit = Some(self.limit);
            if let Some(shared) = &mut experts.shared {
                shared.mlp.limit = Some(self.limit);
            }
            if hashed {
                experts.routing.correction = None;
                experts.routing.table = Some(TokenTable {
                    tensor: parts.name("mlp.gate.tid2eid"),
                    tokens: self.vocab,
                });
            }
        }
        mlp
    }

    fn stream_weights(
        &self,
        name: impl Fn(&str) -> String,
        kinds: usize,
        products: usize,
    ) -> StreamWeights {
        let width = self.streams * self.hidden;
        let unweighted = NormStyle {
            weight: false,
            ..self.norm
        };
        let norm: Norm = unweighted.norm(&name("input_norm"), width);
        StreamWeights {
            norm,
            weights: Linear::new(name("fn"), width, products),
            base: Vector::new(name("base"), products),
            scale: Vector::new(name("scale"), kinds),
            iterations: self.iterations,
            epsilon: self.epsilon,
        }
    }
}

/// What each layer's queries see: `layer_types`, or the tokens of an entry by layer, or else all entries in
/// the first two layers and in turn all and some.
fn kinds(config: &Config, layers: usize) -> Result<Vec<Beside>> {
    const KEY: &str = "layer_types";
    const OLD: &str = "compress_ratios";
    let kinds = match (config.texts_opt(KEY)?, config.indices_opt(OLD)?) {
        (Some(names), _) => {
            let known = |name: &String| {
                let found = KINDS.iter().find(|(known, _)| known == name);
                found.map(|(_, kind)| *kind).ok_or_else(|| {
                    let why = format!("it has `{name}`, which massact does not compute");
                    config.refuse(KEY, &why)
                })
            };
            names.iter().map(known).collect::<Result<Vec<_>>>()?
        }
        (None, Some(rates)) => {
            let known = |rate: &u64| match rate {
                0 => Ok(Beside::Nothing),
                4 => Ok(Beside::Some),
                128 => Ok(Beside::All),
                _ => Err(config.refuse(OLD, "massact knows 0, 4 and 128")),
            };
            rates.iter().map(known).collect::<Result<Vec<_>>>()?
        }
        (None, None) => (0..layers)
            .map(|index| match index == 1 || index % 2 == 0 {
                true => Beside::All,
                false => Beside::Some,
            })
            .collect(),
    };
    at_least(
        config,
        if config.has(KEY) { KEY } else { OLD },
        kinds,
        layers,
    )
}

/// Those of the layers, of a list that may go on.
fn at_least<T>(config: &Config, key: &str, mut list: Vec<T>, layers: usize) -> Result<Vec<T>> {
    list.truncate(layers);
    config.check_per_layer(key, &list, layers)?;
    Ok(list)
}

/// Which layers have a table of experts: `mlp_layer_types` says it, or else the first three.
fn hashed(config: &Config, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "mlp_layer_types";
    let Some(kinds) = config.texts_opt(KEY)? else {
        let first = config.number_or("num_hash_layers", 3.0)?;
        return Ok((0..layers).map(|index| (index as f64) < first).collect());
    };
    let known = |kind: &String| match kind.as_str() {
        "hash_moe" => Ok(true),
        "moe" => Ok(false),
        other => {
            let why = format!("it has `{other}`, which massact does not compute");
            Err(config.refuse(KEY, &why))
        }
    };
    let kinds = kinds.iter().map(known).collect::<Result<Vec<_>>>()?;
    at_least(config, KEY, kinds, layers)
}

/// How often the mixing of streams is normalised: they are run for every token.
fn iterations(config: &Config) -> Result<usize> {
    let key = "hc_sinkhorn_iters";
    match config.number_or(key, 20.0)?.max(1.0) {
        iterations if iterations <= 1000.0 => Ok(iterations as usize),
        _ => Err(config.refuse(key, "massact computes at most 1000 iterations")),
    }
}

/// Tokens of an entry where some are picked, and where all are seen.
fn rates(config: &Config) -> Result<[usize; 2]> {
    let section = config.section("compress_rates")?.unwrap_or_default();
    let rate = |kind: &str, old: &str, default| match config.size_opt(old)? {
        Some(rate) => Ok(rate),
        None if section.is_empty() => Ok(default),
        None => section.size(kind),
    };
    Ok([
        rate(KINDS[1].0, "compress_rate_csa", 4)?,
        rate(KINDS[2].0, "compress_rate_hca", 128)?,
    ])
}

fn routed(config: &Config, hidden: usize) -> Result<Routed> {
    let score = match config.text_or("scoring_func", "sqrtsoftplus")? {
        "sqrtsoftplus" => Score::SqrtSoftplus,
        "sigmoid" => Score::Sigmoid,
        _ => return Err(config.refuse("scoring_func", "not one that massact computes")),
    };
    let style = Style {
        // Its width is one expert's, whatever the config says.
        shared: ("", 1),
        scale: ("routed_scaling_factor", 1.5),
        groups: None,
        renormalise: None,
        score,
        names: USUAL,
        ..DEEPSEEK_V3
    };
    let mut routed = style.read(config, hidden)?;
    routed.shared_bias = config.flag_or("mlp_bias", false)?;
    Ok(routed)
}

/// The ropes of layers without and with entries.
fn ropes(config: &Config, sizes: &Sizes) -> Result<Vec<Rope>> {
    let read = |section: &Config| of_section(config, section, sizes);
    match [
        filled(config, "rope_parameters")?,
        filled(config, "rope_scaling")?,
    ] {
        [Some(new), Some(old)] => {
            let pairs = read(&new)?.into_iter().zip(read(&old)?);
            pairs.map(|(new, old)| agreed(new, &old)).collect()
        }
        [new, old] => read(&new.or(old).unwrap_or_default()),
    }
}

/// What a section says of both: in parts of their own, or else of the second alone, and brings no base then.
fn of_section(config: &Config, section: &Config, sizes: &Sizes) -> Result<Vec<Rope>> {
    let theta = config.number_or("rope_theta", 1e4)?;
    let compressed = config.number_or("compress_rope_theta", 1.6e5)?;
    let defaults = |partial| RopeDefaults {
        partial: Some(partial),
        interleaved: true,
        ..RopeDefaults::default()
    };
    let rope = |section: &Config, share| {
        // transformers looks it up elsewhere, where nothing is.
        let section = section.without(&["truncate"]);
        let (width, positions) = (sizes.head_dim, sizes.positions);
        Rope::from_section(&section, Some(&section), width, positions, defaults(share))
    };
    if let Some((main, compress)) = section.section("main")?.zip(section.section("compress")?) {
        let share = config.number_opt("partial_rotary_factor")?.unwrap_or(1.0);
        let own = |part: &Config| rope(&part.with_numbers(&[("rope_theta", theta)]), share);
        return Ok(vec![own(&main)?, own(&compress)?]);
    }
    let mut section = section
        .without(&["main", "compress", "partial_rotary_factor"])
        .with("rope_theta", Value::from(compressed));
    let yarn = section.text_or("rope_type", section.text_or("type", "default")?)? == "yarn";
    if yarn && section.get("attention_factor").is_none() {
        section = section.with("attention_factor", Value::from(1.0));
    }
    let plain = Rope::plain(theta, sizes.rotated(), true)?;
    Ok(vec![plain, rope(&section, sizes.share)?])
}
