//! Zamba2 (transformers `modeling_zamba2.py`): Mamba-2 in every layer; in some, beside the residual stream, a
//! transformer block whose weights a few blocks share in turn, each use with low-rank parts of its own.
#![forbid(unsafe_code)]

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation, consecutive},
    shared_block::{BlockSizes, OTHER_NAMES, SharedBlock, decoder, hybrid},
    state_space::Mamba2,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        rope::{Rope, RopeDefaults},
        spec::{Activation, DecoderSpec, GatedMlp, Layer, Linear, Mixer},
    },
};

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
    other_names: OTHER_NAMES,
    without_effect: &[
        "chunk_size",
        "conv_dimension",
        "ffn_hidden_size",
        "kv_channels",
        "num_logits_to_keep",
        "num_query_groups",
        "state_size",
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
    let hybrid = hybrid_layers(config)?;
    let style = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    let (sizes, mlp) = (BlockSizes::read(config)?, MlpSizes::read(config)?);
    let hidden = sizes.hidden;
    let mamba = mamba(config, hidden, mlp.bias)?;
    let adapts_attention = config.flag_or("use_shared_attention_adapter", false)?;
    let rope = rope(config, sizes.head_dim)?;
    let blocks = config.size("num_mem_blocks")?;
    let mixer = |parts: &LayerParts<'_>, module: &str| {
        Mixer::StateSpace(Box::new(mamba.mixer(parts, module)))
    };
    let rotates = rope.is_some();
    let beside = |parts: LayerParts<'_>, layer: &mut Layer| {
        let block = SharedBlock::of(parts, "shared_transformer", &hybrid, blocks, sizes);
        let mut attention = block.attention(|linear, which| match adapts_attention {
            true => {
                let list = format!("self_attn.linear_{which}_adapter_list");
                adapted(&block, linear, &list, mlp.rank)
            }
            false => linear,
        });
        attention.rope = rotates.then_some(0);
        block.put_beside(layer, attention, mlp.of(&block, hidden));
    };
    decoder(config, (names, style), hidden, &hybrid, rope, mixer, beside)
}

/// Which layers have a block.
fn hybrid_layers(config: &Config) -> Result<Vec<bool>> {
    // Of 54 layers, as in the config's class.
    let default = (0..54).map(|index| matches!(index, 6 | 12 | 18 | 24 | 30 | 36 | 42 | 47 | 51));
    let hybrid = hybrid(config, default.collect())?;
    let own = hybrid.iter().zip(0u64..).filter(|(is, _)| **is);
    let own = own.map(|(_, index)| index);
    if let Some(listed) = config.indices_opt("hybrid_layer_ids")?
        && !own.eq(listed)
    {
        return Err(config.refuse(
            "hybrid_layer_ids",
            "they are not the layers that `layers_block_type` calls hybrid",
        ));
    }
    Ok(hybrid)
}

/// The rotation of attention, where there is one.
fn rope(config: &Config, head_dim: usize) -> Result<Option<Rope>> {
    if !config.flag_or("use_mem_rope", false)? {
        return Ok(None);
    }
    let positions = match config.flag_or("use_long_context", false)? {
        true => 16_384,
        false => config.size("max_position_embeddings")?,
    };
    Rope::from_config(config, head_dim, positions, RopeDefaults::default()).map(Some)
}

fn mamba(config: &Config, hidden: usize, bias: bool) -> Result<Mamba2> {
    let inner = config.size("mamba_expand")? * hidden;
    let heads = config.heads("n_mamba_heads")?;
    let head_dim = config.size_or("mamba_headdim", inner / heads)?;
    if heads.checked_mul(head_dim) != Some(inner) {
        return Err(config.refuse(
            "n_mamba_heads",
            &format!("heads of {head_dim} values are not {inner} together"),
        ));
    }
    Ok(Mamba2 {
        hidden,
        heads,
        head_dim,
        groups: config.size("mamba_ngroups")?,
        state: config.size("mamba_d_state")?,
        width: config.size("mamba_d_conv")?,
        convolution_bias: true,
        in_bias: bias,
        out_bias: bias,
        activation: Activation::Silu,
        // Whatever the config says.
        epsilon: 1e-5,
        dt_limits: (
            config.number_or("time_step_min", 0.001)? as f32,
            f32::INFINITY,
        ),
    })
}

/// Sizes and settings of the blocks' MLPs.
#[derive(Debug, Clone, Copy)]
struct MlpSizes {
    inner: usize,
    activation: Activation,
    /// Of the projections of Mamba-2, too.
    bias: bool,
    /// Middle of all low-rank parts.
    rank: usize,
}

impl MlpSizes {
    fn read(config: &Config) -> Result<Self> {
        let inner = config.size_opt("intermediate_size")?;
        Ok(Self {
            inner: match inner {
                Some(inner) => inner,
                None => 4 * config.size("hidden_size")?,
            },
            activation: activation(config.text_or("hidden_act", "gelu")?)?,
            bias: config.flag_or("add_bias_linear", false)?,
            rank: config.size("adapter_rank")?,
        })
    }

    fn of(&self, block: &SharedBlock<'_>, hidden: usize) -> GatedMlp {
        let linear = |name: &str, inputs, outputs| {
            block.linear(&format!("feed_forward.{name}"), inputs, outputs, self.bias)
        };
        let fused = linear("gate_up_proj", hidden, 2 * self.inner);
        let list = "feed_forward.gate_up_proj_adapter_list";
        let fused = adapted(block, fused, list, self.rank);
        let [gate, up] = consecutive(&fused, [self.inner, self.inner]);
        let down = linear("down_proj", self.inner, hidden);
        GatedMlp::new(gate, up, down, self.activation)
    }
}

/// The same projection with the low-rank part that this use of the block has in `list`.
fn adapted(block: &SharedBlock<'_>, linear: Linear, list: &str, rank: usize) -> Linear {
    let part = |which: usize, inputs, outputs| {
        let module = format!("{list}.{}.{which}", block.number);
        block.linear(&module, inputs, outputs, false)
    };
    let down = part(0, linear.in_features, rank);
    let up = part(1, rank, linear.out_features);
    linear.with_low_rank(down, up)
}
