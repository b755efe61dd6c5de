//! OPT (transformers `modeling_opt.py`): learned positions from row 2 on, ReLU; the 350m model has
//! its norms behind the sums and narrower embeddings.
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
        spec::{
            Attention, DecoderSpec, Embedding, Head, Layer, LearnedPositions, Linear, Mlp, Norms,
            TransformerLayer,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "opt",
    example: "facebook/opt-6.7b",
    notes: "LayerNorm before or after the sums, learned positions, ReLU, embeddings of another width, tied head",
    embedding: "embed_tokens.weight",
    prefixes: &["model.decoder.", "decoder.", ""],
    defaults: &[],
    other_names: &[],
    // Where there is no final norm to remove.
    without_effect: &["_remove_final_layer_norm"],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("hidden_size")?;
    let heads = config.heads("num_attention_heads")?;
    let inner = config.size("ffn_dim")?;
    let biased = config.flag_or("enable_bias", true)?;
    let learned = config.flag_or("layer_norm_elementwise_affine", true)?;
    let before = config.flag_or("do_layer_norm_before", true)?;
    let activation = activation(config.text_or("activation_function", "relu")?)?;
    let style = NormStyle {
        weight: learned,
        bias: learned,
        ..NormStyle::layer(1e-5)
    };
    let layers = (0..config.layers("num_hidden_layers")?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "layers",
                index,
                style,
            };
            let square =
                |name: &str| parts.linear(&format!("self_attn.{name}"), hidden, hidden, biased);
            let qkv = ["q_proj", "k_proj", "v_proj"].map(square);
            let mut layer = TransformerLayer::new(
                parts.norm("self_attn_layer_norm", hidden),
                Attention::new(heads, heads, hidden / heads, qkv, square("out_proj")),
                parts.norm("final_layer_norm", hidden),
                Mlp::Plain {
                    up: parts.linear("fc1", hidden, inner, biased),
                    down: parts.linear("fc2", inner, hidden, biased),
                    activation,
                },
            );
            if !before {
                for norms in [&mut layer.attention_norms, &mut layer.mlp_norms] {
                    *norms = Norms {
                        sum: norms.input.take(),
                        ..Norms::default()
                    };
                }
            }
            layer
        })
        .map(Layer::from)
        .collect();
    let vocab_size = config.size("vocab_size")?;
    let width = config.size_opt("word_embed_proj_dim")?.unwrap_or(hidden);
    let table = names.base("embed_tokens.weight");
    let tied = config.flag_or("tie_word_embeddings", true)?;
    let mut head = Head::new(names.head(tied, &table), width, vocab_size);
    let mut embedding = Embedding::new(table, width);
    embedding.positions = Some(LearnedPositions {
        table: names.base("embed_positions.weight"),
        offset: 2,
    });
    if width != hidden {
        let project =
            |name: &str, inputs, outputs| Some(Linear::new(names.base(name), inputs, outputs));
        embedding.projection = project("project_in.weight", width, hidden);
        head.projection = project("project_out.weight", hidden, width);
    }
    let final_norm = before && !config.flag_or("_remove_final_layer_norm", false)?;
    Ok(DecoderSpec {
        model_type: "opt".into(),
        vocab_size,
        hidden_size: hidden,
        max_positions: Some(config.size("max_position_embeddings")?),
        head,
        embedding,
        ropes: Vec::new(),
        layers,
        final_norm: final_norm.then(|| style.norm(&names.base("final_layer_norm"), hidden)),
    })
}
