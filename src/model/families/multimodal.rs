//! The text parts of multimodal checkpoints: `text_config` describes a decoder of another family, and
//! the outer model keeps its head. Without images nothing else takes part.
//!
//! The rule is one; a wrapper is a row. What the vision and audio parts store is accounted for by name.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{FAMILIES, Family, text_parts};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Head},
    },
};

/// A multimodal model around a decoder.
#[derive(Debug, Clone, Copy)]
pub struct Wrapper {
    /// The decoder's `model_type` where `text_config` says none.
    text: &'static str,
    /// What an absent `tie_word_embeddings` of the outer config means.
    tied: bool,
    /// Whether the text part's own flag ties, too.
    text_ties: bool,
    /// Whether old configs have the text part's keys beside the others.
    flat: bool,
    /// Whether the text part's cap on the logits counts.
    capped: bool,
    /// Token ids of the vocabulary in whose place the outer model puts something else.
    placeholders: fn(&Config) -> Result<Vec<Range<usize>>>,
}

/// Where the decoder lies, most usual first: as transformers 5 saves it, as earlier releases did, and
/// as some of both did; the decoder alone.
const PREFIXES: &[&str] = &[
    "model.language_model.",
    "language_model.model.",
    "model.language_model.model.",
    "language_model.model.model.",
    "model.text_model.",
    "model.",
    "",
];

/// Keys of the outer configs, and leftovers in the text parts.
const OUTER: &[&str] = &[
    "_pad_token_id",
    "adapter_layer_norm_eps",
    "alignment_intermediate_size",
    "audio_config",
    "audio_soft_tokens_per_image",
    "audio_token_id",
    "boa_token_id",
    "boi_token_id",
    "boi_token_index",
    "deepstack_layer_map",
    "downsample_factor",
    "downsample_ratio",
    "eoa_token_id",
    "eoa_token_index",
    "eoi_token_id",
    "eoi_token_index",
    "freeze_text_layers",
    "freeze_vision_layers",
    "ignore_index",
    "image_end_token_id",
    "image_grid_pinpoints",
    "image_seq_length",
    "image_start_token_id",
    "image_token_id",
    "image_token_index",
    "media_placeholder_token_id",
    "mm_tokens_per_image",
    "multimodal_projector_bias",
    "neftune_noise_alpha",
    "perceiver_config",
    "pixel_shuffle_factor",
    "projection_hidden_size",
    "projection_layer_norm_eps",
    "projector_hidden_act",
    "rope_interleaved",
    "scale_factor",
    "spatial_merge_size",
    "spatial_pool_mode",
    "spatial_pool_stride",
    "transformers.js_config",
    "use_image_newline_parameter",
    "use_resampler",
    "video_end_token_id",
    "video_seq_length",
    "video_start_token_id",
    "video_token_id",
    "video_token_index",
    "vision_aspect_ratio",
    "vision_config",
    "vision_end_token_id",
    "vision_feature_layer",
    "vision_feature_select_strategy",
    "vision_soft_tokens_per_image",
    "vision_start_token_id",
    "vision_token_id",
];

/// Sizes that a nested config leaves out where they equal the defaults of its class: of the
/// vocabulary, the residual stream, the MLP, layers and heads.
const SIZES: &[(&str, [usize; 5])] = &[
    ("cohere2", [256_000, 8192, 22_528, 40, 64]),
    ("deepseek_v3", [129_280, 7168, 18_432, 61, 128]),
    ("exaone4", [102_400, 4096, 16_384, 32, 32]),
    ("exaone4_5_text", [102_400, 4096, 16_384, 32, 32]),
    ("glm4v_moe_text", [151_424, 4096, 10_944, 46, 96]),
    ("glm4v_text", [151_552, 4096, 13_696, 40, 32]),
    ("llama4_text", [202_048, 5120, 8192, 48, 40]),
    ("llama", [32_000, 4096, 11_008, 32, 32]),
    ("ministral3", [131_072, 4096, 14_336, 34, 32]),
    ("mistral", [32_000, 4096, 14_336, 32, 32]),
    ("qwen2", [151_936, 4096, 22_016, 32, 32]),
    ("qwen2_5_vl_text", [152_064, 8192, 29_568, 80, 64]),
    ("qwen2_vl_text", [152_064, 8192, 29_568, 80, 64]),
    ("qwen3", [151_936, 4096, 22_016, 32, 32]),
    ("qwen3_5_moe_text", [248_320, 2048, 1, 40, 16]),
    ("qwen3_5_text", [248_320, 4096, 12_288, 32, 16]),
    ("qwen3_vl_moe_text", [151_936, 2048, 5632, 24, 16]),
    ("qwen3_vl_text", [151_936, 4096, 22_016, 32, 32]),
];

