//! The architectures that are read: which family of transformers each is, and its settings.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{
    keys::{Keys, Settings},
    names::{As, EXPERTS, LAYER, Naming, Part, ROOT, ROTATED},
    rope::{self, Partial},
};
use crate::error::{Error, Result};

/// An architecture of llama.cpp.
#[derive(Debug)]
pub(super) struct Architecture {
    /// `general.architecture`.
    pub(super) name: &'static str,
    pub(super) naming: Naming,
    /// Writes config.json beyond what all have.
    settings: fn(&Keys<'_>, &mut Settings) -> Result<()>,
    partial: Partial,
}

const fn like_llama(
    name: &'static str,
    parts: &'static [&'static [Part]],
    settings: fn(&Keys<'_>, &mut Settings) -> Result<()>,
) -> Architecture {
    Architecture {
        name,
        naming: Naming {
            root: ROOT,
            layers: "model.layers.",
            parts,
        },
        settings,
        partial: Partial::No,
    }
}

/// All that are read.
const ARCHITECTURES: &[Architecture] = &[
    like_llama("command-r", &[LAYER], |keys, settings| {
        settings.set("model_type", "cohere");
        settings.set("use_qk_norm", keys.has("blk.0.attn_q_norm.weight"));
        settings.set("attention_bias", keys.has("blk.0.attn_q.bias"));
        cohere(keys, settings)
    }),
    like_llama("cohere2", &[LAYER], |keys, settings| {
        settings.set("model_type", "cohere2");
        settings.set("sliding_window", keys.size("attention.sliding_window")?);
        sliding_layers(keys, settings, 4)?;
        cohere(keys, settings)
    }),
    like_llama("gemma", &[GEMMA, LAYER], |_, settings| {
        settings.set("model_type", "gemma");
        Ok(())
    }),
    like_llama("gemma2", &[GEMMA2, LAYER], gemma::two),
    like_llama("gemma3", &[GEMMA2, LAYER], gemma::three),
    Architecture {
        naming: Naming {
            root: GPT2_ROOT,
            layers: "transformer.h.",
            parts: &[GPT2],
        },
        ..like_llama("gpt2", &[], |keys, settings| {
            settings.set("model_type", "gpt2");
            settings.set("layer_norm_epsilon", keys.number(LAYER_NORM)?);
            Ok(())
        })
    },
    Architecture {
        naming: Naming {
            root: NEOX_ROOT,
            layers: "gpt_neox.layers.",
            parts: &[NEOX],
        },
        partial: Partial::Percent,
        ..like_llama("gptneox", &[], |keys, settings| {
            settings.set("model_type", "gpt_neox");
            let parallel = keys.flag_opt("use_parallel_residual")?;
            settings.set("use_parallel_residual", parallel.unwrap_or(true));
            settings.set("layer_norm_eps", keys.number(LAYER_NORM)?);
            Ok(())
        })
    },
    like_llama("granite", &[ROTATED, LAYER], |keys, settings| {
        settings.set("model_type", "granite");
        biases(keys, settings);
        for (key, name) in [
            ("attention_multiplier", "attention.scale"),
            ("embedding_multiplier", "embedding_scale"),
            ("residual_multiplier", "residual_scale"),
            ("logits_scaling", "logit_scale"),
        ] {
            // What is 0 is not written, and means 1.
            settings.set(key, keys.number_opt(name)?.unwrap_or(1.0));
        }
        Ok(())
    }),
    like_llama("llama", &[ROTATED, MIXTRAL, LAYER], llama),
    Architecture {
        partial: Partial::Yes,
        ..like_llama("nemotron", &[PLUS_ONE, LAYER], |keys, settings| {
            settings.set("model_type", "nemotron");
            settings.set("norm_eps", keys.number(LAYER_NORM)?);
            biases(keys, settings);
            Ok(())
        })
    },
    like_llama("olmo", &[ROTATED, LAYER], |keys, settings| {
        settings.set("model_type", "olmo");
        keys.refuse_unless(LAYER_NORM, f64::from(1e-5f32))?;
        let clip = keys
            .number_opt("attention.clamp_kqv")?
            .filter(|limit| *limit != 0.0);
        settings.set("clip_qkv", clip);
        Ok(())
    }),
    like_llama("olmo2", &[OLMO2, LAYER], olmo2),
    like_llama("olmoe", &[EXPERTS, LAYER], |keys, settings| {
        settings.set("model_type", "olmoe");
        experts(keys, settings, false)?;
        if let Some(inner) = keys.size_opt("expert_feed_forward_length")? {
            settings.set("intermediate_size", inner);
        }
        Ok(())
    }),
    Architecture {
        partial: Partial::Yes,
        ..like_llama("phi2", &[PHI2, LAYER], |keys, settings| {
            settings.set("model_type", "phi");
            settings.set("layer_norm_eps", keys.number(LAYER_NORM)?);
            Ok(())
        })
    },
    Architecture {
        partial: Partial::Yes,
        ..like_llama("phi3", &[PHI3, LAYER], |keys, settings| {
            settings.set("model_type", "phi3");
            // 0 stands for none.
            let window = keys.size_opt("attention.sliding_window")?;
            settings.set("sliding_window", window.filter(|window| *window != 0));
            if let Some(original) = keys.size_opt("rope.scaling.original_context_length")? {
                settings.set("original_max_position_embeddings", original);
            }
            Ok(())
        })
    },
    like_llama("qwen2", &[LAYER], |_, settings| {
        settings.set("model_type", "qwen2");
        Ok(())
    }),
    like_llama("qwen2moe", &[EXPERTS, LAYER], |keys, settings| {
        settings.set("model_type", "qwen2_moe");
        settings.set("qkv_bias", keys.has("blk.0.attn_q.bias"));
        let shared = keys.size_opt("expert_shared_feed_forward_length")?;
        let rows = sparse_layer(keys)
            .map(|layer| keys.rows(&format!("blk.{layer}.ffn_up_shexp.weight")))
            .transpose()?;
        if let Some(inner) = shared.or(rows) {
            settings.set("shared_expert_intermediate_size", inner);
        }
        sparse(keys, settings, false)
    }),
    like_llama("qwen3", &[LAYER], |keys, settings| {
        settings.set("model_type", "qwen3");
        settings.set("attention_bias", keys.has("blk.0.attn_q.bias"));
        Ok(())
    }),
    like_llama("qwen3moe", &[EXPERTS, LAYER], |keys, settings| {
        settings.set("model_type", "qwen3_moe");
        settings.set("attention_bias", keys.has("blk.0.attn_q.bias"));
        sparse(keys, settings, true)
    }),
    like_llama("smollm3", &[ROTATED, LAYER], |keys, settings| {
        settings.set("model_type", "smollm3");
        biases(keys, settings);
        Ok(())
    }),
    Architecture {
        partial: Partial::Yes,
        ..like_llama("stablelm", &[STABLELM, LAYER], |keys, settings| {
            settings.set("model_type", "stablelm");
            settings.set("layer_norm_eps", keys.number(LAYER_NORM)?);
            settings.set("use_qkv_bias", keys.has("blk.0.attn_q.bias"));
            settings.set("qk_layernorm", keys.has("blk.0.attn_q_norm.weight"));
            // Where it is parallel there is one norm a layer.
            keys.flag_opt("use_parallel_residual")?;
            settings.set("use_parallel_residual", !keys.has("blk.0.ffn_norm.weight"));
            Ok(())
        })
    },
    like_llama("starcoder2", &[STARCODER2, LAYER], |keys, settings| {
        settings.set("model_type", "starcoder2");
        settings.set("norm_epsilon", keys.number(LAYER_NORM)?);
        settings.set("use_bias", keys.has("blk.0.attn_q.bias"));
        settings.set("sliding_window", keys.size_opt("attention.sliding_window")?);
        Ok(())
    }),
];

const LAYER_NORM: &str = "attention.layer_norm_epsilon";

const GEMMA: &[Part] = PLUS_ONE;

/// Norms whose weights are stored with 1 added.
const PLUS_ONE: &[Part] = &[
    ("attn_norm", "input_layernorm", As::PlusOne),
    ("ffn_norm", "post_attention_layernorm", As::PlusOne),
];

const GEMMA2: &[Part] = &[
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

const GPT2_ROOT: &[Part] = &[
    ("token_embd", "transformer.wte", As::Same),
    ("position_embd", "transformer.wpe", As::Same),
    ("output_norm", "transformer.ln_f", As::Same),
    ("output", "lm_head", As::Same),
];

/// The matrices are `[out, in]`, which transformers' are not.
const GPT2: &[Part] = &[
    ("attn_norm", "ln_1", As::Same),
    ("attn_qkv", "attn.c_attn", As::Same),
    ("attn_output", "attn.c_proj", As::Same),
    ("ffn_norm", "ln_2", As::Same),
    ("ffn_up", "mlp.c_fc", As::Same),
    ("ffn_down", "mlp.c_proj", As::Same),
];

const NEOX_ROOT: &[Part] = &[
    ("token_embd", "gpt_neox.embed_in", As::Same),
    ("output_norm", "gpt_neox.final_layer_norm", As::Same),
    ("output", "embed_out", As::Same),
];

const NEOX: &[Part] = &[
    ("attn_norm", "input_layernorm", As::Same),
    ("attn_qkv", "attention.query_key_value", As::Parted),
    ("attn_output", "attention.dense", As::Same),
    ("ffn_norm", "post_attention_layernorm", As::Same),
    ("ffn_up", "mlp.dense_h_to_4h", As::Same),
    ("ffn_down", "mlp.dense_4h_to_h", As::Same),
];

const OLMO2: &[Part] = &[
    ("post_attention_norm", "post_attention_layernorm", As::Same),
    ("post_ffw_norm", "post_feedforward_layernorm", As::Same),
];

const PHI2: &[Part] = &[
    ("attn_output", "self_attn.dense", As::Same),
    ("ffn_up", "mlp.fc1", As::Same),
    ("ffn_down", "mlp.fc2", As::Same),
];

const PHI3: &[Part] = &[
    ("attn_qkv", "self_attn.qkv_proj", As::Same),
    ("ffn_up", "mlp.gate_up_proj", As::Same),
];

const STABLELM: &[Part] = &[
    ("attn_q_norm", "self_attn.q_layernorm.norms.{}", As::Heads),
    ("attn_k_norm", "self_attn.k_layernorm.norms.{}", As::Heads),
];

const STARCODER2: &[Part] = &[
    ("ffn_up", "mlp.c_fc", As::Same),
    ("ffn_down", "mlp.c_proj", As::Same),
];

const MIXTRAL: &[Part] = &[
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

/// The architecture of this name.
pub(super) fn find(name: &str) -> Result<&'static Architecture> {
    let found = ARCHITECTURES.iter().find(|one| one.name == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = ARCHITECTURES.iter().map(|one| one.name).collect();
        Error::new(
            "`general.architecture`",
            format!("`{name}` is not one that massact reads from GGUF files"),
        )
        .remedy(format!(
            "give the model in transformers format; of GGUF these are read: {}",
            names.join(", ")
        ))
    })
}

impl Architecture {
    /// The config.json of a file, and the dimensions of a head.
    pub(super) fn settings(&self, keys: &Keys<'_>) -> Result<(Settings, u64)> {
        let mut settings = Settings::default();
        let (hidden, heads) = (
            keys.size("embedding_length")?,
            keys.size("attention.head_count")?,
        );
        if heads == 0 {
            return Err(keys.error("attention.head_count", "it is 0"));
        }
        let head_dim = keys
            .size_opt("attention.key_length")?
            .unwrap_or(hidden / heads);
        if keys.size_opt("attention.value_length")?.unwrap_or(head_dim) != head_dim {
            return Err(keys.error(
                "attention.value_length",
                "it differs from `attention.key_length`",
            ));
        }
        if keys.flag_opt("attention.causal")? == Some(false) {
            return Err(keys.error(
                "attention.causal",
                "massact runs decoders, whose tokens see earlier ones only",
            ));
        }
        // The table has the last word.
        keys.size_opt("vocab_size")?;
        settings.set("vocab_size", keys.rows("token_embd.weight")?);
        settings.set("hidden_size", hidden);
        settings.set("num_hidden_layers", keys.size("block_count")?);
        settings.set("num_attention_heads", heads);
        settings.set("max_position_embeddings", keys.size("context_length")?);
        settings.set("intermediate_size", keys.size("feed_forward_length")?);
        settings.set("tie_word_embeddings", !keys.has("output.weight"));
        for (name, key) in [
            ("bos_token_id", "tokenizer.ggml.bos_token_id"),
            ("eos_token_id", "tokenizer.ggml.eos_token_id"),
        ] {
            if let Some(id) = keys.gguf.metadata.unsigned(key)? {
                settings.set(name, id);
            }
        }
        let kv_heads = keys.size_opt("attention.head_count_kv")?.unwrap_or(heads);
        settings.set("num_key_value_heads", kv_heads);
        settings.set("head_dim", head_dim);
        if let Some(epsilon) = keys.number_opt("attention.layer_norm_rms_epsilon")? {
            settings.set("rms_norm_eps", epsilon);
        }
        rope::set(keys, &mut settings, head_dim, self.partial)?;
        (self.settings)(keys, &mut settings)?;
        Ok((settings, head_dim))
    }
}

/// Llama, and under the same name Mistral and Mixtral.
fn llama(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
    let window = keys
        .size_opt("attention.sliding_window")?
        .filter(|window| *window != 0);
    if let Some(experts @ 1..) = keys.size_opt("expert_count")? {
        settings.set("model_type", "mixtral");
        settings.set("num_local_experts", experts);
        settings.set("num_experts_per_tok", keys.size("expert_used_count")?);
        settings.set("sliding_window", window.map_or(Value::Null, Value::from));
    } else if let Some(window) = window {
        settings.set("model_type", "mistral");
        settings.set("sliding_window", window);
    } else {
        keys.size_opt("expert_used_count")?;
        settings.set("model_type", "llama");
        biases(keys, settings);
    }
    Ok(())
}

/// Biases where the tensors show them.
fn biases(keys: &Keys<'_>, settings: &mut Settings) {
    settings.set("attention_bias", keys.has("blk.0.attn_output.bias"));
    settings.set("mlp_bias", keys.has("blk.0.ffn_up.bias"));
}

fn cohere(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
    settings.set("layer_norm_eps", keys.number(LAYER_NORM)?);
    settings.set("logit_scale", keys.number("logit_scale")?);
    Ok(())
}

/// OLMo 2, and under the same name OLMo 3, which slides and scales the rotation of other layers only.
fn olmo2(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
    let Some(window) = keys.size_opt("attention.sliding_window")? else {
        settings.set("model_type", "olmo2");
        return Ok(());
    };
    settings.set("model_type", "olmo3");
    settings.set("sliding_window", window);
    sliding_layers(keys, settings, 4)?;
    let (theta, scaling) = (settings.take("rope_theta"), settings.take("rope_scaling"));
    let mut full = scaling.unwrap_or_else(|| json!({"rope_type": "default"}));
    full["rope_theta"] = json!(theta);
    let sliding = json!({"rope_type": "default", "rope_theta": theta});
    settings.set(
        "rope_parameters",
        json!({"full_attention": full, "sliding_attention": sliding}),
    );
    Ok(())
}

/// Which layers slide: as a list says, or all but every so many.
fn sliding_layers(keys: &Keys<'_>, settings: &mut Settings, usual: u64) -> Result<()> {
    const PATTERN: &str = "attention.sliding_window_pattern";
    let layers = keys.size("block_count")?;
    let kinds: Vec<&str> = match keys.list_opt(PATTERN)? {
        Some(list) => list.into_iter().map(|slides| kind(slides != 0.0)).collect(),
        None => {
            let every = keys.size_opt(PATTERN)?.unwrap_or(usual).max(1);
            let layers = layers.min(super::MOST_LAYERS);
            (1..=layers)
                .map(|number| kind(number % every != 0))
                .collect()
        }
    };
    settings.set("layer_types", kinds);
    Ok(())
}

fn kind(slides: bool) -> &'static str {
    if slides {
        "sliding_attention"
    } else {
        "full_attention"
    }
}

