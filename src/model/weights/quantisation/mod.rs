//! Which tensors of a checkpoint are parts of a packed one: one file a method, named as
//! `quantization_config` names it.
//!
//! What is packed is decided by the tensors that are there, never by a list of modules alone; the
//! config says how to read them.

mod mxfp4;

use super::store::WeightStore;
use crate::{
    error::{Error, Result},
    model::config::Config,
};

/// How a checkpoint's weights are packed, as its config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// gpt-oss.
    Mxfp4,
}

impl Method {
    /// Reads `quantization_config`; none if there is none.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>> {
        let Some(section) = config.section("quantization_config")? else {
            return Ok(None);
        };
        Ok(Some(match section.text_or("quant_method", "unknown")? {
            "mxfp4" => Self::Mxfp4,
            method => {
                return Err(Error::new(
                    "config.json",
                    format!(
                        "the weights are quantised with `{method}`, which massact does not read"
                    ),
                )
                .remedy(
                    "take the unquantised checkpoint, or dequantise it and save it in 16 bits",
                ));
            }
        }))
    }
}

/// Puts packed tensors in the place of their parts.
pub fn recognise(weights: &mut WeightStore, config: &Config) -> Result<()> {
    let packing = match Method::of(config)? {
        None => return Ok(()),
        Some(Method::Mxfp4) => mxfp4::recognise(weights)?,
    };
    weights.set_packing(packing);
    Ok(())
}