const SIZE_KEYS: [&str; 5] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
];

/// A row, of a wrapper whose head is tied by default or not.
const fn wrapper(
    model_type: &'static str,
    example: &'static str,
    notes: &'static str,
    text: &'static str,
    tied: bool,
) -> Family {
    Family {
        prefixes: PREFIXES,
        without_effect: OUTER,
        wraps: Some(Wrapper {
            text,
            tied,
            text_ties: false,
            flat: false,
            capped: false,
            placeholders: |_| Ok(Vec::new()),
        }),
        ..Family::llama_like(model_type, example, notes, no_text)
    }
}

/// A row, of a wrapper that the flag of either config ties.
const fn tied_by_either(row: Family, flat: bool) -> Family {
    let Some(wraps) = row.wraps else {
        return row;
    };
    Family {
        wraps: Some(Wrapper {
            text_ties: true,
            flat,
            ..wraps
        }),
        ..row
    }
}

/// A row, of a wrapper that caps the logits as its text part does and has these placeholders.
const fn capped(row: Family, placeholders: fn(&Config) -> Result<Vec<Range<usize>>>) -> Family {
    let Some(wraps) = row.wraps else {
        return row;
    };
    Family {
        wraps: Some(Wrapper {
            capped: true,
            placeholders,
            ..wraps
        }),
        ..row
    }
}

pub(super) const AYA_VISION: Family = wrapper(
    "aya_vision",
    "CohereLabs/aya-vision-8b",
    "the text part of a multimodal checkpoint: usually `cohere2`, logits without its scale",
    "cohere2",
    true,
);
pub(super) const COHERE2_VISION: Family = wrapper(
    "cohere2_vision",
    "CohereLabs/command-a-vision-07-2025",
    "the text part of a multimodal checkpoint: usually `cohere2`, logits without its scale",
    "cohere2",
    true,
);
pub(super) const EXAONE4_5: Family = wrapper(
    "exaone4_5",
    "LGAI-EXAONE/EXAONE-4.5-33B",
    "the text part of a multimodal checkpoint: `exaone4`",
    "exaone4",
    false,
);
pub(super) const GEMMA3: Family = wrapper(
    "gemma3",
    "google/gemma-3-4b-pt",
    "the text part of a multimodal checkpoint: `gemma3_text`, logits without its cap",
    "gemma3_text",
    true,
);
pub(super) const GEMMA3N: Family = capped(
    wrapper(
        "gemma3n",
        "google/gemma-3n-E4B-it",
        "the text part of a multimodal checkpoint: `gemma3n_text`",
        "gemma3n_text",
        true,
    ),
    // From here on the other parts have tables of their own.
    |config| {
        let vision = config.section("vision_config")?.unwrap_or_default();
        let first = vision.size_or("vocab_offset", 262_144)?;
        Ok(std::iter::once(first..usize::MAX).collect())
    },
);
/// Gemma 4 reads padding in the place of these, where there is no image and no sound.
fn gemma4_placeholders(config: &Config) -> Result<Vec<Range<usize>>> {
    let token = |(key, default): (&str, u64)| {
        let token = match config.raw(key) {
            None => default,
            Some(token) => token.as_u64()?,
        };
        Some(token as usize..token as usize + 1)
    };
    let tokens = [
        ("image_token_id", 258_880),
        ("audio_token_id", 258_881),
        ("video_token_id", 258_884),
    ];
    Ok(tokens.into_iter().filter_map(token).collect())
}