/// Numbers of experts, and whether the weights of the chosen add up to one if nothing is said.
fn experts(keys: &Keys<'_>, settings: &mut Settings, renormalised: bool) -> Result<()> {
    settings.set("num_experts", keys.size("expert_count")?);
    settings.set("num_experts_per_tok", keys.size("expert_used_count")?);
    let said = keys.flag_opt("expert_weights_norm")?;
    settings.set("norm_topk_prob", said.unwrap_or(renormalised));
    // 1 is softmax.
    keys.refuse_unless("expert_gating_func", 1.0)?;
    keys.refuse_unless("expert_weights_scale", 1.0)
}

/// The first layer with experts.
fn sparse_layer(keys: &Keys<'_>) -> Option<u64> {
    let layers = keys.size("block_count").ok()?.min(super::MOST_LAYERS);
    (0..layers).find(|layer| keys.has(&format!("blk.{layer}.ffn_gate_inp.weight")))
}

/// Experts in some layers, as the tensors show.
fn sparse(keys: &Keys<'_>, settings: &mut Settings, renormalised: bool) -> Result<()> {
    experts(keys, settings, renormalised)?;
    let layers = keys.size("block_count")?.min(super::MOST_LAYERS);
    let dense = (0..layers).filter(|layer| !keys.has(&format!("blk.{layer}.ffn_gate_inp.weight")));
    settings.set("mlp_only_layers", dense.collect::<Vec<u64>>());
    let inner = keys.size_opt("expert_feed_forward_length")?;
    let rows = sparse_layer(keys)
        .map(|layer| keys.rows(&format!("blk.{layer}.ffn_up_exps.weight")))
        .transpose()?;
    if let Some(inner) = inner.or(rows) {
        settings.set("moe_intermediate_size", inner);
    }
    Ok(())
}

