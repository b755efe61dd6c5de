//! The model families massact runs: one small file each that maps a config to a [`DecoderSpec`].
#![forbid(unsafe_code)]

mod bloom;
mod cohere;
mod deepseek;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod glm;
mod gpt2;
mod gpt_neox;
mod gpt_oss;
mod gptj;
mod granite;
mod llama;
mod llama_like;
mod mistral;
mod moe;
mod mpt;
mod nemotron;
mod olmo;
mod olmo2;
mod opt;
mod parts;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;
mod stablelm;
mod starcoder2;

use super::{config::Config, config_keys, names::Names, spec::DecoderSpec};
use crate::error::{Error, Result};

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
            embedding: "embed_tokens.weight",
            prefixes: &["model.", ""],
            defaults: &[],
            other_names: &[],
            without_effect: &[],
            describe,
        }
    }

    /// The description of a checkpoint of this family.
    pub fn spec(&self, config: &Config, names: &Names) -> Result<DecoderSpec> {
        config_keys::refuse_other_mathematics(config)?;
        let config = config
            .renamed(self.other_names)
            .with_defaults(self.defaults);
        (self.describe)(&config, names)
    }
}

/// Every supported family, by `model_type`.
pub const FAMILIES: &[Family] = &[
    bloom::FAMILY,
    cohere::FAMILY,
    cohere::COHERE2,
    deepseek::V2,
    deepseek::V3,
    falcon::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3::MULTIMODAL,
    gemma3::FAMILY,
    glm::FAMILY,
    glm::GLM4,
    gpt2::FAMILY,
    gpt_neox::FAMILY,
    gpt_oss::FAMILY,
    gptj::FAMILY,
    granite::FAMILY,
    llama::FAMILY,
    mistral::MINISTRAL,
    mistral::FAMILY,
    moe::MIXTRAL,
    mpt::FAMILY,
    nemotron::FAMILY,
    olmo::FAMILY,
    olmo2::FAMILY,
    olmo2::OLMO3,
    moe::OLMOE,
    opt::FAMILY,
    phi::FAMILY,
    phi3::FAMILY,
    qwen2::FAMILY,
    moe::QWEN2_MOE,
    qwen3::FAMILY,
    moe::QWEN3_MOE,
    smollm3::FAMILY,
    stablelm::FAMILY,
    starcoder2::FAMILY,
];

/// The family of a config.
pub fn find(config: &Config) -> Result<&'static Family> {
    let model_type = config.model_type()?;
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