pub(super) const GEMMA4: Family = capped(
    wrapper(
        "gemma4",
        "google/gemma-4-E2B-it",
        "the text part of a multimodal checkpoint: `gemma4_text`",
        "gemma4_text",
        true,
    ),
    gemma4_placeholders,
);
pub(super) const GEMMA4_UNIFIED: Family = capped(
    wrapper(
        "gemma4_unified",
        "google/gemma-4-12B-it",
        "the text part of a multimodal checkpoint: `gemma4_unified_text`",
        "gemma4_unified_text",
        true,
    ),
    gemma4_placeholders,
);
pub(super) const GLM4V: Family = tied_by_either(
    wrapper(
        "glm4v",
        "zai-org/GLM-4.1V-9B-Thinking",
        "the text part of a multimodal checkpoint: `glm4` that rotates as much of each head as its config says",
        "glm4v_text",
        false,
    ),
    false,
);
pub(super) const GLM4V_MOE: Family = tied_by_either(
    wrapper(
        "glm4v_moe",
        "zai-org/GLM-4.5V",
        "the text part of a multimodal checkpoint: `glm4_moe`",
        "glm4v_moe_text",
        false,
    ),
    false,
);
pub(super) const IDEFICS3: Family = wrapper(
    "idefics3",
    "HuggingFaceM4/Idefics3-8B-Llama3",
    "the text part of a multimodal checkpoint: usually `llama`",
    "llama",
    false,
);
pub(super) const INTERNVL: Family = wrapper(
    "internvl",
    "OpenGVLab/InternVL3-1B-hf",
    "the text part of a multimodal checkpoint: usually `qwen2`",
    "qwen2",
    true,
);
pub(super) const KIMI_K25: Family = wrapper(
    "kimi_k25",
    "moonshotai/Kimi-K2.5",
    "the text part of a multimodal checkpoint: `deepseek_v3`, also as `kimi_k2`",
    "deepseek_v3",
    true,
);
pub(super) const LLAMA4: Family = wrapper(
    "llama4",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct",
    "the text part of a multimodal checkpoint: `llama4_text`",
    "llama4_text",
    false,
);
pub(super) const LLAVA: Family = tied_by_either(
    wrapper(
        "llava",
        "llava-hf/llava-1.5-7b-hf",
        "the text part of a multimodal checkpoint: usually `llama`",
        "llama",
        false,
    ),
    false,
);
pub(super) const LLAVA_NEXT: Family = wrapper(
    "llava_next",
    "llava-hf/llava-v1.6-mistral-7b-hf",
    "the text part of a multimodal checkpoint: usually `mistral` or `llama`",
    "llama",
    false,
);
pub(super) const LLAVA_NEXT_VIDEO: Family = tied_by_either(
    wrapper(
        "llava_next_video",
        "llava-hf/LLaVA-NeXT-Video-7B-hf",
        "the text part of a multimodal checkpoint: usually `llama`",
        "llama",
        false,
    ),
    false,
);
pub(super) const LLAVA_ONEVISION: Family = tied_by_either(
    wrapper(
        "llava_onevision",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "the text part of a multimodal checkpoint: usually `qwen2`",
        "qwen2",
        false,
    ),
    false,
);
pub(super) const MISTRAL3: Family = wrapper(
    "mistral3",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
    "the text part of a multimodal checkpoint: `mistral`, `ministral3` or `mistral4`",
    "mistral",
    true,
);
pub(super) const QWEN2_5_VL: Family = tied_by_either(
    wrapper(
        "qwen2_5_vl",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "the text part of a multimodal checkpoint: `qwen2`",
        "qwen2_5_vl_text",
        false,
    ),
    true,
);
pub(super) const QWEN2_VL: Family = tied_by_either(
    wrapper(
        "qwen2_vl",
        "Qwen/Qwen2-VL-7B-Instruct",
        "the text part of a multimodal checkpoint: `qwen2`",
        "qwen2_vl_text",
        false,
    ),
    true,
);
pub(super) const QWEN3_5: Family = wrapper(
    "qwen3_5",
    "Qwen/Qwen3.5-9B",
    "the text part of a multimodal checkpoint: `qwen3_5_text`",
    "qwen3_5_text",
    false,
);
pub(super) const QWEN3_5_MOE: Family = wrapper(
    "qwen3_5_moe",
    "Qwen/Qwen3.5-35B-A3B",
    "the text part of a multimodal checkpoint: `qwen3_5_moe_text`",
    "qwen3_5_moe_text",
    false,
);
pub(super) const QWEN3_VL: Family = wrapper(
    "qwen3_vl",
    "Qwen/Qwen3-VL-2B-Instruct",
    "the text part of a multimodal checkpoint: `qwen3` without windows",
    "qwen3_vl_text",
    false,
);
pub(super) const QWEN3_VL_MOE: Family = wrapper(
    "qwen3_vl_moe",
    "Qwen/Qwen3-VL-30B-A3B-Instruct",
    "the text part of a multimodal checkpoint: `qwen3_moe` without windows, experts stacked in either order of axes",
    "qwen3_vl_moe_text",
    false,
);
pub(super) const SMOLVLM: Family = wrapper(
    "smolvlm",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    "the text part of a multimodal checkpoint: usually `llama`",
    "llama",
    false,
);