mod gemma {
    //! Gemma 2 and 3, whose attention is scaled otherwise in the largest model only.

    use super::{Keys, Result, Settings, sliding_layers};

    pub(super) fn two(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
        settings.set("model_type", "gemma2");
        settings.set(
            "sliding_window",
            keys.size_opt("attention.sliding_window")?.unwrap_or(4096),
        );
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            // 0 stands for none.
            settings.set(key, keys.number_opt(key)?.filter(|cap| *cap != 0.0));
        }
        scale(keys, settings, 46)
    }

    pub(super) fn three(keys: &Keys<'_>, settings: &mut Settings) -> Result<()> {
        settings.set("model_type", "gemma3_text");
        settings.set("sliding_window", keys.size("attention.sliding_window")?);
        sliding_layers(keys, settings, 6)?;
        let local = keys.number_opt("rope.freq_base_swa")?;
        settings.set("rope_local_base_freq", local.unwrap_or(1e4));
        let cap = keys.number_opt("final_logit_softcapping")?;
        settings.set("final_logit_softcapping", cap.filter(|cap| *cap != 0.0));
        scale(keys, settings, 62)
    }

    /// `query_pre_attn_scalar`, of which files say nothing: llama.cpp knows the largest model of a
    /// generation by its number of layers.
    fn scale(keys: &Keys<'_>, settings: &mut Settings, largest: u64) -> Result<()> {
        let (hidden, heads) = (
            keys.size("embedding_length")?,
            keys.size("attention.head_count")?,
        );
        let of_head = hidden / heads.max(1);
        let scalar = match keys
            .number_opt("attention.scale")?
            .filter(|scale| *scale > 0.0)
        {
            Some(scale) => scale.powi(-2),
            None if keys.size("block_count")? == largest => of_head as f64,
            None => keys.size_opt("attention.key_length")?.unwrap_or(of_head) as f64,
        };
        settings.set("query_pre_attn_scalar", scalar);
        Ok(())
    }
}
