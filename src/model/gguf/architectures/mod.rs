//! The architectures that are read: which family of transformers each is, and its settings.
#![forbid(unsafe_code)]

mod gemma;
mod modules;
mod settings;

use super::{
    keys::{Keys, Settings},
    names::{EXPERTS, LAYER, Naming, Part, ROOT, ROTATED},
    rope::{self, Partial},
};
use crate::error::{Error, Result};
use modules::{
    GEMMA2, GPT2, GPT2_ROOT, MIXTRAL, NEOX, NEOX_ROOT, OLMO2, PHI2, PHI2_ROOT, PHI3, PLUS_ONE,
    PLUS_ONE_ROOT, STABLELM, STARCODER2,
};
use settings::{biases, cohere, experts, llama, olmo2, sliding_layers, sparse, sparse_layer};

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

/// The same, with 1 added to the weights of norms.
const fn plus_one(
    name: &'static str,
    parts: &'static [&'static [Part]],
    settings: fn(&Keys<'_>, &mut Settings) -> Result<()>,
) -> Architecture {
    Architecture {
        naming: Naming {
            root: PLUS_ONE_ROOT,
            layers: "model.layers.",
            parts,
        },
        ..like_llama(name, parts, settings)
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
    plus_one("gemma", &[PLUS_ONE, LAYER], |_, settings| {
        settings.set("model_type", "gemma");
        Ok(())
    }),
    plus_one("gemma2", &[GEMMA2, LAYER], gemma::two),
    plus_one("gemma3", &[GEMMA2, LAYER], gemma::three),
    Architecture {
        naming: Naming {
            root: GPT2_ROOT,
            layers: "transformer.h.",
            parts: &[GPT2],
        },
        ..like_llama("gpt2", &[], |keys, settings| {
            settings.set("model_type", "gpt2");
            let inner = settings.take("intermediate_size");
            settings.set("n_inner", inner);
            settings.without(&["head_dim", "num_key_value_heads", "rope_theta"]);
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
            settings.without(&["num_key_value_heads"]);
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
        ..plus_one("nemotron", &[PLUS_ONE, LAYER], |keys, settings| {
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
        naming: Naming {
            root: PHI2_ROOT,
            layers: "model.layers.",
            parts: &[PHI2, LAYER],
        },
        partial: Partial::Yes,
        ..like_llama("phi2", &[], |keys, settings| {
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

/// Of norms that subtract the mean.
const LAYER_NORM: &str = "attention.layer_norm_epsilon";
const RMS_NORM: &str = "attention.layer_norm_rms_epsilon";

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
        let layers = keys.size("block_count")?;
        let last = format!("blk.{}.", layers.saturating_sub(1));
        if !keys.gguf.names().iter().any(|name| name.starts_with(&last)) {
            return Err(keys.error(
                "block_count",
                format!("it is {layers}, and there is no tensor of the last layer"),
            ));
        }
        settings.set("num_hidden_layers", layers);
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
        match keys.number_opt(RMS_NORM)? {
            Some(epsilon) => settings.set("rms_norm_eps", epsilon),
            // The families with another norm ask for theirs.
            None if keys.number_opt(LAYER_NORM)?.is_none() => return Err(keys.missing(RMS_NORM)),
            None => {}
        }
        rope::set(keys, &mut settings, head_dim, self.partial)?;
        (self.settings)(keys, &mut settings)?;
        Ok((settings, head_dim))
    }
}
