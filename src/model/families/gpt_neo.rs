//! GPT-Neo (transformers `modeling_gpt_neo.py`): GPT-2 with separate projections, logits that are not
//! scaled, every other layer sliding.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{
            Attention, DecoderSpec, Embedding, Head, Layer, LearnedPositions, Mlp, TransformerLayer,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    embedding: "wte.weight",
    prefixes: &["transformer.", ""],
    defaults: &[("max_position_embeddings", 2048), ("window_size", 256)],
    other_names: &[
        ("num_attention_heads", "num_heads"),
        ("num_hidden_layers", "num_layers"),
    ],
    without_effect: &["attention_types", "embed_dropout", "resid_dropout"],
    ..Family::llama_like(
        "gpt_neo",
        "EleutherAI/gpt-neo-125m",
        "LayerNorm, learned positions, logits of attention not scaled, every other layer sliding, tied head",
        describe,
    )
};

/// Which layers slide: `attention_layers`, or else `attention_types`, lists that are repeated.
fn sliding(config: &Config, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "attention_types";
    let kinds = match config.texts_opt("attention_layers")? {
        Some(kinds) => kinds,
        None => match config.get(KEY) {
            Some(types) => repeated(types, layers).ok_or_else(|| {
                config.refuse(
                    KEY,
                    "expected pairs of a list of kinds and how often it comes",
                )
            })?,
            None => ["global", "local"]
                .repeat(12)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        },
    };
    config.check_per_layer(KEY, &kinds, layers)?;
    let slides = |kind: &String| match kind.as_str() {
        "global" => Ok(false),
        "local" => Ok(true),
        other => Err(Error::new(
            "config.json",
            format!("`{KEY}` has `{other}`, which massact does not compute"),
        )
        .remedy("run `massact models` for what is supported")),
    };
    kinds.iter().map(slides).collect()
}

/// No more of the kinds than one beyond `layers`.
fn repeated(types: &Value, layers: usize) -> Option<Vec<String>> {
    let mut kinds = Vec::new();
    for pair in types.as_array()? {
        let [list, times] = pair.as_array()?.as_slice() else {
            return None;
        };
        let list: Vec<_> = list
            .as_array()?
            .iter()
            .map(Value::as_str)
            .collect::<Option<_>>()?;
        for _ in 0..times.as_u64()?.min(layers as u64 + 1) {
            kinds.extend(list.iter().map(|kind| (*kind).to_owned()));
        }
    }
    Some(kinds)
}

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_heads")?;
    let inner = config.size_opt("intermediate_size")?.unwrap_or(4 * hidden);
    let style = NormStyle::layer(config.number_or("layer_norm_epsilon", 1e-5)?);
    let activation = activation(config.text_or("activation_function", "gelu_new")?)?;
    let window = config.size("window_size")?;
    let slides = sliding(config, config.layers("num_layers")?)?.into_iter();
    let layers = slides.enumerate().map(|(index, slides)| {
        let parts = LayerParts {
            names,
            list: "h",
            index,
            style,
        };
        let linear = |name: &str, biased| {
            let module = format!("attn.attention.{name}");
            parts.linear(&module, hidden, hidden, biased)
        };
        let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| linear(name, false));
        let o = linear("out_proj", true);
        let mut attention = Attention::new(heads, heads, hidden / heads, qkv, o);
        attention.scale = 1.0;
        attention.window = slides.then_some(window);
        TransformerLayer::new(
            parts.norm("ln_1", hidden),
            attention,
            parts.norm("ln_2", hidden),
            Mlp::Plain {
                up: parts.linear("mlp.c_fc", hidden, inner, true),
                down: parts.linear("mlp.c_proj", inner, hidden, true),
                activation,
            },
        )
    });
    let layers = layers.map(Layer::from).collect();
    let vocab_size = config.size("vocab_size")?;
    let table = names.base("wte.weight");
    let tied = config.flag_or("tie_word_embeddings", true)?;
    let head = Head::new(names.head(tied, &table), hidden, vocab_size);
    let mut embedding = Embedding::new(table, hidden);
    embedding.positions = Some(LearnedPositions {
        table: names.base("wpe.weight"),
        offset: 0,
    });
    Ok(DecoderSpec {
        model_type: "gpt_neo".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: Some(config.size("max_position_embeddings")?),
        head,
        embedding,
        ropes: Vec::new(),
        layers,
        final_norm: Some(style.norm(&names.base("ln_f"), hidden)),
    })
}
