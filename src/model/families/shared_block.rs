//! Transformer blocks beside the residual stream whose weights several layers share (transformers
//! `modeling_zamba.py`, `modeling_zamba2.py`).
#![forbid(unsafe_code)]

use std::iter;

use super::parts::{LayerParts, NormStyle};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::Rope,
        spec::{
            Attention, DecoderSpec, Embedding, GatedMlp, Head, Layer, Linear, Mixer, Mlp, Norm,
            Norms, SideBlock,
        },
    },
};

/// Other names of keys, in both families.
pub(super) const OTHER_NAMES: &[(&str, &str)] = &[
    ("layer_types", "layers_block_type"),
    ("head_dim", "attention_head_dim"),
];

/// Sizes of a model's blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSizes {
    pub(super) hidden: usize,
    heads: usize,
    kv_heads: usize,
    pub(super) head_dim: usize,
}

impl BlockSizes {
    pub(super) fn read(config: &Config) -> Result<Self> {
        let hidden = config.size("hidden_size")?;
        let heads = config.heads("num_attention_heads")?;
        let width = "attention_hidden_size";
        if config.size_opt(width)?.unwrap_or(2 * hidden) != 2 * hidden {
            return Err(config.refuse(
                width,
                "attention reads the hidden state and the embedding, which are another width",
            ));
        }
        let head_dim = config.size_opt("attention_head_dim")?;
        Ok(Self {
            hidden,
            heads,
            kv_heads: match config.get("num_key_value_heads") {
                Some(_) => config.heads("num_key_value_heads")?,
                None => heads,
            },
            head_dim: head_dim.unwrap_or(2 * hidden / heads),
        })
    }
}

/// Which layers have a block: as `layers_block_type` says, or else these.
pub(super) fn hybrid(config: &Config, default: Vec<bool>) -> Result<Vec<bool>> {
    const KEY: &str = "layers_block_type";
    let hybrid: Vec<bool> = match config.texts_opt(KEY)? {
        None => default,
        Some(kinds) => {
            let kind = |kind: &String| match kind.as_str() {
                "mamba" | "linear_attention" => Ok(false),
                "hybrid" => Ok(true),
                other => Err(config.refuse(KEY, &format!("massact knows no layers `{other}`"))),
            };
            kinds.iter().map(kind).collect::<Result<_>>()?
        }
    };
    config.check_per_layer(KEY, &hybrid, config.layers("num_hidden_layers")?)?;
    Ok(hybrid)
}

/// The decoder whose layers are `mixer`'s, in the module that it is told, and where `hybrid` says so have a block
/// that `beside` puts there.
pub(super) fn decoder(
    config: &Config,
    (names, style): (&Names, NormStyle),
    hidden: usize,
    hybrid: &[bool],
    rope: Option<Rope>,
    mixer: impl Fn(&LayerParts<'_>, &str) -> Mixer,
    beside: impl Fn(LayerParts<'_>, &mut Layer),
) -> Result<DecoderSpec> {
    let vocab = config.size("vocab_size")?;
    let layer = |(index, is_hybrid): (usize, &bool)| {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style,
        };
        let mut layer = Layer::empty();
        let own = if *is_hybrid { "mamba_decoder." } else { "" };
        let norm = parts.norm(&format!("{own}input_layernorm"), hidden);
        layer.mixer_norms = Norms::before(norm);
        layer.mixer = Some(mixer(&parts, &format!("{own}mamba")));
        if *is_hybrid {
            beside(parts, &mut layer);
        }
        layer
    };
    let layers = hybrid.iter().enumerate().map(layer).collect();
    let embedding = names.base("embed_tokens.weight");
    let head = names.head(config.flag_or("tie_word_embeddings", true)?, &embedding);
    Ok(DecoderSpec {
        model_type: config.text_or("model_type", "")?.to_owned(),
        vocab_size: vocab,
        hidden_size: hidden,
        max_positions: None,
        head: Head::new(head, hidden, vocab),
        embedding: Embedding::new(embedding, hidden),
        ropes: rope.into_iter().collect(),
        layers,
        final_norm: Some(style.norm(&names.base("final_layernorm"), hidden)),
    })
}

/// A layer's use of a shared block.
pub(super) struct SharedBlock<'n> {
    /// Names of the layer's own tensors.
    own: LayerParts<'n>,
    /// The block's module in a layer.
    module: &'static str,
    /// The layers that use it; the first one's names are those of a checkpoint that stores it once.
    layers: Vec<usize>,
    /// Counts the uses of all blocks.
    pub(super) number: usize,
    sizes: BlockSizes,
}

