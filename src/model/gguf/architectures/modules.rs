//! How the modules of architectures are called that are not called as Llama's.
#![forbid(unsafe_code)]

use super::super::names::{As, Part};

/// Norms whose weights are stored with 1 added.
pub(super) const PLUS_ONE_ROOT: &[Part] = &[
    ("token_embd", "model.embed_tokens", As::Same),
    ("output_norm", "model.norm", As::PlusOne),
    ("output", "lm_head", As::Same),
];

/// The same of a layer.
pub(super) const PLUS_ONE: &[Part] = &[
    ("attn_norm", "input_layernorm", As::PlusOne),
    ("ffn_norm", "post_attention_layernorm", As::PlusOne),
];

pub(super) const GEMMA2: &[Part] = &[
    ("attn_norm", "input_layernorm", As::PlusOne),
    (
        "post_attention_norm",
        "post_attention_layernorm",
        As::PlusOne,
    ),
    ("ffn_norm", "pre_feedforward_layernorm", As::PlusOne),
    ("post_ffw_norm", "post_feedforward_layernorm", As::PlusOne),
    ("attn_q_norm", "self_attn.q_norm", As::PlusOne),
    ("attn_k_norm", "self_attn.k_norm", As::PlusOne),
];

pub(super) const GPT2_ROOT: &[Part] = &[
    ("token_embd", "transformer.wte", As::Same),
    ("position_embd", "transformer.wpe", As::Same),
    ("output_norm", "transformer.ln_f", As::Same),
    ("output", "lm_head", As::Same),
];

/// The matrices are `[out, in]`, which transformers' are not.
pub(super) const GPT2: &[Part] = &[
    ("attn_norm", "ln_1", As::Same),
    ("attn_qkv", "attn.c_attn", As::Same),
    ("attn_output", "attn.c_proj", As::Same),
    ("ffn_norm", "ln_2", As::Same),
    ("ffn_up", "mlp.c_fc", As::Same),
    ("ffn_down", "mlp.c_proj", As::Same),
];

pub(super) const NEOX_ROOT: &[Part] = &[
    ("token_embd", "gpt_neox.embed_in", As::Same),
    ("output_norm", "gpt_neox.final_layer_norm", As::Same),
    ("output", "embed_out", As::Same),
];

pub(super) const NEOX: &[Part] = &[
    ("attn_norm", "input_layernorm", As::Same),
    ("attn_qkv", "attention.query_key_value", As::Parted),
    ("attn_output", "attention.dense", As::Same),
    ("ffn_norm", "post_attention_layernorm", As::Same),
    ("ffn_up", "mlp.dense_h_to_4h", As::Same),
    ("ffn_down", "mlp.dense_4h_to_h", As::Same),
];

pub(super) const OLMO2: &[Part] = &[
    ("post_attention_norm", "post_attention_layernorm", As::Same),
    ("post_ffw_norm", "post_feedforward_layernorm", As::Same),
];

pub(super) const PHI2_ROOT: &[Part] = &[
    ("token_embd", "model.embed_tokens", As::Same),
    ("output_norm", "model.final_layernorm", As::Same),
    ("output", "lm_head", As::Same),
];

pub(super) const PHI2: &[Part] = &[
    ("attn_output", "self_attn.dense", As::Same),
    ("ffn_up", "mlp.fc1", As::Same),
    ("ffn_down", "mlp.fc2", As::Same),
];

pub(super) const PHI3: &[Part] = &[
    ("attn_qkv", "self_attn.qkv_proj", As::Same),
    ("ffn_up", "mlp.gate_up_proj", As::Same),
];

pub(super) const STABLELM: &[Part] = &[
    ("attn_q_norm", "self_attn.q_layernorm.norms.{}", As::Heads),
    ("attn_k_norm", "self_attn.k_layernorm.norms.{}", As::Heads),
];

pub(super) const STARCODER2: &[Part] = &[
    ("ffn_up", "mlp.c_fc", As::Same),
    ("ffn_down", "mlp.c_proj", As::Same),
];

pub(super) const MIXTRAL: &[Part] = &[
    ("ffn_gate_inp", "block_sparse_moe.gate", As::Same),
    (
        "ffn_gate_exps",
        "block_sparse_moe.experts.{}.w1",
        As::Experts,
    ),
    ("ffn_up_exps", "block_sparse_moe.experts.{}.w3", As::Experts),
    (
        "ffn_down_exps",
        "block_sparse_moe.experts.{}.w2",
        As::Experts,
    ),
];
