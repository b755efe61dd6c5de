//! Gemma 1 (transformers `modeling_gemma.py`): RMSNorm with 1 + w, scaled embeddings, GEGLU.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{NormStyle, activation},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{Activation, DecoderSpec, Mlp, TransformerLayer},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 16),
        ("head_dim", 256),
        ("max_position_embeddings", 8192),
    ],
    // Its newer name, which transformers does not read in this family.
    without_effect: &["hidden_activation"],
    ..Family::llama_like(
        "gemma",
        "google/gemma-7b",
        "RMSNorm with 1 + w, embeddings scaled by sqrt(hidden), GEGLU, tied head",
        describe,
    )
};

/// What all Gemmas share.
pub(super) fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    options.norm = NormStyle {
        offset: 1.0,
        ..NormStyle::rms(config.number_or("rms_norm_eps", 1e-6)?)
    };
    options.mlp_bias = false;
    options.tied = true;
    Ok(options)
}

/// The square root of the width, rounded to float32.
pub(super) fn embedding_scale(spec: &mut DecoderSpec) {
    spec.embedding.scale = (spec.hidden_size as f64).sqrt() as f32;
}

/// Changes a gated MLP's nonlinearity.
pub(super) fn set_activation(layer: &mut TransformerLayer, activation: Activation) {
    if let Mlp::Gated(mlp) = &mut layer.mlp {
        mlp.activation = activation;
    }
}

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let options = options(config)?;
    // Released configs say `gelu` and mean its tanh form.
    let activation = match config.text_or("hidden_act", "gelu")? {
        "gelu" => Activation::GeluTanh,
        other => activation(other)?,
    };
    let mut spec = llama_like::describe(config, names, &options, |_, layer| {
        set_activation(layer, activation);
        Ok(())
    })?;
    embedding_scale(&mut spec);
    Ok(spec)
}
