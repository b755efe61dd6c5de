//! The model families massact runs: one small file each that maps a config to a [`DecoderSpec`].
#![forbid(unsafe_code)]

mod afmoe;
mod apertus;
mod bamba;
mod bloom;
mod cohere;
mod deepseek;
mod deepseek_v4;
mod dots1;
mod ernie;
mod exaone;
mod falcon;
mod falcon_h1;
mod gated_delta;
mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod gemma_layers;
mod glm;
mod glm_moe;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod granite_moe;
mod hunyuan;
mod hy_v3;
mod jamba;
mod kimi_linear;
mod laguna;
mod latent;
mod lfm2;
mod llama;
mod llama4;
mod llama_like;
mod llama_relatives;
mod mamba;
mod mimo_v2;
mod minimax_m2;
mod mistral;
mod mistral4;
mod moe;
mod mpt;
mod multimodal;
mod nemotron;
mod nemotron_h;
mod olmo;
mod olmo2;
mod olmo_hybrid;
mod opt;
mod parts;
mod phi;
mod phi3;
mod phimoe;
mod qwen2;
mod qwen3;
mod qwen3_next;
mod routed;
mod shared_block;
mod smollm3;
mod stablelm;
mod starcoder2;
mod state_space;
mod text_parts;
mod zamba;
mod zamba2;

use multimodal::Wrapper;

use super::{config::Config, config_keys, names::Names, spec::DecoderSpec, weights::WeightStore};
use crate::error::{Error, Result};

/// Llama's embedding table.
const LLAMA_EMBEDDING: &str = "embed_tokens.weight";

/// One supported `model_type`.
#[derive(Debug)]
pub struct Family {
    /// Value of `model_type` in config.json.
    pub model_type: &'static str,
    /// A hub id of this family.
    pub example: &'static str,
    /// What is special about it.
    pub notes: &'static str,
    /// Embedding table without its prefix; shows which prefix the checkpoint uses.
    pub embedding: &'static str,
    /// Prefixes that checkpoints of this family use, most usual first.
    pub prefixes: &'static [&'static str],
    /// What absent keys mean: the defaults of the family's config class in transformers, where a
    /// null would mean something else or the key is needed.
    pub defaults: &'static [(&'static str, usize)],
    /// Other names of keys, each with the key it stands for: `attribute_map` of the config class.
    pub other_names: &'static [(&'static str, &'static str)],
    /// Keys that configs of this family have and its forward pass does not depend on, beside those
    /// of every family.
    pub without_effect: &'static [&'static str],
    /// Keys that it reads and every other family refuses.
    pub computes: &'static [&'static str],
    /// The same for keys whose defaults are no counts.
    pub numbers: &'static [(&'static str, f64)],
    /// Where its tensors are not called as `describe` calls them: beginnings of names, behind the
    /// prefix and the layer's number, and what stands in their place.
    pub renamed: &'static [(&'static str, &'static str)],
    /// What a multimodal model wraps, which describes itself.
    pub wraps: Option<Wrapper>,
    /// Reads the config into a description.
    pub describe: fn(&Config, &Names) -> Result<DecoderSpec>,
}

impl Family {
    /// A family with Llama's tensor names.
    const fn llama_like(
        model_type: &'static str,
        example: &'static str,
        notes: &'static str,
        describe: fn(&Config, &Names) -> Result<DecoderSpec>,
    ) -> Self {
        Self {
            model_type,
            example,
            notes,
            embedding: LLAMA_EMBEDDING,
            prefixes: &["model.", ""],
            defaults: &[],
            other_names: &[],
            without_effect: &[],
            computes: &[],
            numbers: &[],
            renamed: &[],
            wraps: None,
            describe,
        }
    }

    /// The tensor names of a checkpoint of this family: its own, or Llama's, under which transformers
    /// may keep it.
    pub fn names<'w>(&self, weights: &'w WeightStore) -> Result<Names<'w>> {
        let own = Names::detect(weights, self.embedding, self.prefixes);
        if own.is_ok() || self.renamed.is_empty() {
            return own;
        }
        Names::detect(weights, LLAMA_EMBEDDING, self.prefixes).or(own)
    }

    /// The description of a checkpoint of this family.
    pub fn spec(&self, config: &Config, names: &Names) -> Result<DecoderSpec> {
        config_keys::refuse_other_mathematics(config, self.computes)?;
        config.without_effect(self.without_effect);
        let config = config
            .renamed(self.other_names)
            .with_defaults(self.defaults)
            .with_numbers(self.numbers);
        if let Some(wraps) = self.wraps {
            return wraps.unwrap(&config, names);
        }
        let llama = names.shape(&names.base(LLAMA_EMBEDDING)).is_some();
        if self.renamed.is_empty() || self.embedding != LLAMA_EMBEDDING && llama {
            return (self.describe)(&config, names);
        }
        (self.describe)(&config, &names.renamed(self.renamed))
    }
}

