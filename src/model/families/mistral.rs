//! Mistral and its relatives (transformers `modeling_mistral.py`, `modeling_ministral.py`,
//! `modeling_ministral3.py`): Llama with a sliding window, in all layers, in some or in none.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options, Sizes},
    parts::{window, windows},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        rope_config::filled,
        spec::{DecoderSpec, QueryGrowth},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 4096),
    ],
    ..Family::llama_like(
        "mistral",
        "mistralai/Mistral-7B-v0.3",
        "Llama with a sliding window in every layer, where the config has one",
        mistral,
    )
};

/// Registry row.
pub(super) const MINISTRAL: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 4096),
    ],
    ..Family::llama_like(
        "ministral",
        "mistralai/Ministral-8B-Instruct-2410",
        "Mistral with global and sliding layers",
        ministral,
    )
};

/// Registry row.
pub(super) const MINISTRAL3: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 262_144),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    without_effect: OF_ROPE,
    ..Family::llama_like(
        "ministral3",
        "mistralai/Ministral-3-8B-Base-2512",
        "`mistral` with yarn, queries that grow with their position",
        |config, names| {
            let yarn =
                br#"{"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "mscale": 1.0,
                "original_max_position_embeddings": 16384, "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1}"#;
            let (section, growth) = growing_queries(config, yarn)?;
            let mut spec = mistral(&config.without(&ROPE_SECTIONS), names)?;
            grow(&mut spec, growth);
            let sizes = Sizes::read(config)?;
            let (width, positions) = (sizes.head_dim, sizes.positions);
            let defaults = RopeDefaults::default();
            let rope = Rope::from_section(config, Some(&section), width, positions, defaults)?;
            spec.ropes = vec![rope];
            Ok(spec)
        },
    )
};

/// What sections of these families have beside what rotation needs, and what latent attention makes
/// meaningless.
pub(super) const OF_ROPE: &[&str] = &[
    "head_dim",
    "layer_types",
    "num_key_value_heads",
    "qk_head_dim",
    "rope_parameters.max_position_embeddings",
    "rope_scaling.max_position_embeddings",
];

const ROPE_SECTIONS: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// The rotary section, which by default is `usual`, and how queries grow: by
/// `1 + beta ln(1 + floor(position / original))`.
pub(super) fn growing_queries(
    config: &Config,
    usual: &[u8],
) -> Result<(Config, Option<QueryGrowth>)> {
    let new = filled(config, "rope_parameters")?;
    let section = match new.or(filled(config, "rope_scaling")?) {
        Some(section) => section,
        None => Config::parse(usual)?,
    };
    const ORIGINAL: &str = "original_max_position_embeddings";
    let kind = section.text_or("rope_type", section.text_or("type", "default")?)?;
    let original = match kind {
        // As for the rotation: what stands beside the section counts first.
        "yarn" | "llama3" | "longrope" => match config.size_opt(ORIGINAL)? {
            None => Some(match section.size_opt(ORIGINAL)? {
                None => config.size("max_position_embeddings")?,
                Some(original) => original,
            }),
            beside => beside,
        },
        _ => section.size_opt(ORIGINAL)?,
    };
    let beta = section.number_opt("llama_4_scaling_beta")?;
    let growth = original.zip(beta).map(|(original, beta)| QueryGrowth {
        rate: beta as f32,
        step: original as f32,
        offset: 0.0,
    });
    Ok((section, growth))
}

/// Lets the queries of all layers grow.
pub(super) fn grow(spec: &mut DecoderSpec, growth: Option<QueryGrowth>) {
    for attention in spec
        .layers
        .iter_mut()
        .flat_map(|layer| &mut layer.attention)
    {
        attention.query_growth = growth;
    }
}

/// transformers ignores `layer_types` in this family.
fn mistral(config: &Config, names: &Names) -> Result<DecoderSpec> {
    describe(config, names, |options| {
        Ok(vec![window(config)?; options.sizes.layers])
    })
}

fn ministral(config: &Config, names: &Names) -> Result<DecoderSpec> {
    describe(config, names, |options| {
        windows(config, options.sizes.layers, window(config)?, |_| true)
    })
}

fn describe(
    config: &Config,
    names: &Names,
    windows: impl FnOnce(&Options) -> Result<Vec<Option<usize>>>,
) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    // These families have no biases, whatever the config says.
    (options.qkv_bias, options.o_bias, options.mlp_bias) = (false, false, false);
    let windows = windows(&options)?;
    llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        Ok(())
    })
}
