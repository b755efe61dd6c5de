//! Llamas with one thing changed (transformers `modeling_arcee.py`, `modeling_cwm.py`,
//! `modeling_helium.py`, `modeling_seed_oss.py`; `configuration_internlm3.py`).
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
    parts::{activation, window, windows},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        rope_config::filled,
        spec::{DecoderSpec, Mlp},
    },
};

/// Registry row.
pub(super) const ARCEE: Family = Family {
    defaults: &[("max_position_embeddings", 4096)],
    numbers: &[("rms_norm_eps", 1e-5)],
    ..Family::llama_like(
        "arcee",
        "arcee-ai/AFM-4.5B-Base",
        "`llama` with squared ReLU without gate",
        |config, names| {
            let options = Options::read(config)?;
            let (sizes, biased) = (options.sizes, options.mlp_bias);
            let activation = activation(config.text_or("hidden_act", "relu2")?)?;
            llama_like::describe(config, names, &options, |parts, layer| {
                layer.mlp = Mlp::Plain {
                    up: parts.linear("mlp.up_proj", sizes.hidden, sizes.inner, biased),
                    down: parts.linear("mlp.down_proj", sizes.inner, sizes.hidden, biased),
                    activation,
                };
                Ok(())
            })
        },
    )
};

/// Registry row.
pub(super) const CWM: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 8192),
    ],
    numbers: &[("rms_norm_eps", 1e-5)],
    ..Family::llama_like(
        "cwm",
        "facebook/cwm",
        "`llama` with sliding layers, three in four",
        cwm,
    )
};

/// Registry row.
pub(super) const HELIUM: Family = Family {
    defaults: &[
        ("num_key_value_heads", 20),
        ("head_dim", 128),
        ("max_position_embeddings", 4096),
    ],
    numbers: &[("rms_norm_eps", 1e-8)],
    ..Family::llama_like(
        "helium",
        "kyutai/helium-1-2b",
        "`llama` with neighbouring pairs rotated",
        |config, names| {
            let mut options = Options::read(config)?;
            options.o_bias = false;
            options.rope.theta = 1e5;
            options.rope.interleaved = true;
            llama_like::describe(config, names, &options, |_, _| Ok(()))
        },
    )
};

/// Registry row.
pub(super) const INTERNLM3: Family = Family {
    defaults: &[
        ("num_key_value_heads", 2),
        ("head_dim", 128),
        ("max_position_embeddings", 32_768),
    ],
    other_names: &[("qkv_bias", "attention_bias"), ("bias", "mlp_bias")],
    numbers: &[("rms_norm_eps", 1e-5)],
    ..Family::llama_like(
        "internlm3",
        "internlm/internlm3-8b-instruct",
        "an alias of `llama`",
        |config, names| {
            let options = Options::read(config)?;
            if options.qkv_bias != options.mlp_bias {
                let why = "it must be what `attention_bias` (`qkv_bias`) is";
                return Err(config.refuse("mlp_bias", why));
            }
            llama_like::describe(config, names, &options, |_, _| Ok(()))
        },
    )
};

/// Registry row.
pub(super) const SEED_OSS: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("max_position_embeddings", 524_288),
    ],
    ..Family::llama_like(
        "seed_oss",
        "ByteDance-Seed/Seed-OSS-36B-Base",
        "`llama` with biases on q, k and v",
        |config, names| {
            let mut options = Options::read(config)?;
            options.qkv_bias = config.flag_or("attention_bias", true)?;
            options.o_bias = config.flag_or("attention_out_bias", false)?;
            llama_like::describe(config, names, &options, |_, _| Ok(()))
        },
    )
};

fn cwm(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    (options.qkv_bias, options.o_bias) = (false, false);
    options.rope.theta = 1e6;
    let sizes = options.sizes;
    let windows = windows(config, sizes.layers, window(config)?, |index| {
        index % 4 != 0
    })?;
    let mut spec = llama_like::describe(config, names, &options, |parts, layer| {
        layer.attention.window = windows[parts.index];
        Ok(())
    })?;
    llama3_by_default(config, &options, 16.0, &mut spec)?;
    Ok(spec)
}

/// Llama 3's scaling, by this factor and with the base of `options`, where the config says none: some
/// config classes assume it, whatever `rope_theta` is.
pub(super) fn llama3_by_default(
    config: &Config,
    options: &Options,
    factor: f64,
    spec: &mut DecoderSpec,
) -> Result<()> {
    if config.get("rope_parameters").is_some() || filled(config, "rope_scaling")?.is_some() {
        return Ok(());
    }
    let usual = Config::parse(
        br#"{"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}"#,
    )?;
    let usual = usual
        .with("factor", factor.into())
        .with("rope_theta", options.rope.theta.into());
    let sizes = options.sizes;
    let (width, positions) = (sizes.head_dim, sizes.positions);
    let rope = Rope::from_section(config, Some(&usual), width, positions, options.rope)?;
    spec.ropes = vec![rope];
    Ok(())
}
