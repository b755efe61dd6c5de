//! Nemotron-H and Nemotron 3 (transformers `modeling_nemotron_h.py`): layers of one part each, Mamba-2,
//! attention without positions, an MLP or experts, all without gates.
#![forbid(unsafe_code)]

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation},
    state_space::Mamba2,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, Attention, DecoderSpec, Embedding, ExpertGroups, Experts, GatedMlp, Head,
            Layer, Linear, Mixer, Mlp, Norms, Routing, Score, Shared, Vector,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    embedding: "embeddings.weight",
    prefixes: &["backbone.", "model.", ""],
    defaults: &[
        ("vocab_size", 131_072),
        ("hidden_size", 4096),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
        ("intermediate_size", 21_504),
        ("ssm_state_size", 128),
        ("mamba_num_heads", 128),
        ("mamba_head_dim", 64),
        ("n_groups", 8),
        ("conv_kernel", 4),
        ("n_routed_experts", 8),
        ("num_experts_per_tok", 2),
        ("moe_intermediate_size", 7688),
        ("moe_shared_expert_intermediate_size", 7688),
        ("n_group", 1),
        ("topk_group", 1),
    ],
    other_names: &[
        ("layer_types", "layers_block_type"),
        ("num_local_experts", "n_routed_experts"),
        ("mamba_n_groups", "n_groups"),
        ("mamba_d_conv", "conv_kernel"),
        ("mamba_dt_min", "time_step_min"),
        ("mamba_conv_bias", "use_conv_bias"),
    ],
    // Some of them where a model has no layers of the kind.
    without_effect: &[
        "attention_bias",
        "chunk_size",
        "expand",
        "head_dim",
        "intermediate_size",
        "mamba_chunk_size",
        "mamba_dt_init_floor",
        "mamba_dt_limit",
        "mamba_dt_max",
        "mamba_expand",
        "mamba_proj_bias",
        "mamba_ssm_cache_dtype",
        "max_position_embeddings",
        "mlp_hidden_act",
        "moe_intermediate_size",
        "moe_latent_size",
        "moe_shared_expert_intermediate_size",
        "moe_shared_expert_overlap",
        "mtp_hybrid_override_pattern",
        "mtp_layers_block_type",
        "n_group",
        "n_routed_experts",
        "n_shared_experts",
        "norm_topk_prob",
        "num_attention_heads",
        "num_experts_per_tok",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_local_experts",
        "num_logits_to_keep",
        "num_nextn_predict_layers",
        "partial_rotary_factor",
        "rescale_prenorm_residual",
        "residual_in_fp32",
        "rope_parameters",
        "rope_theta",
        "routed_scaling_factor",
        "sliding_window",
        "tie_word_embeddings",
        "time_step_floor",
        "time_step_limit",
        "time_step_max",
        "topk_group",
        "use_mamba_kernels",
    ],
    ..Family::llama_like(
        "nemotron_h",
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "layers of one part each: Mamba-2, attention without positions, squared-ReLU MLP or experts",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let (hidden, vocab) = (config.size("hidden_size")?, config.size("vocab_size")?);
    let style = NormStyle::rms(config.number_or("layer_norm_epsilon", 1e-5)?);
    let mamba = mamba(config, hidden, style)?;
    let kinds = kinds(config)?;
    let experts = match kinds.contains(&Kind::Experts) {
        true => Some(Sparse::read(config)?),
        false => None,
    };
    let feed_forward = FeedForward::read(config, hidden)?;
    let layer = |(index, kind): (usize, &Kind)| {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style,
        };
        let norms = Norms::before(parts.norm("norm", hidden));
        let mut layer = Layer::empty();
        match (kind, &experts) {
            (Kind::StateSpace, _) => {
                layer.mixer_norms = norms;
                let mixer = mamba.mixer(&parts, "mixer");
                layer.mixer = Some(Mixer::StateSpace(Box::new(mixer)));
            }
            (Kind::Attention, _) => {
                layer.mixer_norms = norms;
                layer.attention = Some(attention(config, &parts, hidden)?);
            }
            (Kind::Experts, Some(experts)) => {
                layer.mlp_norms = norms;
                layer.mlp = Some(Mlp::Experts(Box::new(experts.of(&parts, &feed_forward))));
            }
            (Kind::Mlp | Kind::Experts, _) => {
                layer.mlp_norms = norms;
                let inner = config.size("intermediate_size")?;
                let (up, down) = feed_forward.linears(&parts, "mixer", inner);
                layer.mlp = Some(Mlp::Plain {
                    up,
                    down,
                    activation: feed_forward.activation,
                });
            }
        }
        Ok(layer)
    };
    let layers = kinds.iter().enumerate().map(layer).collect::<Result<_>>()?;
    let embedding = names.base("embeddings.weight");
    // The library ties nothing here, whatever the config says.
    let head = names.head(false, &embedding);
    Ok(DecoderSpec {
        model_type: config.text_or("model_type", "")?.to_owned(),
        vocab_size: vocab,
        hidden_size: hidden,
        // Nothing counts positions.
        max_positions: None,
        embedding: Embedding::new(embedding, hidden),
        ropes: Vec::new(),
        layers,
        final_norm: Some(style.norm(&names.base("norm_f"), hidden)),
        head: Head::new(head, hidden, vocab),
    })
}

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    StateSpace,
    Attention,
    Mlp,
    Experts,
}

