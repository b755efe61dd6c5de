//! Zamba2 (transformers `modeling_zamba2.py`): Mamba-2 in every layer; in some, beside the residual stream, a
//! transformer block whose weights a few blocks share in turn, each use with low-rank parts of its own.
#![forbid(unsafe_code)]

use std::iter;

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation, consecutive},
    state_space::Mamba2,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{
            Activation, Attention, DecoderSpec, Embedding, GatedMlp, Head, Layer, Linear, Mixer,
            Mlp, Norms, SideBlock,
        },
    },
};

/// The shared block's module in a layer.
const BLOCK: &str = "shared_transformer";

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("vocab_size", 32_000),
        ("hidden_size", 2560),
        ("num_hidden_layers", 54),
        ("num_attention_heads", 32),
        ("max_position_embeddings", 4096),
        ("mamba_d_state", 64),
        ("mamba_d_conv", 4),
        ("mamba_expand", 2),
        ("mamba_ngroups", 1),
        ("n_mamba_heads", 8),
        ("num_mem_blocks", 1),
        ("adapter_rank", 128),
    ],
    other_names: &[
        ("layer_types", "layers_block_type"),
        ("head_dim", "attention_head_dim"),
    ],
    without_effect: &[
        "chunk_size",
        "kv_channels",
        "num_logits_to_keep",
        "num_query_groups",
        "time_step_floor",
        "time_step_max",
        "use_conv_bias",
        "use_mamba_kernels",
        "use_mem_eff_path",
        // Where nothing is rotated.
        "max_position_embeddings",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "use_long_context",
    ],
    ..Family::llama_like(
        "zamba2",
        "Zyphra/Zamba2-1.2B",
        "Mamba-2 in every layer; in some it reads, too, what a shared transformer block makes of the hidden state and the embedding",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let hybrid = hybrid(config)?;
    let style = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    let sizes = Sizes::read(config)?;
    let mamba = sizes.mamba(config)?;
    let mut ropes = Vec::new();
    if config.flag_or("use_mem_rope", false)? {
        let positions = match config.flag_or("use_long_context", false)? {
            true => 16_384,
            false => config.size("max_position_embeddings")?,
        };
        let defaults = RopeDefaults::default();
        ropes.push(Rope::from_config(
            config,
            sizes.head_dim,
            positions,
            defaults,
        )?);
    }
    let blocks = config.size("num_mem_blocks")?;
    let mut uses = 0;
    let layer = |(index, is_hybrid): (usize, &bool)| {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style,
        };
        let mut layer = Layer::empty();
        let own = if *is_hybrid { "mamba_decoder." } else { "" };
        let norm = parts.norm(&format!("{own}input_layernorm"), sizes.hidden);
        layer.mixer_norms = Norms::before(norm);
        let mixer = mamba.mixer(&parts, &format!("{own}mamba"));
        layer.mixer = Some(Mixer::StateSpace(Box::new(mixer)));
        if *is_hybrid {
            let all = hybrid.iter().enumerate().filter(|(_, is)| **is);
            let block = Block {
                own: parts,
                layers: all
                    .map(|(index, _)| index)
                    .skip(uses % blocks)
                    .step_by(blocks)
                    .collect(),
                number: uses,
                sizes,
            };
            block.put_beside(&mut layer);
            uses += 1;
            if let Some(attention) = &mut layer.attention {
                attention.rope = (!ropes.is_empty()).then_some(0);
            }
        }
        layer
    };
    let layers = hybrid.iter().enumerate().map(layer).collect();
    let embedding = names.base("embed_tokens.weight");
    let head = names.head(config.flag_or("tie_word_embeddings", true)?, &embedding);
    Ok(DecoderSpec {
        model_type: config.text_or("model_type", "")?.to_owned(),
        vocab_size: sizes.vocab,
        hidden_size: sizes.hidden,
        max_positions: None,
        head: Head::new(head, sizes.hidden, sizes.vocab),
        embedding: Embedding::new(embedding, sizes.hidden),
        ropes,
        layers,
        final_norm: Some(style.norm(&names.base("final_layernorm"), sizes.hidden)),
    })
}

/// Which layers have the block.
fn hybrid(config: &Config) -> Result<Vec<bool>> {
    const KEY: &str = "layers_block_type";
    let count = config.layers("num_hidden_layers")?;
    let hybrid: Vec<bool> = match config.texts_opt(KEY)? {
        // 54 layers, as in the config's class.
        None => (0..54)
            .map(|index| matches!(index, 6 | 12 | 18 | 24 | 30 | 36 | 42 | 47 | 51))
            .collect(),
        Some(kinds) => {
            let kind = |kind: &String| match kind.as_str() {
                "mamba" | "linear_attention" => Ok(false),
                "hybrid" => Ok(true),
                other => Err(config.refuse(KEY, &format!("massact knows no layers `{other}`"))),
            };
            kinds.iter().map(kind).collect::<Result<_>>()?
        }
    };
    config.check_per_layer(KEY, &hybrid, count)?;
    if let Some(listed) = config.indices_opt("hybrid_layer_ids")? {
        let own = hybrid.iter().zip(0u64..).filter(|(is, _)| **is);
        if !own.map(|(_, index)| index).eq(listed) {
            return Err(config.refuse(
                "hybrid_layer_ids",
                "they are not the layers that `layers_block_type` calls hybrid",
            ));
        }
    }
    Ok(hybrid)
}

/// What the layers have in common.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    vocab: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    inner: usize,
    activation: Activation,
    /// Of the projections of Mamba-2 and the MLP.
    bias: bool,
    /// Middle of the low-rank parts.
    rank: usize,
    /// Whether queries, keys and values have low-rank parts, too.
    adapts_attention: bool,
}