/// Every supported family, by `model_type`.
pub const FAMILIES: &[Family] = &[
    afmoe::FAMILY,
    apertus::FAMILY,
    llama_relatives::ARCEE,
    multimodal::AYA_VISION,
    bamba::FAMILY,
    bloom::FAMILY,
    cohere::FAMILY,
    cohere::COHERE2,
    multimodal::COHERE2_VISION,
    llama_relatives::CWM,
    deepseek::V2,
    deepseek::V3,
    deepseek::V32,
    deepseek_v4::FAMILY,
    dots1::FAMILY,
    ernie::FAMILY,
    ernie::MOE,
    exaone::THIRD,
    exaone::FOURTH,
    multimodal::EXAONE4_5,
    exaone::MOE,
    falcon::FAMILY,
    falcon_h1::FAMILY,
    mamba::FALCON_MAMBA,
    moe::FLEX_OLMO,
    gemma::FAMILY,
    gemma2::FAMILY,
    multimodal::GEMMA3,
    gemma3::FAMILY,
    multimodal::GEMMA3N,
    gemma3n::FAMILY,
    multimodal::GEMMA4,
    gemma4::FAMILY,
    multimodal::GEMMA4_UNIFIED,
    gemma4::UNIFIED,
    glm::FAMILY,
    glm::GLM4,
    glm_moe::FAMILY,
    deepseek::GLM4_MOE_LITE,
    multimodal::GLM4V,
    multimodal::GLM4V_MOE,
    deepseek::GLM_MOE_DSA,
    gpt2::FAMILY,
    gpt2::BIGCODE,
    gpt_neo::FAMILY,
    gpt_neox::FAMILY,
    gpt_oss::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    granite_moe::FAMILY,
    granite_moe::HYBRID,
    granite_moe::SHARED,
    llama_relatives::HELIUM,
    hunyuan::DENSE,
    hunyuan::MOE,
    hy_v3::FAMILY,
    multimodal::IDEFICS3,
    llama_relatives::INTERNLM3,
    multimodal::INTERNVL,
    jamba::FAMILY,
    deepseek::KIMI_K2,
    multimodal::KIMI_K25,
    kimi_linear::FAMILY,
    laguna::FAMILY,
    lfm2::FAMILY,
    lfm2::MOE,
    llama::FAMILY,
    multimodal::LLAMA4,
    llama4::TEXT,
    multimodal::LLAVA,
    multimodal::LLAVA_NEXT,
    multimodal::LLAVA_NEXT_VIDEO,
    multimodal::LLAVA_ONEVISION,
    mamba::FAMILY,
    mamba::MAMBA2,
    mimo_v2::FAMILY,
    minimax_m2::FAMILY,
    mistral::MINISTRAL,
    mistral::MINISTRAL3,
    mistral::FAMILY,
    multimodal::MISTRAL3,
    mistral4::FAMILY,
    moe::MIXTRAL,
    mpt::FAMILY,
    nemotron::FAMILY,
    nemotron_h::FAMILY,
    olmo::FAMILY,
    olmo2::FAMILY,
    olmo2::OLMO3,
    olmo_hybrid::FAMILY,
    moe::OLMOE,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    phimoe::FAMILY,
    qwen2::FAMILY,
    multimodal::QWEN2_5_VL,
    moe::QWEN2_MOE,
    multimodal::QWEN2_VL,
    qwen3::FAMILY,
    multimodal::QWEN3_5,
    multimodal::QWEN3_5_MOE,
    qwen3_next::QWEN3_5_MOE,
    qwen3_next::QWEN3_5,
    moe::QWEN3_MOE,
    qwen3_next::FAMILY,
    multimodal::QWEN3_VL,
    multimodal::QWEN3_VL_MOE,
    llama_relatives::SEED_OSS,
    smollm3::FAMILY,
    multimodal::SMOLVLM,
    stablelm::FAMILY,
    starcoder2::FAMILY,
    gemma2::VAULTGEMMA,
    zamba::FAMILY,
    zamba2::FAMILY,
];

/// Models with hyper-connections: a layer hands on several streams, which learned weights mix.
const SEVERAL_STREAMS: &[&str] = &[
    "glm5_next",
    "glm5_next_text",
    "hy_v4",
    "hy_v4_vl",
    "qwen4_exp",
    "qwen4_exp_text",
];

/// The family of a config.
pub fn find(config: &Config) -> Result<&'static Family> {
    let model_type = config.model_type()?;
    if SEVERAL_STREAMS.contains(&model_type) {
        return Err(Error::new(
            "config.json",
            format!(
                "model_type `{model_type}` has several residual streams (hyper-connections), which massact does not compute"
            ),
        )
        .remedy("run `massact models` for the list; docs/experiments.md says what a hidden state is there"));
    }
    FAMILIES
        .iter()
        .find(|family| family.model_type == model_type)
        .ok_or_else(|| {
            Error::new(
                "config.json",
                format!("model_type `{model_type}` is not a decoder that massact runs"),
            )
            .remedy("run `massact models` for the list")
        })
}
