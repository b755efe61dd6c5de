//! GPT-2 (transformers `modeling_gpt2.py`): LayerNorm, learned positions, Conv1D weights, GELU.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{Family, activation};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Attention, DecoderSpec, Embedding, Head, Layer, Linear, Mlp, Norm, NormKind,
            WeightLayout,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "gpt2",
    example: "openai-community/gpt2",
    notes: "LayerNorm, learned positions, Conv1D weights, tied head",
    embedding: "wte.weight",
    prefixes: &["transformer.", ""],
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    config.refuse_unless("add_cross_attention", &Value::Bool(false))?;
    let hidden = config.size("n_embd")?;
    let heads = config.size("n_head")?;
    let head_dim = hidden / heads;
    let inner = config.size_or("n_inner", 4 * hidden)?;
    let epsilon = config.number_or("layer_norm_epsilon", 1e-5)? as f32;
    let activation = activation(config.text_or("activation_function", "gelu_new")?)?;
    let scaled = config.flag_or("scale_attn_weights", true)?;
    let by_layer = config.flag_or("scale_attn_by_inverse_layer_idx", false)?;

    let norm = |name: &dyn Fn(&str) -> String| Norm {
        kind: NormKind::Layer,
        weight: Some(name("weight")),
        bias: Some(name("bias")),
        epsilon,
    };
    let layers = (0..config.layers("n_layer")?)
        .map(|index| {
            let layer_norm =
                |module: &str| norm(&|what| names.layer("h", index, &format!("{module}.{what}")));
            let conv1d = |module: &str, inputs, outputs| {
                let name = |what| names.layer("h", index, &format!("{module}.{what}"));
                Linear::new(name("weight"), inputs, outputs)
                    .with_bias(Some(name("bias")))
                    .with_layout(WeightLayout::InOut)
            };
            // One stored tensor holds the query, key and value projections side by side.
            let qkv = |part: usize| {
                conv1d("attn.c_attn", hidden, hidden).part_of(part * hidden, 3 * hidden)
            };
            let mut scale = if scaled {
                1.0 / (head_dim as f32).sqrt()
            } else {
                1.0
            };
            if by_layer {
                scale /= (index + 1) as f32;
            }
            Layer {
                attention_norm: layer_norm("ln_1"),
                attention: Attention {
                    heads,
                    kv_heads: heads,
                    head_dim,
                    scale,
                    rope: None,
                    q: qkv(0),
                    k: qkv(1),
                    v: qkv(2),
                    o: conv1d("attn.c_proj", hidden, hidden),
                },
                mlp_norm: layer_norm("ln_2"),
                mlp: Mlp::Plain {
                    up: conv1d("mlp.c_fc", hidden, inner),
                    down: conv1d("mlp.c_proj", inner, hidden),
                    activation,
                },
            }
        })
        .collect();
    let embedding = names.base("wte.weight");
    Ok(DecoderSpec {
        model_type: "gpt2".into(),
        vocab_size: config.size("vocab_size")?,
        hidden_size: hidden,
        max_positions: Some(config.size("n_positions")?),
        head: Head {
            weight: names.head(config.flag_or("tie_word_embeddings", true)?, &embedding),
        },
        embedding: Embedding {
            tokens: embedding,
            positions: Some(names.base("wpe.weight")),
        },
        ropes: Vec::new(),
        layers,
        final_norm: Some(norm(&|what| names.base(&format!("ln_f.{what}")))),
    })
}
