//! Decoders built like Llama: gated MLP, rotary positions, grouped queries, the same names.
//!
//! A family gives its [`Options`] and changes each layer where it departs further.
#![forbid(unsafe_code)]

use super::parts::{LayerParts, NormStyle, activation, consecutive};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{
            Attention, DecoderSpec, Embedding, GatedMlp, Head, Layer, Linear, Mlp, TransformerLayer,
        },
    },
};

/// Sizes that every layer shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) vocab: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) inner: usize,
    pub(super) layers: usize,
    pub(super) positions: usize,
}

impl Sizes {
    /// Reads the usual keys.
    pub(super) fn read(config: &Config) -> Result<Self> {
        let hidden = config.size("hidden_size")?;
        let heads = config.heads("num_attention_heads")?;
        Ok(Self {
            vocab: config.size("vocab_size")?,
            hidden,
            heads,
            kv_heads: match config.get("num_key_value_heads") {
                Some(_) => config.heads("num_key_value_heads")?,
                None => heads,
            },
            head_dim: config.size_opt("head_dim")?.unwrap_or(hidden / heads),
            inner: config.size("intermediate_size")?,
            layers: config.layers("num_hidden_layers")?,
            positions: config.size_or("max_position_embeddings", 2048)?,
        })
    }

    /// Width of all query heads.
    pub(super) fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads.
    pub(super) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// How a family departs from Llama.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) sizes: Sizes,
    pub(super) norm: NormStyle,
    /// What an absent `tie_word_embeddings` means.
    pub(super) tied: bool,
    pub(super) rope: RopeDefaults,
    /// Whether there is any rotation.
    pub(super) rotates: bool,
    /// Whether q, k and v have biases.
    pub(super) qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub(super) o_bias: bool,
    pub(super) mlp_bias: bool,
    /// Whether q, k and v share a tensor.
    pub(super) fused_qkv: bool,
    /// Whether gate and up share a tensor.
    pub(super) fused_gate: bool,
    /// The activation where `hidden_act` is absent.
    pub(super) activation: &'static str,
}

impl Options {
    /// Llama's own, with biases as `attention_bias` and `mlp_bias` say.
    pub(super) fn read(config: &Config) -> Result<Self> {
        let attention_bias = config.flag_or("attention_bias", false)?;
        Ok(Self {
            sizes: Sizes::read(config)?,
            norm: NormStyle::rms(config.number_or("rms_norm_eps", 1e-6)?),
            tied: false,
            rope: RopeDefaults::default(),
            rotates: true,
            qkv_bias: attention_bias,
            o_bias: attention_bias,
            mlp_bias: config.flag_or("mlp_bias", false)?,
            fused_qkv: false,
            fused_gate: false,
            activation: "silu",
        })
    }
}

/// The description; `adjust` changes each layer where the family departs from Llama.
pub(super) fn describe(
    config: &Config,
    names: &Names,
    options: &Options,
    mut adjust: impl FnMut(&LayerParts<'_>, &mut TransformerLayer) -> Result<()>,
) -> Result<DecoderSpec> {
    let sizes = options.sizes;
    let mut ropes = Vec::new();
    if options.rotates {
        let (width, positions) = (sizes.head_dim, sizes.positions);
        ropes.push(Rope::from_config(config, width, positions, options.rope)?);
    }
    let activation = activation(config.text_or("hidden_act", options.activation)?)?;
    let layers = (0..sizes.layers)
        .map(|index| {
            let parts = LayerParts {
                names,
                list: "layers",
                index,
                style: options.norm,
            };
            let mut attention = attention(&parts, options);
            attention.rope = options.rotates.then_some(0);
            let (gate, up) = gate_and_up(&parts, options);
            let down = parts.linear("mlp.down_proj", sizes.inner, sizes.hidden, options.mlp_bias);
            let mut layer = TransformerLayer::new(
                parts.norm("input_layernorm", sizes.hidden),
                attention,
                parts.norm("post_attention_layernorm", sizes.hidden),
                Mlp::Gated(GatedMlp::new(gate, up, down, activation)),
            );
            adjust(&parts, &mut layer)?;
            Ok(Layer::from(layer))
        })
        .collect::<Result<_>>()?;
    let embedding = names.base("embed_tokens.weight");
    let tied = config.flag_or("tie_word_embeddings", options.tied)?;
    let head = names.head(tied, &embedding);
    Ok(DecoderSpec {
        model_type: config.text_or("model_type", "")?.to_owned(),
        vocab_size: sizes.vocab,
        hidden_size: sizes.hidden,
        max_positions: ropes
            .iter()
            .any(|rope| !rope.unlimited())
            .then_some(sizes.positions),
        head: Head::new(head, sizes.hidden, sizes.vocab),
        embedding: Embedding::new(embedding, sizes.hidden),
        ropes,
        layers,
        final_norm: Some(options.norm.norm(&names.base("norm"), sizes.hidden)),
    })
}

/// The attention of a layer.
pub(super) fn attention(parts: &LayerParts<'_>, options: &Options) -> Attention {
    let sizes = options.sizes;
    let (q_width, kv_width) = (sizes.q_width(), sizes.kv_width());
    let linear = |module: &str, outputs| {
        let module = format!("self_attn.{module}");
        parts.linear(&module, sizes.hidden, outputs, options.qkv_bias)
    };
    let qkv = if options.fused_qkv {
        let fused = linear("qkv_proj", q_width + 2 * kv_width);
        consecutive(&fused, [q_width, kv_width, kv_width])
    } else {
        [
            linear("q_proj", q_width),
            linear("k_proj", kv_width),
            linear("v_proj", kv_width),
        ]
    };
    let o = parts.linear("self_attn.o_proj", q_width, sizes.hidden, options.o_bias);
    Attention::new(sizes.heads, sizes.kv_heads, sizes.head_dim, qkv, o)
}

fn gate_and_up(parts: &LayerParts<'_>, options: &Options) -> (Linear, Linear) {
    let Sizes { hidden, inner, .. } = options.sizes;
    if options.fused_gate {
        let fused = parts.linear("mlp.gate_up_proj", hidden, 2 * inner, options.mlp_bias);
        let [gate, up] = consecutive(&fused, [inner, inner]);
        (gate, up)
    } else {
        (
            parts.linear("mlp.gate_proj", hidden, inner, options.mlp_bias),
            parts.linear("mlp.up_proj", hidden, inner, options.mlp_bias),
        )
    }
}
