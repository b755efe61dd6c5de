//! MPT (transformers `modeling_mpt.py`): ALiBi, no biases, fused projections, clipped q, k and v.
//!
//! transformers ignores `expansion_ratio` and `alibi_bias_max`, and so does this.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    olmo::clip,
    parts::{LayerParts, NormStyle, consecutive},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, Alibi, Attention, DecoderSpec, Embedding, Head, Layer, Mlp,
            TransformerLayer,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "mpt",
    example: "mosaicml/mpt-7b",
    notes: "ALiBi, LayerNorm without bias, fused projections, q, k and v clipped where the config says so, tied head",
    embedding: "wte.weight",
    prefixes: &["transformer.", ""],
    defaults: &[],
    other_names: &[
        ("hidden_size", "d_model"),
        ("num_attention_heads", "n_heads"),
        ("num_hidden_layers", "n_layers"),
    ],
    without_effect: &[
        "alibi_bias_max",
        "attn_impl",
        "attn_pdrop",
        "attn_uses_sequence_id",
        "embedding_fraction",
        "expansion_ratio",
        "init_config",
        "init_device",
        "learned_pos_emb",
        "max_seq_len",
        "norm_type",
        "verbose",
    ],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    config.refuse_unless("no_bias", &Value::Bool(true))?;
    config.refuse_unless("logit_scale", &Value::Null)?;
    let settings = config.section("attn_config")?.unwrap_or_default();
    settings.refuse_unless("attn_type", &Value::from("multihead_attention"))?;
    settings.refuse_unless("alibi", &Value::Bool(true))?;
    settings.refuse_unless("qk_ln", &Value::Bool(false))?;
    settings.refuse_unless("prefix_lm", &Value::Bool(false))?;
    let hidden = config.size("d_model")?;
    let heads = config.heads("n_heads")?;
    let head_dim = hidden / heads;
    let inner = 4 * hidden;
    let style = NormStyle::layer(config.number_or("layer_norm_epsilon", 1e-5)?).without_bias();
    let clip = clip(&settings)?;
    let scale = settings.number_opt("softmax_scale")?;
    let layers = (0..config.layers("n_layers")?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "blocks",
                index,
                style,
            };
            let fused = parts.linear("attn.Wqkv", hidden, 3 * hidden, false);
            let qkv = consecutive(&fused, [hidden; 3]);
            let o = parts.linear("attn.out_proj", hidden, hidden, false);
            let mut attention = Attention::new(heads, heads, head_dim, qkv, o);
            attention.clip = clip;
            if let Some(scale) = scale {
                attention.scale = scale as f32;
            }
            attention.alibi = Some(Alibi {
                from_last: true,
                ..Alibi::exact(heads)
            });
            TransformerLayer::new(
                parts.norm("norm_1", hidden),
                attention,
                parts.norm("norm_2", hidden),
                Mlp::Plain {
                    up: parts.linear("ffn.up_proj", hidden, inner, false),
                    down: parts.linear("ffn.down_proj", inner, hidden, false),
                    activation: Activation::GeluErf,
                },
            )
        })
        .map(Layer::from)
        .collect();
    let vocab_size = config.size("vocab_size")?;
    let embedding = names.base("wte.weight");
    let tied = config.flag_or("tie_word_embeddings", true)?;
    Ok(DecoderSpec {
        model_type: "mpt".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: None,
        head: Head::new(names.head(tied, &embedding), hidden, vocab_size),
        embedding: Embedding::new(embedding, hidden),
        ropes: Vec::new(),
        layers,
        final_norm: Some(style.norm(&names.base("norm_f"), hidden)),
    })
}
