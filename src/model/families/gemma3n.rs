//! Gemma 3n (transformers `modeling_gemma3n.py`): Gemma 3 with several residual streams (AltUp), a
//! low-rank part beside attention (LAuReL), gates of which most are cut off in some layers, embeddings
//! for each layer, and late layers that read the keys and values of earlier ones.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    gemma::embedding_scale,
    gemma_layers::{Embeddings, key_sources, share_or_norm},
    gemma2::{sandwich, soft_cap},
    llama_like::{self, Options},
    moe::{USUAL, gated},
    olmo2::ropes_by_layer,
    parts::{LayerParts, activation, required_window, sliding_layers},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{AltUp, DecoderSpec, Laurel, Linear, Mlp, OtherStreams, Vector},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 262_400),
        ("hidden_size", 2048),
        ("intermediate_size", 16_384),
        ("num_hidden_layers", 35),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 2),
        ("head_dim", 256),
        ("max_position_embeddings", 32_768),
        ("sliding_window", 512),
        ("vocab_size_per_layer_input", 262_144),
        ("hidden_size_per_layer_input", 256),
        ("altup_num_inputs", 4),
        ("num_kv_shared_layers", 15),
        ("laurel_rank", 64),
    ],
    // In training alone.
    without_effect: &["altup_coef_clip"],
    ..Family::llama_like(
        "gemma3n_text",
        "google/gemma-3n-E4B",
        "Gemma 3 with four residual streams (AltUp), a low-rank part beside attention (LAuReL), most gates cut off in early layers, embeddings for each layer and shared keys and values",
        describe,
    )
};

/// Each is described in memory before a tensor is looked up.
const MOST_STREAMS: usize = 64;

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    config.refuse_unless("altup_active_idx", &Value::from(0))?;
    let inner = inner_widths(config)?;
    let first = inner.first().copied().unwrap_or_default();
    let config = &config.with("intermediate_size", Value::from(first));
    let options = Options {
        tied: true,
        mlp_bias: false,
        ..Options::read(config)?
    };
    let sizes = options.sizes;
    let hidden = sizes.hidden;
    let slides = sliding_layers(config, sizes.layers, |index| (index + 1) % 5 != 0)?;
    let sources = key_sources(
        config,
        &slides,
        config.number_or("num_kv_shared_layers", 15.0)?,
    )?;
    let window = required_window(config)?;
    let activation = activation(config.text_or("hidden_activation", "gelu_pytorch_tanh")?)?;
    let cutoffs = cutoffs(config, sizes.layers)?;
    let streams = config.size("altup_num_inputs")?;
    if streams > MOST_STREAMS {
        return Err(config.refuse(
            "altup_num_inputs",
            "massact runs models of up to 64 residual streams",
        ));
    }
    let rank = config.size("laurel_rank")?;
    let corrected = config.flag_or("altup_correct_scale", true)?;
    let Some(per_layer) = Embeddings::read(config, sizes, activation)? else {
        return Err(config.refuse(
            "hidden_size_per_layer_input",
            "layers of this family have embeddings of their own",
        ));
    };
    let ropes = ropes_by_layer(config, sizes, [1e6, 1e4], Some("rope_local_base_freq"))?;
    let without_ropes = config.without(&["rope_parameters", "rope_scaling"]);
    let mut spec = llama_like::describe(&without_ropes, names, &options, |parts, layer| {
        let (index, slides) = (parts.index, slides[parts.index]);
        let attention = &mut layer.attention;
        attention.scale = 1.0;
        attention.window = slides.then_some(window);
        attention.rope = Some(usize::from(slides));
        share_or_norm(parts, attention, sources[index]);
        sandwich(parts, hidden, layer);
        let mut mlp = gated(
            parts,
            "mlp",
            USUAL,
            (hidden, inner[index]),
            activation,
            false,
        );
        mlp.cutoff = cutoffs[index];
        layer.mlp = Mlp::Gated(mlp);
        Ok(())
    })?;
    spec.ropes = ropes;
    embedding_scale(&mut spec);
    spec.head.soft_cap = soft_cap(config, "final_logit_softcapping", Some(30.0))?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style: options.norm,
        };
        layer.per_layer = Some(per_layer.input(&parts));
        layer.laurel = Some(Laurel {
            left: parts.linear("laurel.linear_left", hidden, rank, false),
            right: parts.linear("laurel.linear_right", rank, hidden, false),
            norm: parts.norm("laurel.post_laurel_norm", hidden),
            scale: std::f32::consts::FRAC_1_SQRT_2,
        });
        let coefficients = |module, outputs| parts.linear(module, streams, outputs, false);
        let scale = Vector::new(parts.name("altup.correct_output_scale"), hidden);
        layer.altup = Some(AltUp {
            router_norm: parts.norm("altup.router_norm", hidden),
            router: parts.linear("altup.modality_router", hidden, streams, false),
            router_scale: 1.0 / hidden as f32,
            predict: coefficients("altup.prediction_coefs", streams * streams),
            correct: coefficients("altup.correction_coefs", streams),
            output_scale: corrected.then_some(scale),
        });
    }
    let between = |list: &str| {
        let linear = |index| {
            let name = names.base(&format!("{list}.{index}.weight"));
            Linear::new(name, hidden, hidden)
        };
        (0..streams - 1).map(linear).collect()
    };
    spec.embedding.per_layer = Some(per_layer.embedding(names, options.norm));
    spec.embedding.others = Some(OtherStreams {
        begin: between("altup_projections"),
        end: between("altup_unembed_projections"),
    });
    Ok(spec)
}