/// What a row of a wrapper has in the place of a description of its own.
fn no_text(_: &Config, _: &Names) -> Result<DecoderSpec> {
    Err(missing())
}

fn missing() -> Error {
    Error::new("config.json", "`text_config` is missing")
        .remedy("add it to config.json, or take the file of the original model")
}

impl Wrapper {
    /// The decoder inside, with the outer model's head: a plain one.
    pub(super) fn unwrap(&self, config: &Config, names: &Names) -> Result<DecoderSpec> {
        let text = match config.section("text_config")? {
            Some(text) => text,
            None if self.flat => config.without(&["model_type"]),
            None => return Err(missing()),
        };
        let model_type = text.text_or("model_type", self.text)?;
        let family = decoder(model_type).ok_or_else(|| {
            Error::new(
                "config.json",
                format!(
                    "the text part is a `{model_type}`, which is not a decoder that massact runs"
                ),
            )
            .remedy("run `massact models` for the list")
        })?;
        let sizes = SIZES.iter().find(|(name, _)| *name == family.model_type);
        let defaults: Vec<_> = sizes
            .into_iter()
            .flat_map(|(_, sizes)| SIZE_KEYS.into_iter().zip(*sizes))
            .collect();
        let mut spec = family.spec(&text.with_defaults(&defaults), names)?;
        family.model_type.clone_into(&mut spec.model_type);
        let tokens = &spec.embedding.tokens;
        let tied = config.flag_or("tie_word_embeddings", self.tied)?
            || self.text_ties && spec.head.linear.weight == *tokens;
        let head = names.head(tied, tokens);
        spec.embedding.placeholders = (self.placeholders)(config)?;
        spec.head = Head {
            soft_cap: spec.head.soft_cap.filter(|_| self.capped),
            ..Head::new(head, spec.hidden_size, spec.vocab_size)
        };
        Ok(spec)
    }
}

/// The family of a text part.
fn decoder(model_type: &str) -> Option<&'static Family> {
    let rows = text_parts::FAMILIES.iter().chain(FAMILIES);
    let mut plain = rows.filter(|family| family.wraps.is_none());
    plain.find(|family| family.model_type == model_type)
}
