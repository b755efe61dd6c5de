//! GPT-2 (transformers `modeling_gpt2.py`): LayerNorm, learned positions, Conv1D weights, GELU.
//!
//! nanoGPT has the same names, but stores every matrix as `nn.Linear` does and may have no biases.
#![forbid(unsafe_code)]

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation, consecutive, fused_qkv},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Attention, DecoderSpec, Embedding, Head, Layer, LearnedPositions, Linear, Mlp,
            TransformerLayer, WeightLayout,
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
    defaults: &[],
    other_names: &[
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ],
    without_effect: &["n_ctx", "reorder_and_upcast_attn"],
    computes: &[],
    numbers: &[],
    renamed: &[],
    wraps: None,
    describe,
};

/// Registry row.
pub(super) const BIGCODE: Family = Family {
    model_type: "gpt_bigcode",
    example: "bigcode/gpt_bigcode-santacoder",
    notes: "`gpt2` with a key and value head that all share, or q, k and v fused by head, matrices stored as usual",
    without_effect: &[
        "attention_softmax_in_fp32",
        "inference_runner",
        "max_batch_size",
        "max_sequence_length",
        "n_ctx",
        "num_key_value_heads",
        "pad_key_length",
        "pre_allocate_kv_cache",
        "scale_attention_softmax_in_fp32",
        "validate_runner_input",
    ],
    describe: |config, names| {
        let (hidden, heads) = (config.size("n_embd")?, config.heads("n_head")?);
        let kv_heads = if config.flag_or("multi_query", true)? {
            1
        } else {
            heads
        };
        let own = Own {
            activation: "gelu_pytorch_tanh",
            layout: WeightLayout::OutIn,
            biased: true,
            kv_heads,
        };
        let config = config.without(&["scale_attn_by_inverse_layer_idx"]);
        layers(&config, names, &own, |fused| {
            fused_qkv(fused, heads, kv_heads, hidden / heads)
        })
    },
    ..FAMILY
};

/// What GPT-2 and its relative do not share.
struct Own {
    activation: &'static str,
    layout: WeightLayout,
    biased: bool,
    kv_heads: usize,
}

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("n_embd")?;
    // The fused projection, which is not square, tells how the matrices are stored.
    let fused = |part: &str| names.layer("h", 0, &format!("attn.c_attn.{part}"));
    let nano = names.shape(&fused("weight")) == Some(&[3 * hidden, hidden]);
    let layout = if nano {
        WeightLayout::OutIn
    } else {
        WeightLayout::InOut
    };
    let own = Own {
        activation: "gelu_new",
        layout,
        biased: !nano || names.shape(&fused("bias")).is_some(),
        kv_heads: config.heads("n_head")?,
    };
    // One stored tensor holds the query, key and value projections side by side.
    layers(config, names, &own, |fused| consecutive(fused, [hidden; 3]))
}

fn layers(
    config: &Config,
    names: &Names,
    own: &Own,
    qkv: impl Fn(&Linear) -> [Linear; 3],
) -> Result<DecoderSpec> {
    let hidden = config.size("n_embd")?;
    let heads = config.heads("n_head")?;
    let head_dim = hidden / heads;
    let inner = config.size_opt("n_inner")?.unwrap_or(4 * hidden);
    let Own {
        layout,
        biased,
        kv_heads,
        ..
    } = *own;
    let style = NormStyle {
        bias: biased,
        ..NormStyle::layer(config.number_or("layer_norm_epsilon", 1e-5)?)
    };
    let activation = activation(config.text_or("activation_function", own.activation)?)?;
    let scaled = config.flag_or("scale_attn_weights", true)?;
    let by_layer = config.flag_or("scale_attn_by_inverse_layer_idx", false)?;
    let layers = (0..config.layers("n_layer")?)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "h",
                index,
                style,
            };
            let linear = |module: &str, inputs, outputs| {
                parts
                    .linear(module, inputs, outputs, biased)
                    .with_layout(layout)
            };
            let fused = linear("attn.c_attn", hidden, hidden + 2 * kv_heads * head_dim);
            let o = linear("attn.c_proj", hidden, hidden);
            let mut attention = Attention::new(heads, kv_heads, head_dim, qkv(&fused), o);
            if !scaled {
                attention.scale = 1.0;
            }
            if by_layer {
                attention.scale /= (index + 1) as f32;
            }
            TransformerLayer::new(
                parts.norm("ln_1", hidden),
                attention,
                parts.norm("ln_2", hidden),
                Mlp::Plain {
                    up: linear("mlp.c_fc", hidden, inner),
                    down: linear("mlp.c_proj", inner, hidden),
                    activation,
                },
            )
        })
        .map(Layer::from)
        .collect();
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
        model_type: config.text_or("model_type", "gpt2")?.to_owned(),
        vocab_size,
        hidden_size: hidden,
        max_positions: Some(config.size("n_positions")?),
        head,
        embedding,
        ropes: Vec::new(),
        layers,
        final_norm: Some(style.norm(&names.base("ln_f"), hidden)),
    })
}