/// The width of each layer's MLP: one number, or a list.
fn inner_widths(config: &Config) -> Result<Vec<usize>> {
    const KEY: &str = "intermediate_size";
    let layers = config.layers("num_hidden_layers")?;
    if !config.get(KEY).is_some_and(Value::is_array) {
        return Ok(vec![config.size(KEY)?; layers]);
    }
    let widths = config.indices_opt(KEY)?.unwrap_or_default();
    config.check_per_layer(KEY, &widths, layers)?;
    let size = |width: &u64| config.with(KEY, Value::from(*width)).size(KEY);
    widths.iter().map(size).collect()
}

/// How many standard deviations above their mean gates are cut off, in layers where they are.
fn cutoffs(config: &Config, layers: usize) -> Result<Vec<Option<f32>>> {
    const KEY: &str = "activation_sparsity_pattern";
    let shares = match config.numbers_opt(KEY)? {
        Some(shares) => shares,
        None => {
            let sparse = if layers > 10 { 10 } else { 0 };
            (0..layers)
                .map(|index| if index < sparse { 0.95 } else { 0.0 })
                .collect()
        }
    };
    config.check_per_layer(KEY, &shares, layers)?;
    let cutoff = |share: &f64| match *share {
        share if share <= 0.0 => Ok(None),
        share if share < 1.0 => Ok(Some(normal_quantile(f64::from(share as f32)) as f32)),
        _ => Err(config.refuse(KEY, "a share must be below 1")),
    };
    shares.iter().map(cutoff).collect()
}

/// The value that a standard normal variable stays below with this probability.
fn normal_quantile(probability: f64) -> f64 {
    use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};
    // erf's series, exact enough up to the quantiles of float32's probabilities.
    let below = |x: f64| {
        let z = x / SQRT_2;
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            let n = f64::from(n);
            term *= -z * z / n;
            sum += term / (2.0 * n + 1.0);
        }
        0.5 + 0.5 * FRAC_2_SQRT_PI * sum
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..80 {
        let middle = 0.5 * (low + high);
        if below(middle) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::normal_quantile;

    /// Values of scipy's `norm.ppf`.
    #[test]
    fn quantiles() {
        for (probability, quantile) in [
            (0.5, 0.0),
            (0.95, 1.644_853_626_951_472_7),
            (0.1, -1.281_551_565_544_600_4),
            (0.9999, 3.719_016_485_455_68),
        ] {
            assert!((normal_quantile(probability) - quantile).abs() < 1e-9);
        }
    }
}
