//! The model families massact runs: one small file each that maps a config to a [`DecoderSpec`].
#![forbid(unsafe_code)]

mod gpt2;
mod llama;

use super::{
    config::Config,
    names::Names,
    spec::{Activation, DecoderSpec, Norm, NormKind},
};
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
    /// Reads the config into a description.
    pub describe: fn(&Config, &Names) -> Result<DecoderSpec>,
}

/// Every supported family, by `model_type`.
pub const FAMILIES: &[Family] = &[gpt2::FAMILY, llama::FAMILY];

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

/// The activation that transformers calls `name`.
fn activation(name: &str) -> Result<Activation> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        _ => Err(Error::new(
            "config.json",
            format!("activation `{name}` is not one that massact computes"),
        )
        .remedy("run `massact models` for what is supported")),
    }
}

/// RMSNorm with a learned weight.
fn rms_norm(weight: String, epsilon: f32) -> Norm {
    Norm {
        kind: NormKind::Rms,
        weight: Some(weight),
        bias: None,
        epsilon,
    }
}
