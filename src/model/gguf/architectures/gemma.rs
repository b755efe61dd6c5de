//! Gemma 2 and 3, whose attention is scaled otherwise in the largest model only.

#![forbid(unsafe_code)]

use super::{
    super::keys::{Keys, Settings},
    settings::sliding_layers,
};
use crate::error::Result;

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
