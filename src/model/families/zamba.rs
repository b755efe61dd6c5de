//! Zamba (transformers `modeling_zamba.py`): Mamba with heads in every layer; in some, beside the residual
//! stream, a transformer block whose weights all of them share.
#![forbid(unsafe_code)]

use super::{
    Family,
    mamba::{Mamba, rank},
    parts::{LayerParts, NormStyle, activation},
    shared_block::{BlockSizes, OTHER_NAMES, SharedBlock, decoder, hybrid},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, GatedMlp, Layer, Mixer},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 32_000),
        ("hidden_size", 3712),
        ("intermediate_size", 14_848),
        ("num_hidden_layers", 76),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 16),
        ("attn_layer_period", 6),
        ("mamba_d_state", 16),
        ("mamba_d_conv", 4),
        ("mamba_expand", 2),
        ("n_mamba_heads", 2),
    ],
    numbers: &[("attn_layer_offset", 4.0)],
    other_names: OTHER_NAMES,
    without_effect: &[
        // Where `layers_block_type` says which layers have the block.
        "attn_layer_offset",
        "attn_layer_period",
        "max_position_embeddings",
        "num_logits_to_keep",
        "time_step_floor",
        "time_step_max",
        "time_step_min",
        "use_associative_scan",
        "use_mamba_kernels",
    ],
    ..Family::llama_like(
        "zamba",
        "Zyphra/Zamba-7B-v1",
        "Mamba with heads in every layer, beside some a shared block as in `zamba2`, without low-rank parts and rotation",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hybrid = hybrid(config, default_hybrid(config)?)?;
    let style = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    let sizes = BlockSizes::read(config)?;
    let hidden = sizes.hidden;
    let inner = config.size("intermediate_size")?;
    let activates = activation(config.text_or("hidden_act", "gelu")?)?;
    let heads = config.heads("n_mamba_heads")?;
    let mamba = Mamba {
        hidden,
        inner: config.size("mamba_expand")? * hidden,
        state: config.size("mamba_d_state")?,
        rank: rank(config, "mamba_dt_rank", hidden)?,
        width: config.size("mamba_d_conv")?,
        convolution_bias: config.flag_or("mamba_conv_bias", true)?,
        bias: config.flag_or("mamba_proj_bias", false)?,
        activation: activation(config.text_or("hidden_mamba_act", "silu")?)?,
    };
    if !mamba.inner.is_multiple_of(heads) {
        return Err(config.refuse("n_mamba_heads", "they are not equal groups of the channels"));
    }
    let mixer = |parts: &LayerParts<'_>, module: &str| {
        Mixer::SelectiveScan(Box::new(mamba.mixer_of_heads(heads, parts, module)))
    };
    let beside = |parts: LayerParts<'_>, layer: &mut Layer| {
        let block = SharedBlock::of(parts, "shared_transf", &hybrid, 1, sizes);
        let linear = |name: &str, inputs, outputs| {
            block.linear(&format!("feed_forward.{name}"), inputs, outputs, false)
        };
        let mlp = GatedMlp::new(
            linear("gate_proj", hidden, inner),
            linear("up_proj", hidden, inner),
            linear("down_proj", inner, hidden),
            activates,
        );
        block.put_beside(layer, block.attention(|linear, _| linear), mlp);
    };
    decoder(config, (names, style), hidden, &hybrid, None, mixer, beside)
}

/// The third layer, and from the fourth on every so many.
fn default_hybrid(config: &Config) -> Result<Vec<bool>> {
    let count = config.layers("num_hidden_layers")?;
    let period = config.size("attn_layer_period")?;
    let offset = config.number_or("attn_layer_offset", 4.0)?;
    let later = |index: usize| (index % period) as f64 == offset;
    let first = [false, false, true].into_iter();
    Ok(first
        .chain((0..count.saturating_sub(3)).map(later))
        .collect())
}
