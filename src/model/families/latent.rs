//! Decoders with multi-head latent attention (DeepSeek-V2, 2024) and otherwise Llama's layers.
#![forbid(unsafe_code)]

use super::{
    llama_like::{self, Options},
    parts::{LayerParts, NormStyle},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        rope_config::filled,
        spec::{Attention, DecoderSpec, Latent, LowRank, TransformerLayer},
    },
};

/// Sizes of multi-head latent attention.
pub(super) struct LatentSizes {
    hidden: usize,
    heads: usize,
    q_rank: Option<usize>,
    rank: usize,
    /// Width of a head's part without rotation.
    pub(super) nope: usize,
    /// Width of its rotated part.
    pub(super) rope: usize,
    value: usize,
    biased: bool,
    /// Factor on q.k.
    scale: f64,
}

impl LatentSizes {
    /// Reads the usual keys.
    pub(super) fn read(config: &Config, options: &Options) -> Result<Self> {
        let nope = config.size("qk_nope_head_dim")?;
        let rope = config.size("qk_rope_head_dim")?;
        let sizes = Self {
            hidden: options.sizes.hidden,
            heads: options.sizes.heads,
            q_rank: config.size_opt("q_lora_rank")?,
            rank: config.size("kv_lora_rank")?,
            nope,
            rope,
            value: config.size("v_head_dim")?,
            biased: options.qkv_bias,
            scale: 1.0 / ((nope + rope) as f64).sqrt(),
        };
        let new = filled(config, "rope_parameters")?;
        match new.or(filled(config, "rope_scaling")?) {
            Some(section) => sizes.scaled_by(&section),
            None => Ok(sizes),
        }
    }

    /// With the factor on q.k that a rotary section says: it grows with yarn's `mscale_all_dim`.
    pub(super) fn scaled_by(mut self, section: &Config) -> Result<Self> {
        let kind = section.text_or("rope_type", section.text_or("type", "default")?)?;
        let all = section.number_opt("mscale_all_dim")?.unwrap_or(0.0);
        let factor = section.number_opt("factor")?.unwrap_or(1.0);
        self.scale = 1.0 / ((self.nope + self.rope) as f64).sqrt();
        if kind != "default" && all != 0.0 && factor > 1.0 {
            self.scale *= (0.1 * all * factor.ln() + 1.0).powi(2);
        }
        Ok(self)
    }

    fn attention(&self, parts: &LayerParts<'_>) -> Attention {
        // The norms of the latents keep their class's own epsilon.
        let norm = |module: &str, width| NormStyle::rms(1e-6).norm(&parts.name(module), width);
        let linear = |name: &str, inputs, outputs, biased| {
            parts.linear(&format!("self_attn.{name}"), inputs, outputs, biased)
        };
        let width = self.nope + self.rope;
        let q = match self.q_rank {
            None => LowRank::Full(linear("q_proj", self.hidden, self.heads * width, false)),
            Some(rank) => LowRank::Factored {
                down: linear("q_a_proj", self.hidden, rank, self.biased),
                norm: norm("self_attn.q_a_layernorm", rank),
                up: linear("q_b_proj", rank, self.heads * width, false),
            },
        };
        let both = self.rank + self.rope;
        let compress = |first, outputs| {
            linear("kv_a_proj_with_mqa", self.hidden, outputs, self.biased).part_of(first, both)
        };
        let stride = self.nope + self.value;
        let expand = |first, size| {
            linear("kv_b_proj", self.rank, self.heads * size, false).grouped(
                first,
                size,
                stride,
                self.heads * stride,
            )
        };
        let o = linear("o_proj", self.heads * self.value, self.hidden, self.biased);
        let latent = Latent {
            q,
            compress: compress(0, self.rank),
            norm: norm("self_attn.kv_a_layernorm", self.rank),
            k: expand(0, self.nope),
            v: expand(self.nope, self.value),
            k_rope: compress(self.rank, self.rope),
        };
        let mut attention = Attention::new(self.heads, self.heads, width, latent, o);
        attention.value_dim = self.value;
        attention.scale = self.scale as f32;
        attention.rope = Some(0);
        attention.rope_first = self.nope;
        attention
    }
}

/// The description; `adjust` changes each layer further.
pub(super) fn describe(
    config: &Config,
    names: &Names,
    mut options: Options,
    latent: &LatentSizes,
    rope: Rope,
    mut adjust: impl FnMut(&LayerParts<'_>, &mut TransformerLayer) -> Result<()>,
) -> Result<DecoderSpec> {
    let without_ropes =
        config.without(&["partial_rotary_factor", "rope_parameters", "rope_scaling"]);
    // The rotated width is the latent attention's own.
    options.sizes.head_dim = latent.rope;
    let mut spec = llama_like::describe(&without_ropes, names, &options, |parts, layer| {
        layer.attention = latent.attention(parts);
        adjust(parts, layer)
    })?;
    spec.ropes = vec![rope];
    Ok(spec)
}
