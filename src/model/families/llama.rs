//! Llama 1 to 3 (transformers `modeling_llama.py`): RMSNorm, RoPE, GQA, SwiGLU.
#![forbid(unsafe_code)]

use super::{Family, activation, rms_norm};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        spec::{Attention, DecoderSpec, Embedding, Head, Layer, Linear, Mlp},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    example: "meta-llama/Llama-3.2-1B",
    notes: "RMSNorm, RoPE (linear, dynamic and llama3 scaling), GQA, SwiGLU, optional biases",
    embedding: "embed_tokens.weight",
    prefixes: &["model.", ""],
    describe,
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hidden = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.size_or("num_key_value_heads", heads)?;
    let head_dim = config.size_or("head_dim", hidden / heads)?;
    let inner = config.size("intermediate_size")?;
    let positions = config.size_or("max_position_embeddings", 2048)?;
    let epsilon = config.number_or("rms_norm_eps", 1e-6)? as f32;
    let activation = activation(config.text_or("hidden_act", "silu")?)?;
    let attention_bias = config.flag_or("attention_bias", false)?;
    let mlp_bias = config.flag_or("mlp_bias", false)?;
    let rope = Rope::from_config(config, head_dim, positions)?;

    let linear = |layer: usize, module: &str, inputs, outputs, biased: bool| {
        let name = |what: &str| names.layer("layers", layer, &format!("{module}.{what}"));
        Linear::new(name("weight"), inputs, outputs).with_bias(biased.then(|| name("bias")))
    };
    let layers = (0..config.layers("num_hidden_layers")?)
        .map(|index| {
            let attention = |module, inputs, outputs| {
                linear(
                    index,
                    &format!("self_attn.{module}"),
                    inputs,
                    outputs,
                    attention_bias,
                )
            };
            let mlp = |module, inputs, outputs| {
                linear(index, &format!("mlp.{module}"), inputs, outputs, mlp_bias)
            };
            let norm = |module| rms_norm(names.layer("layers", index, module), epsilon);
            Layer {
                attention_norm: norm("input_layernorm.weight"),
                attention: Attention {
                    heads,
                    kv_heads,
                    head_dim,
                    scale: 1.0 / (head_dim as f32).sqrt(),
                    rope: Some(0),
                    q: attention("q_proj", hidden, heads * head_dim),
                    k: attention("k_proj", hidden, kv_heads * head_dim),
                    v: attention("v_proj", hidden, kv_heads * head_dim),
                    o: attention("o_proj", heads * head_dim, hidden),
                },
                mlp_norm: norm("post_attention_layernorm.weight"),
                mlp: Mlp::Gated {
                    gate: mlp("gate_proj", hidden, inner),
                    up: mlp("up_proj", hidden, inner),
                    down: mlp("down_proj", inner, hidden),
                    activation,
                },
            }
        })
        .collect();
    let embedding = names.base("embed_tokens.weight");
    Ok(DecoderSpec {
        model_type: "llama".into(),
        vocab_size: config.size("vocab_size")?,
        hidden_size: hidden,
        // Dynamic scaling is made for sequences longer than the configured positions.
        max_positions: (!rope.depends_on_length()).then_some(positions),
        head: Head {
            weight: names.head(config.flag_or("tie_word_embeddings", false)?, &embedding),
        },
        embedding: Embedding {
            tokens: embedding,
            positions: None,
        },
        ropes: vec![rope],
        layers,
        final_norm: Some(rms_norm(names.base("norm.weight"), epsilon)),
    })
}
