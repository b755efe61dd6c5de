//! GPT-J (transformers `modeling_gptj.py`): neighbouring dimensions rotated, attention and MLP side
//! by side behind one LayerNorm.
#![forbid(unsafe_code)]

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        spec::{Attention, DecoderSpec, Embedding, Head, Layer, Mlp, TransformerLayer},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "gptj",
    example: "EleutherAI/gpt-j-6b",
    notes: "parallel attention and MLP behind one LayerNorm, neighbouring pairs rotated in part of each head, head with bias",
    embedding: "wte.weight",
    prefixes: &["transformer.", ""],
    defaults: &[],
    other_names: &[
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ],
    without_effect: &["n_ctx", "rotary", "scale_attn_weights"],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("n_embd")?;
    let heads = config.heads("n_head")?;
    let head_dim = hidden / heads;
    let inner = config.size_opt("n_inner")?.unwrap_or(4 * hidden);
    let style = NormStyle::layer(config.number_or("layer_norm_epsilon", 1e-5)?);
    let activation = activation(config.text_or("activation_function", "gelu_new")?)?;
    let layers = (0..config.layers("n_layer")?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "h",
                index,
                style,
            };
            let square = |module: &str| parts.linear(module, hidden, hidden, false);
            let qkv = ["q_proj", "k_proj", "v_proj"].map(|name| square(&format!("attn.{name}")));
            let o = square("attn.out_proj");
            let mut attention = Attention::new(heads, heads, head_dim, qkv, o);
            attention.rope = Some(0);
            let mlp = Mlp::Plain {
                up: parts.linear("mlp.fc_in", hidden, inner, true),
                down: parts.linear("mlp.fc_out", inner, hidden, true),
                activation,
            };
            TransformerLayer::parallel(parts.norm("ln_1", hidden), attention, mlp)
        })
        .map(Layer::from)
        .collect();
    let vocab_size = config.size("vocab_size")?;
    let embedding = names.base("wte.weight");
    let tied = config.flag_or("tie_word_embeddings", false)?;
    let mut head = Head::new(names.head(tied, &embedding), hidden, vocab_size);
    head.linear.bias = Some(names.root("lm_head.bias"));
    Ok(DecoderSpec {
        model_type: "gptj".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: Some(config.size_or("n_positions", 2048)?),
        head,
        embedding: Embedding::new(embedding, hidden),
        ropes: vec![Rope::plain(1e4, config.size_or("rotary_dim", 64)?, true)?],
        layers,
        final_norm: Some(style.norm(&names.base("ln_f"), hidden)),
    })
}