/// `layers_block_type`, or else a letter a layer.
fn kinds(config: &Config) -> Result<Vec<Kind>> {
    let (types, pattern) = ("layers_block_type", "hybrid_override_pattern");
    let (key, kinds) = match (config.texts_opt(types)?, config.get(pattern)) {
        (Some(kinds), _) => (types, kinds),
        (None, Some(_)) => {
            let letters = config.text_or(pattern, "")?.chars();
            (pattern, letters.map(String::from).collect())
        }
        (None, None) => {
            let default = ["mamba", "moe", "attention", "mlp"];
            (types, default.map(str::to_owned).to_vec())
        }
    };
    if kinds.is_empty() || kinds.len() > 10_000 {
        return Err(config.refuse(key, "1 to 10000 layers are expected"));
    }
    let kind = |kind: &String| match kind.as_str() {
        "mamba" | "linear_attention" | "M" => Ok(Kind::StateSpace),
        "attention" | "full_attention" | "*" => Ok(Kind::Attention),
        "mlp" | "-" => Ok(Kind::Mlp),
        "moe" | "E" => Ok(Kind::Experts),
        other => Err(config.refuse(key, &format!("massact knows no layers `{other}`"))),
    };
    kinds.iter().map(kind).collect()
}

fn mamba(config: &Config, hidden: usize, style: NormStyle) -> Result<Mamba2> {
    let bias = config.flag_or("use_bias", false)?;
    Ok(Mamba2 {
        hidden,
        heads: config.heads("mamba_num_heads")?,
        head_dim: config.size("mamba_head_dim")?,
        groups: config.size("n_groups")?,
        state: config.size("ssm_state_size")?,
        width: config.size("conv_kernel")?,
        convolution_bias: config.flag_or("use_conv_bias", true)?,
        in_bias: bias,
        out_bias: bias,
        activation: activation(config.text_or("mamba_hidden_act", "silu")?)?,
        epsilon: style.epsilon,
        // The library takes this for the least step size, and knows no greatest.
        dt_limits: (
            config.number_or("time_step_min", 0.001)? as f32,
            f32::INFINITY,
        ),
    })
}

fn attention(config: &Config, parts: &LayerParts<'_>, hidden: usize) -> Result<Attention> {
    let heads = config.heads("num_attention_heads")?;
    let kv_heads = match config.get("num_key_value_heads") {
        Some(_) => config.heads("num_key_value_heads")?,
        None => heads,
    };
    let head_dim = config.size("head_dim")?;
    let linear = |name: &str, inputs, outputs| {
        parts.linear(&format!("mixer.{name}"), inputs, outputs, false)
    };
    let qkv = [
        linear("q_proj", hidden, heads * head_dim),
        linear("k_proj", hidden, kv_heads * head_dim),
        linear("v_proj", hidden, kv_heads * head_dim),
    ];
    let o = linear("o_proj", heads * head_dim, hidden);
    Ok(Attention::new(heads, kv_heads, head_dim, qkv, o))
}

