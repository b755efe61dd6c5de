//! Bamba (transformers `modeling_bamba.py`): Llama, with Mamba-2's layer in the place of attention in most
//! layers.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{LayerParts, NormStyle},
    state_space::Mamba2,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Mixer},
    },
};

/// Names of Bamba's and Falcon-H1's tensors, and what `llama_like` calls them.
pub(super) const RENAMED: &[(&str, &str)] = &[
    ("mlp.", "feed_forward."),
    ("post_attention_layernorm", "pre_ff_layernorm"),
    ("norm", "final_layernorm"),
];

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 262_144),
        ("mamba_n_heads", 128),
    ],
    without_effect: &[
        "layer_types",
        "layers_block_type",
        "mamba_chunk_size",
        "num_logits_to_keep",
        "z_loss_coefficient",
    ],
    renamed: RENAMED,
    ..Family::llama_like(
        "bamba",
        "ibm-ai-platform/Bamba-9B-v2",
        "Llama with half of each head rotated; Mamba-2 in the place of attention in most layers",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    // Whatever the config says, as in its class.
    let config = &config.with("partial_rotary_factor", 0.5.into());
    let mut options = Options::read(config)?;
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    options.rope.partial = Some(0.5);
    let sizes = options.sizes;
    let inner = config.size_or("mamba_expand", 2)? * sizes.hidden;
    let mamba = Mamba2::read(config, sizes.hidden, inner, options.norm.epsilon)?;
    let attends = config
        .indices_opt("attn_layer_indices")?
        .unwrap_or_default();
    let mut spec = llama_like::describe(config, names, &options, |_, _| Ok(()))?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        if attends.contains(&(index as u64)) {
            continue;
        }
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style: options.norm,
        };
        layer.attention = None;
        layer.mixer = Some(Mixer::StateSpace(Box::new(mamba.mixer(&parts, "mamba"))));
    }
    Ok(spec)
}
