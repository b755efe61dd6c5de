//! GPT-NeoX and Pythia (transformers `modeling_gpt_neox.py`): fused projections by head, partial
//! rotation, attention and MLP side by side behind a LayerNorm each.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation, fused_qkv},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        rope_config::{filled, said_otherwise},
        spec::{Attention, DecoderSpec, Embedding, Head, Layer, Mlp, TransformerLayer, Wiring},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neox",
    example: "EleutherAI/pythia-160m",
    notes: "LayerNorm, partial rotation, q, k and v fused by head, parallel or sequential layers",
    embedding: "embed_in.weight",
    prefixes: &["gpt_neox.", ""],
    defaults: &[],
    other_names: &[],
    without_effect: &[],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let head_dim = hidden / heads;
    // transformers would rotate by it, and attend without it.
    config.refuse_unless("head_dim", &Value::from(head_dim))?;
    let inner = config.size("intermediate_size")?;
    let positions = config.size_or("max_position_embeddings", 2048)?;
    let style = NormStyle::layer(config.number_or("layer_norm_eps", 1e-5)?);
    let activation = activation(config.text_or("hidden_act", "gelu")?)?;
    let biased = config.flag_or("attention_bias", true)?;
    let parallel = config.flag_or("use_parallel_residual", true)?;
    let defaults = RopeDefaults {
        theta: config.number_or("rotary_emb_base", 1e4)?,
        partial: Some(config.number_or("rotary_pct", 0.25)?),
        interleaved: false,
        alpha: false,
    };
    // transformers knows this family's own names only, and a section before them.
    if let Some(section) = filled(config, "rope_parameters")?.or(filled(config, "rope_scaling")?) {
        said_otherwise(config, "rotary_emb_base", &section, "rope_theta");
        said_otherwise(config, "rotary_pct", &section, "partial_rotary_factor");
    }
    let own_names = config.without(&["rope_theta", "partial_rotary_factor"]);
    let rope = Rope::from_config(&own_names, head_dim, positions, defaults)?;
    let layers = (0..config.layers("num_hidden_layers")?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "layers",
                index,
                style,
            };
            let fused = parts.linear("attention.query_key_value", hidden, 3 * hidden, biased);
            let qkv = fused_qkv(&fused, heads, heads, head_dim);
            let o = parts.linear("attention.dense", hidden, hidden, biased);
            let mut attention = Attention::new(heads, heads, head_dim, qkv, o);
            attention.rope = Some(0);
            let mut layer = TransformerLayer::new(
                parts.norm("input_layernorm", hidden),
                attention,
                parts.norm("post_attention_layernorm", hidden),
                Mlp::Plain {
                    up: parts.linear("mlp.dense_h_to_4h", hidden, inner, true),
                    down: parts.linear("mlp.dense_4h_to_h", inner, hidden, true),
                    activation,
                },
            );
            if parallel {
                layer.wiring = Wiring::Parallel;
            }
            layer
        })
        .map(Layer::from)
        .collect();
    let vocab_size = config.size("vocab_size")?;
    let embedding = names.base("embed_in.weight");
    let tied = config.flag_or("tie_word_embeddings", false)?;
    let head = names.head(tied, &embedding);
    Ok(DecoderSpec {
        model_type: "gpt_neox".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: (!rope.unlimited()).then_some(positions),
        head: Head::new(head, hidden, vocab_size),
        embedding: Embedding::new(embedding, hidden),
        ropes: vec![rope],
        layers,
        final_norm: Some(style.norm(&names.base("final_layer_norm"), hidden)),
    })
}
