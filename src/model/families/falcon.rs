//! Falcon (transformers `modeling_falcon.py`): three layouts of fused projections, one or two
//! norms before parallel parts, RoPE or ALiBi.
#![forbid(unsafe_code)]

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
        spec::{
            Alibi, Attention, DecoderSpec, Embedding, Head, Layer, Mlp, TransformerLayer, Wiring,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "falcon",
    example: "tiiuae/falcon-7b",
    notes: "multi-query, grouped or plain heads in a fused projection, parallel layers with one or two norms, RoPE or ALiBi, tied head",
    embedding: "word_embeddings.weight",
    prefixes: &["transformer.", ""],
    defaults: &[],
    other_names: &[("n_embed", "hidden_size")],
    without_effect: &[
        "apply_residual_connection_post_layernorm",
        "ff_factor",
        // One of them where `new_decoder_architecture` decides for the other.
        "multi_query",
        "num_kv_heads",
        // Where ALiBi takes the place of rotation.
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
    ],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("hidden_size")?;
    let heads = config.heads(config.either(&["num_attention_heads", "n_head"]))?;
    let head_dim = hidden / heads;
    let grouped = config.flag_or("new_decoder_architecture", false)?;
    let kv_heads = if grouped {
        match config.get("num_kv_heads") {
            Some(_) => config.heads("num_kv_heads")?,
            None => heads,
        }
    } else if config.flag_or("multi_query", true)? {
        1
    } else {
        heads
    };
    let biased = config.flag_or("bias", false)?;
    let inner = config.size_opt("ffn_hidden_size")?.unwrap_or(4 * hidden);
    let positions = config.size_or("max_position_embeddings", 2048)?;
    let style = NormStyle::layer(config.number_or("layer_norm_epsilon", 1e-5)?);
    let activation = activation(config.text_or("activation", "gelu")?)?;
    let norms = norms(config, grouped)?;
    let alibi = config.flag_or("alibi", false)?.then(|| Alibi {
        // Slopes and biases are bfloat16 whatever the model is, and scaled like q.k. transformers'
        // eager attention, the reference here, adds them twice: in the layer and in the mask. Its
        // SDPA attention adds them once.
        bfloat16: true,
        factor: 2.0 / (head_dim as f32).sqrt(),
        ..Alibi::new(heads)
    });
    let ropes = match &alibi {
        Some(_) => Vec::new(),
        None => vec![Rope::from_config(
            config,
            head_dim,
            positions,
            RopeDefaults::default(),
        )?],
    };
    let layers = (0..config.layers(config.either(&["num_hidden_layers", "n_layer"]))?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "h",
                index,
                style,
            };
            let outputs = hidden + 2 * kv_heads * head_dim;
            let fused = parts.linear("self_attention.query_key_value", hidden, outputs, biased);
            let qkv = fused_qkv(&fused, heads, kv_heads, head_dim);
            let o = parts.linear("self_attention.dense", hidden, hidden, biased);
            let mut attention = Attention::new(heads, kv_heads, head_dim, qkv, o);
            attention.rope = alibi.is_none().then_some(0);
            attention.alibi.clone_from(&alibi);
            let mlp = Mlp::Plain {
                up: parts.linear("mlp.dense_h_to_4h", hidden, inner, biased),
                down: parts.linear("mlp.dense_4h_to_h", inner, hidden, biased),
                activation,
            };
            let (first, second) = match norms {
                Wiring::Parallel => ("ln_attn", "ln_mlp"),
                _ => ("input_layernorm", "post_attention_layernorm"),
            };
            let first = parts.norm(first, hidden);
            if norms == Wiring::ParallelSharedNorm {
                return TransformerLayer::parallel(first, attention, mlp);
            }
            let mut layer =
                TransformerLayer::new(first, attention, parts.norm(second, hidden), mlp);
            layer.wiring = norms;
            layer
        })
        .map(Layer::from)
        .collect();
    let vocab_size = config.size("vocab_size")?;
    let embedding = names.base("word_embeddings.weight");
    let tied = config.flag_or("tie_word_embeddings", true)?;
    Ok(DecoderSpec {
        model_type: "falcon".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: ropes
            .first()
            .is_some_and(|rope| !rope.unlimited())
            .then_some(positions),
        head: Head::new(names.head(tied, &embedding), hidden, vocab_size),
        embedding: Embedding::new(embedding, hidden),
        ropes,
        layers,
        final_norm: Some(style.norm(&names.base("ln_f"), hidden)),
    })
}

/// Grouped models have two norms before their parallel parts unless they say otherwise.
fn norms(config: &Config, grouped: bool) -> Result<Wiring> {
    let parallel = config.flag_or("parallel_attn", true)?;
    let count = config
        .size_opt("num_ln_in_parallel_attn")?
        .unwrap_or(if grouped { 2 } else { 1 });
    match (parallel, grouped, count) {
        (false, false, _) => Ok(Wiring::Sequential),
        (true, true, 2) => Ok(Wiring::Parallel),
        (true, _, 1) => Ok(Wiring::ParallelSharedNorm),
        (false, true, _) => Err(config.refuse(
            "parallel_attn",
            "the new decoder architecture has parallel layers",
        )),
        _ => Err(config.refuse(
            "num_ln_in_parallel_attn",
            "1, or 2 in the new decoder architecture, are what massact computes",
        )),
    }
}