impl Sizes {
    fn read(config: &Config) -> Result<Self> {
        let hidden = config.size("hidden_size")?;
        let heads = config.heads("num_attention_heads")?;
        let width = "attention_hidden_size";
        if config.size_or(width, 2 * hidden)? != 2 * hidden {
            return Err(config.refuse(
                width,
                "attention reads the hidden state and the embedding, which are another width",
            ));
        }
        Ok(Self {
            vocab: config.size("vocab_size")?,
            hidden,
            heads,
            kv_heads: match config.get("num_key_value_heads") {
                Some(_) => config.heads("num_key_value_heads")?,
                None => heads,
            },
            head_dim: config.size_or("attention_head_dim", 2 * hidden / heads)?,
            inner: config.size_opt("intermediate_size")?.unwrap_or(4 * hidden),
            activation: activation(config.text_or("hidden_act", "gelu")?)?,
            bias: config.flag_or("add_bias_linear", false)?,
            rank: config.size("adapter_rank")?,
            adapts_attention: config.flag_or("use_shared_attention_adapter", false)?,
        })
    }

    fn mamba(&self, config: &Config) -> Result<Mamba2> {
        let inner = config.size("mamba_expand")? * self.hidden;
        let heads = config.heads("n_mamba_heads")?;
        let head_dim = config.size_or("mamba_headdim", inner / heads)?;
        if heads.checked_mul(head_dim) != Some(inner) {
            return Err(config.refuse(
                "n_mamba_heads",
                &format!("heads of {head_dim} values are not {inner} together"),
            ));
        }
        Ok(Mamba2 {
            hidden: self.hidden,
            heads,
            head_dim,
            groups: config.size("mamba_ngroups")?,
            state: config.size("mamba_d_state")?,
            width: config.size("mamba_d_conv")?,
            convolution_bias: true,
            in_bias: self.bias,
            out_bias: self.bias,
            activation: Activation::Silu,
            // Whatever the config says.
            epsilon: 1e-5,
            dt_limits: (
                config.number_or("time_step_min", 0.001)? as f32,
                f32::INFINITY,
            ),
        })
    }
}

/// One use of a shared block.
struct Block<'n> {
    /// Names of the layer's own tensors.
    own: LayerParts<'n>,
    /// The layers that use it; the first one's names are those of a checkpoint that stores it once.
    layers: Vec<usize>,
    /// Counts the uses of all blocks.
    number: usize,
    sizes: Sizes,
}

impl Block<'_> {
    /// Makes it the layer's attention and MLP.
    fn put_beside(&self, layer: &mut Layer) {
        let Sizes {
            hidden,
            inner,
            bias,
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.sizes;
        let projection = |which: &str, heads: usize| {
            let linear = self.linear(
                &format!("self_attn.{which}_proj"),
                2 * hidden,
                heads * head_dim,
                false,
            );
            match self.sizes.adapts_attention {
                true => self.adapted(linear, &format!("self_attn.linear_{which}_adapter_list")),
                false => linear,
            }
        };
        let qkv = [
            projection("q", heads),
            projection("k", kv_heads),
            projection("v", kv_heads),
        ];
        let o = self.linear("self_attn.o_proj", heads * head_dim, hidden, false);
        let mut attention = Attention::new(heads, kv_heads, head_dim, qkv, o);
        attention.scale = 1.0 / (head_dim as f32 / 2.0).sqrt();
        let fused = self.linear("feed_forward.gate_up_proj", hidden, 2 * inner, bias);
        let fused = self.adapted(fused, "feed_forward.gate_up_proj_adapter_list");
        let [gate, up] = consecutive(&fused, [inner, inner]);
        let down = self.linear("feed_forward.down_proj", inner, hidden, bias);
        let norm = |name: &str, width| {
            let module = self.module(&format!("{name}.weight"), name);
            self.own.style.norm(&module, width)
        };
        layer.attention = Some(attention);
        layer.mlp_norms = Norms::before(norm("pre_ff_layernorm", hidden));
        layer.mlp = Some(Mlp::Gated(GatedMlp::new(
            gate,
            up,
            down,
            self.sizes.activation,
        )));
        layer.side = Some(SideBlock {
            norm: norm("input_layernorm", 2 * hidden),
            out: self.own.linear("linear", hidden, hidden, false),
        });
    }

    /// The name of `module` in the layer that `tensor` is stored with: its own, or another that uses the block.
    fn module(&self, tensor: &str, module: &str) -> String {
        let place = |index: &usize, name: &str| {
            let parts = LayerParts {
                index: *index,
                ..self.own
            };
            parts.name(&format!("{BLOCK}.{name}"))
        };
        let stored = |index: &&usize| self.own.names.shape(&place(index, tensor)).is_some();
        let mut layers = iter::once(&self.own.index).chain(&self.layers);
        // Of a tensor that is missing, where a checkpoint would have it.
        let first = self.layers.first().unwrap_or(&self.own.index);
        place(layers.find(stored).unwrap_or(first), module)
    }

    fn linear(&self, module: &str, inputs: usize, outputs: usize, biased: bool) -> Linear {
        let name = |tensor: String| self.module(&tensor, &tensor);
        Linear::new(name(format!("{module}.weight")), inputs, outputs)
            .with_bias(biased.then(|| name(format!("{module}.bias"))))
    }

    /// The same with the low-rank part that this use has in `list`.
    fn adapted(&self, linear: Linear, list: &str) -> Linear {
        let rank = self.sizes.rank;
        let part = |which: usize, inputs, outputs| {
            let module = format!("{list}.{}.{which}", self.number);
            self.linear(&module, inputs, outputs, false)
        };
        let (down, up) = (
            part(0, linear.in_features, rank),
            part(1, rank, linear.out_features),
        );
        linear.with_low_rank(down, up)
    }
}
