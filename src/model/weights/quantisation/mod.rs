//! Which tensors of a checkpoint are parts of a packed one: one file a method, named as
//! `quantization_config` names it.
//!
//! What is packed is decided by the tensors that are there, never by a list of modules alone; the
//! config says how to read them.

mod awq;
mod beside;
mod bitsandbytes;
mod compressed_tensors;
mod fp8;
mod gptq;
mod keys;
mod modelopt;
mod mxfp4;
mod parts;
mod schemes;

pub(in crate::model) use keys::without_effect;
pub(crate) use modelopt::{FILE as MODELOPT, beside};

use super::store::WeightStore;
use crate::{
    error::{Error, Result},
    model::config::Config,
};

/// How a checkpoint's weights are packed, as its config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// AWQ.
    Awq,
    /// bitsandbytes.
    BitsAndBytes,
    /// compressed-tensors.
    CompressedTensors,
    /// FP8 in blocks, by output or by tensor.
    Fp8,
    /// GPTQ.
    Gptq,
    /// ModelOpt.
    ModelOpt,
    /// gpt-oss.
    Mxfp4,
}

impl Method {
    /// Reads `quantization_config`; none if there is none.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>> {
        Ok(section(config)?.map(|(method, _)| method))
    }
}

/// The key that says how weights are packed.
const KEY: &str = "quantization_config";

/// What `quantization_config` says: the file's own, or else that of its `text_config`, as in
/// transformers, where an empty one counts as none.
fn described(config: &Config) -> Result<Option<Config>> {
    let filled = |section: &Config| !section.is_empty();
    if let Some(section) = config.section(KEY)?.filter(filled) {
        return Ok(Some(section));
    }
    match config.section("text_config")? {
        Some(text) => Ok(text.section(KEY)?.filter(filled)),
        None => Ok(None),
    }
}

/// The method, and the section that says more.
fn section(config: &Config) -> Result<Option<(Method, Config)>> {
    let Some(section) = described(config)? else {
        return Ok(None);
    };
    // Old configs of bitsandbytes do not name it.
    let flag = |key| section.flag_or(key, false);
    let unnamed = if flag("load_in_4bit")? || flag("load_in_8bit")? {
        "bitsandbytes"
    } else {
        "unknown"
    };
    let method = match section.text_or("quant_method", unnamed)? {
        "awq" => Method::Awq,
        "bitsandbytes" => Method::BitsAndBytes,
        "compressed-tensors" => Method::CompressedTensors,
        "fp8" | "fbgemm_fp8" => Method::Fp8,
        "gptq" => Method::Gptq,
        "modelopt" | "modelopt_fp4" | "modelopt_mixed" => Method::ModelOpt,
        "mxfp4" => Method::Mxfp4,
        method => {
            return Err(Error::new(
                "config.json",
                format!("the weights are quantised with `{method}`, which massact does not read"),
            )
            .remedy("take the unquantised checkpoint, or dequantise it and save it in 16 bits"));
        }
    };
    Ok(Some((method, section)))
}

/// Puts packed tensors in the place of their parts.
pub fn recognise(weights: &mut WeightStore, config: &Config) -> Result<()> {
    let Some((method, section)) = section(config)? else {
        return Ok(());
    };
    beside::refuse_twice(weights)?;
    let packing = match method {
        Method::Awq => awq::recognise(weights, &section)?,
        Method::BitsAndBytes => bitsandbytes::recognise(weights)?,
        Method::CompressedTensors => compressed_tensors::recognise(weights, &section)?,
        Method::Fp8 => fp8::recognise(weights, &section)?,
        Method::Gptq => gptq::recognise(weights, &section)?,
        Method::ModelOpt => modelopt::recognise(weights, &section)?,
        Method::Mxfp4 => Some(mxfp4::recognise(weights)?),
    };
    if let Some(packing) = packing {
        weights.set_packing(packing);
    }
    Ok(())
}
