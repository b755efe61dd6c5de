//! Keys of config.json that no family reads: those without effect on the forward pass, and those
//! that would change its mathematics.
//!
//! What is on neither list and read by nothing is unknown, and is named to the user.
//! `tools/config_sweep` compares both lists with transformers.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{config::Config, weights};
use crate::error::Result;

/// Without effect on the forward pass of any family.
#[rustfmt::skip]
const WITHOUT_EFFECT: &[&str] = &[
    // Where the file comes from, and what it is for.
    "_commit_hash", "_name_or_path", "architectures", "auto_map", "custom_pipelines", "library_name",
    "license", "model_type", "name_or_path", "tags", "transformers_version", "unsloth_fixed",
    "unsloth_version",
    // How it is stored and run; the arithmetic here is massact's own.
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "_experts_implementation", "_flash_attn_2_enabled", "attn_implementation", "dtype",
    "experts_implementation", "flash_attn", "fused_dense", "fused_rotary", "gradient_checkpointing",
    "pretraining_tp", "torch_dtype", "torchscript", "use_bfloat16", "use_flash_attn",
    "use_flash_attention", "use_flash_attention_2", "use_cache", "cache_implementation",
    "chunk_size_feed_forward",
    // Where DyT's stored alphas started.
    "dyt_alpha",
    // What is returned besides the logits.
    "output_attentions", "output_hidden_states", "output_past", "output_router_logits", "return_dict",
    "tie_last_hidden_states", "use_return_dict",
    // Training.
    "activation_dropout", "attention_dropout", "attention_probs_dropout_prob", "attn_dropout",
    "attn_pdrop", "aux_loss_alpha", "classifier_dropout", "dropout", "emb_pdrop", "embd_pdrop",
    "embedding_dropout", "hidden_dropout", "hidden_dropout_prob", "init_std", "initializer_factor",
    "initializer_range", "layerdrop", "resid_pdrop", "residual_dropout", "router_aux_loss_coef",
    "router_jitter_noise", "seq_aux", "summary_first_dropout",
    // Heads for other tasks.
    "finetuning_task", "id2label", "label2id", "num_labels", "problem_type", "summary_activation",
    "_num_labels", "summary_proj_to_labels", "summary_type", "summary_use_proj", "task_specific_params",
    // Tokens and generation.
    "bad_words_ids", "begin_suppress_tokens", "bos_token_id", "cls_token_id",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "mask_token_id", "max_length",
    "max_new_tokens", "min_length", "model_max_length", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_return_sequences", "pad_token_id", "prefix",
    "remove_invalid_values", "repetition_penalty", "return_dict_in_generate", "output_scores",
    "sep_token_id", "suppress_tokens", "temperature", "tokenizer_class", "tokenizer_name", "top_k", "top_p",
    "typical_p", "unk_token_id",
    // Of architectures that are refused where these are switched on, or empty leftovers.
    "cross_attention_hidden_size", "is_decoder", "is_encoder_decoder", "pruned_heads", "tie_encoder_decoder",
];

/// Refuses, for every family, what would make another forward pass of any, except what this one
/// `computes`.
pub(super) fn refuse_other_mathematics(config: &Config, computes: &[&str]) -> Result<()> {
    // Its absence means true, and a null is not true.
    if config.raw("is_causal").is_some_and(|value| !truthy(value)) {
        return Err(config.refuse(
            "is_causal",
            "every token would see the later ones, which massact does not compute",
        ));
    }
    for (key, why) in [
        (
            "use_bidirectional_attention",
            "every token would see the later ones, which massact does not compute",
        ),
        (
            "add_cross_attention",
            "massact runs decoders without an encoder",
        ),
        (
            "is_encoder_decoder",
            "massact runs decoders without an encoder",
        ),
        (
            "per_layer_config",
            "settings of single layers are not computed",
        ),
    ] {
        if !computes.contains(&key) && config.get(key).is_some_and(truthy) {
            return Err(config.refuse(key, why));
        }
    }
    Ok(())
}

/// As Python understands it.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

/// What became of the keys of config.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigRecord {
    /// Keys that nothing read and no list knows, with their places, as `rope_scaling.factor`.
    pub unknown_keys: Vec<String>,
}

impl ConfigRecord {
    /// After the config was read for a family.
    pub(super) fn of(config: &Config) -> Self {
        let idle = config.idle();
        Self {
            unknown_keys: config.unread(|path| {
                // Nested configs have the keys of every config.
                let name = ["text_config.", "attn_config."]
                    .into_iter()
                    .find_map(|place| path.strip_prefix(place))
                    .unwrap_or(path);
                WITHOUT_EFFECT.contains(&name)
                    || idle.contains(&name)
                    || name
                        .strip_prefix("quantization_config.")
                        .is_some_and(weights::without_effect)
            }),
        }
    }

    /// What to say of it.
    pub(super) fn notice(&self) -> Option<String> {
        if self.unknown_keys.is_empty() {
            return None;
        }
        let names: Vec<String> = self
            .unknown_keys
            .iter()
            .map(|key| format!("`{key}`"))
            .collect();
        Some(format!(
            "config.json: nothing reads {}; check that the results do not depend on it",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(text: &str) -> Result<()> {
        refuse_other_mathematics(&Config::parse(text.as_bytes())?, &[])
    }

    #[test]
    fn other_mathematics_is_refused_by_name() {
        for key in [
            "use_bidirectional_attention",
            "add_cross_attention",
            "is_encoder_decoder",
        ] {
            assert_eq!(verdict(&format!(r#"{{"{key}": false}}"#)), Ok(()));
            assert_eq!(verdict(&format!(r#"{{"{key}": null}}"#)), Ok(()));
            let message = verdict(&format!(r#"{{"{key}": true}}"#)).expect_err(key);
            assert!(message.to_string().contains(key), "{message}");
        }
        assert_eq!(verdict(r#"{"per_layer_config": {}}"#), Ok(()));
        assert!(verdict(r#"{"per_layer_config": {"0": {}}}"#).is_err());
    }

    #[test]
    fn a_null_is_not_causal() {
        assert_eq!(verdict("{}"), Ok(()));
        assert_eq!(verdict(r#"{"is_causal": true}"#), Ok(()));
        for value in ["false", "null", "0"] {
            let message = verdict(&format!(r#"{{"is_causal": {value}}}"#)).expect_err(value);
            assert!(message.to_string().contains("`is_causal`"), "{message}");
        }
    }

    #[test]
    fn lists_are_looked_up_in_the_text_config_too() {
        let text = r#"{"use_cache": 1, "own": 1, "left": 1, "absent": null,
            "text_config": {"use_cache": 1, "own": 1, "left": 1}}"#;
        let config = Config::parse(text.as_bytes()).expect("valid");
        assert!(config.section("text_config").is_ok());
        config.without_effect(&["own"]);
        let record = ConfigRecord::of(&config);
        assert_eq!(record.unknown_keys, ["left", "text_config.left"]);
        let notice = record.notice().expect("some");
        assert!(notice.contains("`left`, `text_config.left`"), "{notice}");
        assert_eq!(ConfigRecord::default().notice(), None);
    }
}