/// What MLPs have in common.
struct FeedForward {
    hidden: usize,
    bias: bool,
    activation: Activation,
}

impl FeedForward {
    fn read(config: &Config, hidden: usize) -> Result<Self> {
        Ok(Self {
            hidden,
            bias: config.flag_or("mlp_bias", false)?,
            activation: activation(config.text_or("mlp_hidden_act", "relu2")?)?,
        })
    }

    fn linears(&self, parts: &LayerParts<'_>, module: &str, inner: usize) -> (Linear, Linear) {
        let linear = |name: &str, inputs, outputs| {
            parts.linear(&format!("{module}.{name}"), inputs, outputs, self.bias)
        };
        (
            linear("up_proj", self.hidden, inner),
            linear("down_proj", inner, self.hidden),
        )
    }
}

/// The experts of a model.
struct Sparse {
    count: usize,
    top_k: usize,
    /// Width inside an expert.
    inner: usize,
    /// Width inside the MLP beside them.
    shared: usize,
    /// Width that experts read and write, if another than the residual stream's.
    latent: Option<usize>,
    groups: Option<ExpertGroups>,
    renormalise: bool,
    scale: f32,
}

impl Sparse {
    fn read(config: &Config) -> Result<Self> {
        let groups = ExpertGroups {
            count: config.size("n_group")?,
            kept: config.size("topk_group")?,
            best: 2,
        };
        Ok(Self {
            count: config.experts("n_routed_experts")?,
            top_k: config.size("num_experts_per_tok")?,
            inner: config.size("moe_intermediate_size")?,
            shared: config.size("moe_shared_expert_intermediate_size")?,
            latent: config.size_opt("moe_latent_size")?,
            groups: Some(groups).filter(|groups| groups.count > 1),
            renormalise: config.flag_or("norm_topk_prob", true)?,
            scale: config.number_or("routed_scaling_factor", 1.0)? as f32,
        })
    }

    fn of(&self, parts: &LayerParts<'_>, feed_forward: &FeedForward) -> Experts {
        let hidden = feed_forward.hidden;
        let latent = self.latent.map(|width| {
            let linear = |name: &str, inputs, outputs| {
                parts.linear(&format!("mixer.{name}"), inputs, outputs, feed_forward.bias)
            };
            [
                linear("fc1_latent_proj", hidden, width),
                linear("fc2_latent_proj", width, hidden),
            ]
        });
        let (up, down) = feed_forward.linears(parts, "mixer.shared_experts", self.shared);
        Experts {
            count: self.count,
            expert: self.expert(
                parts,
                self.latent.unwrap_or(hidden),
                feed_forward.activation,
            ),
            routing: Routing {
                router: parts.linear("mixer.gate", hidden, self.count, false),
                score: Score::Sigmoid,
                correction: Some(Vector::new(
                    parts.name("mixer.gate.e_score_correction_bias"),
                    self.count,
                )),
                table: None,
                groups: self.groups,
                top_k: self.top_k,
                renormalise: self.renormalise,
                epsilon: 1e-20,
                scale: self.scale,
            },
            latent,
            weighted_inputs: false,
            shared: Some(Shared {
                mlp: GatedMlp::plain(up, down, feed_forward.activation),
                gate: None,
            }),
        }
    }

    /// One expert: a tensor each as published, or stacked as the library keeps them in memory.
    fn expert(&self, parts: &LayerParts<'_>, width: usize, activation: Activation) -> GatedMlp {
        let stacked = parts
            .names
            .shape(&parts.name("mixer.experts.up_proj"))
            .is_some();
        let linear = |name: &str, inputs, outputs| {
            if stacked {
                let name = parts.name(&format!("mixer.experts.{name}"));
                Linear::new(name, inputs, outputs).stacked(self.count)
            } else {
                parts.linear(
                    &format!("mixer.experts.{{}}.{name}"),
                    inputs,
                    outputs,
                    false,
                )
            }
        };
        GatedMlp::plain(
            linear("up_proj", width, self.inner),
            linear("down_proj", self.inner, width),
            activation,
        )
    }
}
