//! OLMo 2 and 3 (transformers `modeling_olmo2.py`, `modeling_olmo3.py`): norms on what the parts
//! add, and on whole query and key projections.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    llama_like::{self, Options, Sizes},
    parts::{LayerParts, NormStyle, required_window, sliding_layers},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        rope_config::{agreed, filled},
        spec::{DecoderSpec, Norms, QkNorm, TransformerLayer},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family::llama_like(
    "olmo2",
    "allenai/OLMo-2-1124-7B",
    "norms after attention and MLP instead of before, RMSNorm over whole query and key projections",
    |config, names| {
        let options = options(config)?;
        llama_like::describe(config, names, &options, |parts, layer| {
            place_norms(parts, options.sizes, layer);
            Ok(())
        })
    },
);

/// Registry row.
pub(super) const OLMO3: Family = Family {
    defaults: &[("sliding_window", 4096)],
    ..Family::llama_like(
        "olmo3",
        "allenai/Olmo-3-1025-7B",
        "OLMo 2 with sliding layers, three in four",
        olmo3,
    )
};

/// What OLMo 2 and its relatives share.
pub(super) fn options(config: &Config) -> Result<Options> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    Ok(options)
}

/// Norms after both parts, and of the projections.
pub(super) fn place_norms(parts: &LayerParts<'_>, sizes: Sizes, layer: &mut TransformerLayer) {
    layer.attention_norms = Norms::after(parts.norm("post_attention_layernorm", sizes.hidden));
    layer.mlp_norms = Norms::after(parts.norm("post_feedforward_layernorm", sizes.hidden));
    layer.attention.qk_norm = Some(projection_norms(parts, sizes));
}

/// Norms over all query heads together and all key heads together.
pub(super) fn projection_norms(parts: &LayerParts<'_>, sizes: Sizes) -> QkNorm {
    QkNorm {
        q: parts.norm("self_attn.q_norm", sizes.q_width()),
        k: parts.norm("self_attn.k_norm", sizes.kv_width()),
    }
}

fn olmo3(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let options = options(config)?;
    let sizes = options.sizes;
    let sliding = sliding_layers(config, sizes.layers, |index| (index + 1) % 4 != 0)?;
    let window = required_window(config)?;
    let without_ropes = config.without(&["rope_parameters", "rope_scaling"]);
    let mut spec = llama_like::describe(&without_ropes, names, &options, |parts, layer| {
        place_norms(parts, sizes, layer);
        let slides = sliding[parts.index];
        layer.attention.window = slides.then_some(window);
        layer.attention.rope = Some(usize::from(slides));
        Ok(())
    })?;
    // As in transformers `rope_theta` is the full layers' alone.
    spec.ropes = ropes_by_layer(config, sizes, [5e5; 2], None)?;
    Ok(spec)
}

/// The ropes of full and of sliding layers, whose bases default to `thetas`. Old configs scale
/// the first only, and may have a key for the base of the second.
pub(super) fn ropes_by_layer(
    config: &Config,
    sizes: Sizes,
    thetas: [f64; 2],
    sliding_key: Option<&str>,
) -> Result<Vec<Rope>> {
    let full = config.number_or("rope_theta", thetas[0])?;
    let sliding = match sliding_key {
        Some(key) => config.number_or(key, thetas[1])?,
        None => thetas[1],
    };
    let rope = |section: Option<Config>, theta: f64| {
        let defaults = RopeDefaults {
            theta,
            ..RopeDefaults::default()
        };
        // The section alone: the config's own base is another rope's.
        let section = section.unwrap_or_default();
        Rope::from_section(
            &section,
            Some(&section),
            sizes.head_dim,
            sizes.positions,
            defaults,
        )
    };
    // transformers looks this up beside the kinds of layers, not in their settings.
    let of_kind = |both: &Config, kind: &str| -> Result<Option<Config>> {
        let section = both.section(kind)?;
        Ok(section.map(|section| section.without(&["truncate"])))
    };
    let old = filled(config, "rope_scaling")?;
    let Some(new) = filled(config, "rope_parameters")? else {
        return Ok(vec![rope(old, full)?, rope(None, sliding)?]);
    };
    new.refuse_unless("truncate", &Value::Bool(true))?;
    let full_section = rope(of_kind(&new, "full_attention")?, full)?;
    let full_section = match old {
        Some(old) => agreed(full_section, &rope(Some(old), full)?)?,
        None => full_section,
    };
    let sliding_section = of_kind(&new, "sliding_attention")?;
    Ok(vec![full_section, rope(sliding_section, sliding)?])
}
