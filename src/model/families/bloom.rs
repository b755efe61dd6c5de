//! BLOOM (transformers `modeling_bloom.py`): ALiBi, a norm on the embeddings, fused projections by
//! head.
#![forbid(unsafe_code)]

use super::{
    Family,
    parts::{LayerParts, NormStyle, fused_qkv},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, Alibi, Attention, DecoderSpec, Embedding, Head, Layer, Mlp,
            TransformerLayer, Wiring,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "bloom",
    example: "bigscience/bloom-560m",
    notes: "ALiBi, LayerNorm on the embeddings, q, k and v fused by head, tied head",
    embedding: "word_embeddings.weight",
    prefixes: &["transformer.", ""],
    defaults: &[],
    other_names: &[
        ("n_embed", "hidden_size"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ],
    without_effect: &[
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "masked_softmax_fusion",
        "n_inner",
        "offset_alibi",
        "seq_length",
        "skip_bias_add",
        "skip_bias_add_qkv",
        "slow_but_exact",
    ],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("n_head")?;
    let head_dim = hidden / heads;
    let style = NormStyle::layer(config.number_or("layer_norm_epsilon", 1e-5)?);
    let wiring = if config.flag_or("apply_residual_connection_post_layernorm", false)? {
        Wiring::SequentialFromNorm
    } else {
        Wiring::Sequential
    };
    let layers = (0..config.layers("n_layer")?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "h",
                index,
                style,
            };
            let fused = parts.linear("self_attention.query_key_value", hidden, 3 * hidden, true);
            let qkv = fused_qkv(&fused, heads, heads, head_dim);
            let o = parts.linear("self_attention.dense", hidden, hidden, true);
            let mut attention = Attention::new(heads, heads, head_dim, qkv, o);
            attention.alibi = Some(Alibi::new(heads));
            let mut layer = TransformerLayer::new(
                parts.norm("input_layernorm", hidden),
                attention,
                parts.norm("post_attention_layernorm", hidden),
                Mlp::Plain {
                    up: parts.linear("mlp.dense_h_to_4h", hidden, 4 * hidden, true),
                    down: parts.linear("mlp.dense_4h_to_h", 4 * hidden, hidden, true),
                    activation: Activation::GeluTanh,
                },
            );
            layer.wiring = wiring;
            layer
        })
        .map(Layer::from)
        .collect();
    let vocab_size = config.size("vocab_size")?;
    let table = names.base("word_embeddings.weight");
    let tied = config.flag_or("tie_word_embeddings", true)?;
    let head = Head::new(names.head(tied, &table), hidden, vocab_size);
    let mut embedding = Embedding::new(table, hidden);
    embedding.norm = Some(style.norm(&names.base("word_embeddings_layernorm"), hidden));
    Ok(DecoderSpec {
        model_type: "bloom".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: None,
        head,
        embedding,
        ropes: Vec::new(),
        layers,
        final_norm: Some(style.norm(&names.base("ln_f"), hidden)),
    })
}