impl<'n> SharedBlock<'n> {
    /// Of `count` blocks in turn, the one that a layer uses.
    pub(super) fn of(
        own: LayerParts<'n>,
        module: &'static str,
        hybrid: &[bool],
        count: usize,
        sizes: BlockSizes,
    ) -> Self {
        let all = hybrid.iter().enumerate().filter(|(_, is)| **is);
        let all = all.map(|(index, _)| index);
        let number = all.clone().take_while(|index| *index < own.index).count();
        Self {
            own,
            module,
            layers: all.skip(number % count).step_by(count).collect(),
            number,
            sizes,
        }
    }

    /// The name of `module` in the layer that `tensor` is stored with: its own, or another that uses the block.
    fn name(&self, tensor: &str, module: &str) -> String {
        let place = |index: &usize, name: &str| {
            let parts = LayerParts {
                index: *index,
                ..self.own
            };
            parts.name(&format!("{}.{name}", self.module))
        };
        let stored = |index: &&usize| self.own.names.shape(&place(index, tensor)).is_some();
        let mut layers = iter::once(&self.own.index).chain(&self.layers);
        // Of a tensor that is missing, where a checkpoint would have it.
        let first = self.layers.first().unwrap_or(&self.own.index);
        place(layers.find(stored).unwrap_or(first), module)
    }

    /// A projection of the block.
    pub(super) fn linear(
        &self,
        module: &str,
        inputs: usize,
        outputs: usize,
        biased: bool,
    ) -> Linear {
        let name = |tensor: String| self.name(&tensor, &tensor);
        Linear::new(name(format!("{module}.weight")), inputs, outputs)
            .with_bias(biased.then(|| name(format!("{module}.bias"))))
    }

    fn norm(&self, name: &str, width: usize) -> Norm {
        let module = self.name(&format!("{name}.weight"), name);
        self.own.style.norm(&module, width)
    }

    /// The block's attention; `adapt` changes the projection to queries, keys or values that it is told.
    pub(super) fn attention(&self, adapt: impl Fn(Linear, &str) -> Linear) -> Attention {
        let BlockSizes {
            hidden,
            heads,
            kv_heads,
            head_dim,
        } = self.sizes;
        let projection = |which: &str, heads: usize| {
            let module = format!("self_attn.{which}_proj");
            adapt(
                self.linear(&module, 2 * hidden, heads * head_dim, false),
                which,
            )
        };
        let qkv = [
            projection("q", heads),
            projection("k", kv_heads),
            projection("v", kv_heads),
        ];
        let o = self.linear("self_attn.o_proj", heads * head_dim, hidden, false);
        let mut attention = Attention::new(heads, kv_heads, head_dim, qkv, o);
        attention.scale = 1.0 / (head_dim as f32 / 2.0).sqrt();
        attention
    }

    /// Makes these the layer's.
    pub(super) fn put_beside(&self, layer: &mut Layer, attention: Attention, mlp: GatedMlp) {
        let hidden = self.sizes.hidden;
        layer.attention = Some(attention);
        layer.mlp_norms = Norms::before(self.norm("pre_ff_layernorm", hidden));
        layer.mlp = Some(Mlp::Gated(mlp));
        layer.side = Some(SideBlock {
            norm: self.norm("input_layernorm", 2 * hidden),
            out: self.own.linear("linear", hidden, hidden, false),
        });
    }
}
