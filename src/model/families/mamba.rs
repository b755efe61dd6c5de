//! Models of nothing but Mamba layers (transformers `modeling_mamba.py`, `modeling_falcon_mamba.py`,
//! `modeling_mamba2.py`), and Mamba's layer for others.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    Family,
    parts::{LayerParts, NormStyle, activation, consecutive},
    state_space::{Mamba2, limits},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, Convolution, DecoderSpec, Embedding, Head, Layer, Linear, Mixer, Norms,
            ScanHead, SelectiveScan, Vector,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    embedding: "embeddings.weight",
    prefixes: &["backbone.", ""],
    defaults: &[
        ("vocab_size", 50_280),
        ("hidden_size", 768),
        ("state_size", 16),
        ("num_hidden_layers", 32),
        ("expand", 2),
        ("conv_kernel", 4),
    ],
    without_effect: &[
        "chunk_size",
        "d_inner",
        "d_model",
        "fused_add_norm",
        "layer_types",
        "n_layer",
        "pad_vocab_size_multiple",
        "residual_in_fp32",
        "rms_norm",
        "ssm_cfg",
        "time_step_floor",
        "time_step_init_scheme",
        "time_step_max",
        "time_step_min",
        "time_step_scale",
        "use_associative_scan",
        "use_falcon_mambapy",
        "use_mambapy",
    ],
    ..Family::llama_like(
        "mamba",
        "state-spaces/mamba-130m-hf",
        "Mamba layers only: selective scans, no attention, no MLP",
        |config, names| {
            let mamba = Mamba::read(config)?;
            describe(config, names, true, |parts| {
                let mixer = mamba.mixer(parts, "mixer");
                Mixer::SelectiveScan(Box::new(mixer))
            })
        },
    )
};

/// Registry row.
pub(super) const FALCON_MAMBA: Family = Family {
    model_type: "falcon_mamba",
    example: "tiiuae/falcon-mamba-7b",
    notes: "`mamba` with RMSNorm without weights on step sizes, b and c",
    describe: |config, names| {
        let mamba = Mamba::read(config)?;
        let style = NormStyle {
            weight: false,
            ..NormStyle::rms(config.number_or("mixer_rms_eps", 1e-6)?)
        };
        describe(config, names, true, |parts| {
            let mut mixer = mamba.mixer(parts, "mixer");
            mamba.normalise(&mut mixer, parts, "mixer", style);
            Mixer::SelectiveScan(Box::new(mixer))
        })
    },
    ..FAMILY
};

/// Registry row.
pub(super) const MAMBA2: Family = Family {
    model_type: "mamba2",
    example: "mistralai/Mamba-Codestral-7B-v0.1",
    notes: "Mamba-2 layers only",
    defaults: &[
        ("vocab_size", 32_768),
        ("hidden_size", 4096),
        ("state_size", 128),
        ("num_hidden_layers", 64),
        ("num_heads", 128),
        ("head_dim", 64),
        ("expand", 2),
        ("conv_kernel", 4),
        ("n_groups", 8),
    ],
    without_effect: &[
        "chunk_size",
        "intermediate_size",
        "layer_types",
        "norm_before_gate",
        "residual_in_fp32",
        "rms_norm",
        "time_step_floor",
        "time_step_init_scheme",
        "time_step_max",
        "time_step_min",
        "time_step_rank",
        "time_step_scale",
    ],
    describe: |config, names| {
        let mamba = mamba2(config)?;
        describe(config, names, false, |parts| {
            Mixer::StateSpace(Box::new(mamba.mixer(parts, "mixer")))
        })
    },
    ..FAMILY
};

/// Layers of one norm and one mixer.
fn describe(
    config: &Config,
    names: &Names,
    tied: bool,
    mixer: impl Fn(&LayerParts<'_>) -> Mixer,
) -> Result<DecoderSpec> {
    // With it the library changes stored weights when it opens a model.
    config.refuse_unless("rescale_prenorm_residual", &false.into())?;
    let (hidden, vocab) = (config.size("hidden_size")?, config.size("vocab_size")?);
    let style = NormStyle::rms(config.number_or("layer_norm_epsilon", 1e-5)?);
    let layers = (0..config.layers("num_hidden_layers")?).map(|index| {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style,
        };
        Layer {
            mixer_norms: Norms::before(parts.norm("norm", hidden)),
            mixer: Some(mixer(&parts)),
            ..Layer::empty()
        }
    });
    let embedding = names.base("embeddings.weight");
    let tied = config.flag_or("tie_word_embeddings", tied)?;
    let head = names.head(tied, &embedding);
    Ok(DecoderSpec {
        model_type: config.text_or("model_type", "")?.to_owned(),
        vocab_size: vocab,
        hidden_size: hidden,
        // Nothing counts positions.
        max_positions: None,
        embedding: Embedding::new(embedding, hidden),
        ropes: Vec::new(),
        layers: layers.collect(),
        final_norm: Some(style.norm(&names.base("norm_f"), hidden)),
        head: Head::new(head, hidden, vocab),
    })
}

fn mamba2(config: &Config) -> Result<Mamba2> {
    let hidden = config.size("hidden_size")?;
    let (heads, head_dim) = (config.heads("num_heads")?, config.size("head_dim")?);
    let inner = config.size("expand")? * hidden;
    if heads.checked_mul(head_dim) != Some(inner) {
        return Err(config.refuse(
            "num_heads",
            &format!("heads of {head_dim} values are not {inner} together"),
        ));
    }
    let bias = config.flag_or("use_bias", false)?;
    Ok(Mamba2 {
        hidden,
        heads,
        head_dim,
        groups: config.size("n_groups")?,
        state: config.size("state_size")?,
        width: config.size("conv_kernel")?,
        convolution_bias: config.flag_or("use_conv_bias", true)?,
        in_bias: bias,
        out_bias: bias,
        activation: activation(config.text_or("hidden_act", "silu")?)?,
        epsilon: config.number_or("layer_norm_epsilon", 1e-5)? as f32,
        dt_limits: limits(config, "time_step_limit")?,
    })
}

/// Sizes and settings of a model's selective scans.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mamba {
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) state: usize,
    /// Width of the step sizes' narrow middle.
    pub(super) rank: usize,
    /// Taps of the convolution.
    pub(super) width: usize,
    pub(super) convolution_bias: bool,
    pub(super) bias: bool,
    /// Behind the convolution.
    pub(super) activation: Activation,
}

impl Mamba {
    fn read(config: &Config) -> Result<Self> {
        let hidden = config.size("hidden_size")?;
        Ok(Self {
            hidden,
            inner: match config.size_opt("intermediate_size")? {
                Some(inner) => inner,
                None => config.size("expand")? * hidden,
            },
            state: config.size("state_size")?,
            rank: rank(config, "time_step_rank", hidden)?,
            width: config.size("conv_kernel")?,
            convolution_bias: config.flag_or("use_conv_bias", true)?,
            bias: config.flag_or("use_bias", false)?,
            activation: activation(config.text_or("hidden_act", "silu")?)?,
        })
    }

    /// The layer in `module`.
    pub(super) fn mixer(&self, parts: &LayerParts<'_>, module: &str) -> SelectiveScan {
        let &Self {
            hidden,
            inner,
            state,
            rank,
            ..
        } = self;
        let module = |name: &str| format!("{module}.{name}");
        let fused = parts.linear(&module("in_proj"), hidden, 2 * inner, self.bias);
        let [x, gate] = consecutive(&fused, [inner, inner]);
        let of_x = parts.linear(&module("x_proj"), inner, rank + 2 * state, false);
        let [step, b, c] = consecutive(&of_x, [rank, state, state]);
        let name = |tensor: &str| parts.name(&module(tensor));
        SelectiveScan {
            state,
            x,
            gate,
            convolution: Convolution::new(
                &name("conv1d"),
                inner,
                self.width,
                self.convolution_bias,
            )
            .activated(self.activation),
            heads: vec![ScanHead {
                step,
                up: parts.linear(&module("dt_proj"), rank, inner, false),
                b,
                c,
                norms: None,
                a_log: Vector::of_shape(name("A_log"), vec![inner, state]),
                dt_bias: Vector::new(name("dt_proj.bias"), inner),
                d: Vector::new(name("D"), inner),
            }],
            out: parts.linear(&module("out_proj"), inner, hidden, self.bias),
        }
    }

    /// Gives step sizes, `b` and `c` norms.
    pub(super) fn normalise(
        &self,
        mixer: &mut SelectiveScan,
        parts: &LayerParts<'_>,
        module: &str,
        style: NormStyle,
    ) {
        for head in &mut mixer.heads {
            let norms = [
                ("dt_layernorm", self.rank),
                ("b_layernorm", self.state),
                ("c_layernorm", self.state),
            ];
            head.norms =
                Some(norms.map(|(name, width)| {
                    style.norm(&parts.name(&format!("{module}.{name}")), width)
                }));
        }
    }

    /// The layer in `module` with `heads` heads, as Zamba stores it: what heads have of their own stacked, and
    /// the rows of channels and gate in turn.
    pub(super) fn mixer_of_heads(
        &self,
        heads: usize,
        parts: &LayerParts<'_>,
        module: &str,
    ) -> SelectiveScan {
        let &Self {
            hidden,
            inner,
            state,
            rank,
            ..
        } = self;
        let own = inner / heads;
        let name = |tensor: &str| parts.name(&format!("{module}.{tensor}"));
        let fused = parts.linear(&format!("{module}.in_proj"), hidden, inner, self.bias);
        let every_second = |first| fused.clone().grouped(first, 1, 2, 2 * inner);
        let of_x = Linear::new(name("x_proj_weight"), own, rank + 2 * state).stacked(heads);
        let up = Linear::new(name("dt_proj_weight"), rank, own).stacked(heads);
        let plain = self.mixer(parts, module);
        let head = |head: usize| {
            let [step, b, c] = consecutive(&of_x.of_expert(head), [rank, state, state]);
            let vector = |tensor: &str, shape| Vector::of_shape(name(tensor), shape).part(head, 1);
            ScanHead {
                step,
                up: up.of_expert(head),
                b,
                c,
                norms: None,
                a_log: vector("A_log", vec![heads, own, state]),
                dt_bias: vector("dt_proj_bias", vec![heads, own]),
                d: vector("D", vec![heads, own]),
            }
        };
        SelectiveScan {
            x: every_second(0),
            gate: every_second(1),
            heads: (0..heads).map(head).collect(),
            ..plain
        }
    }
}

/// A width, or `auto`: a sixteenth of the residual stream's.
pub(super) fn rank(config: &Config, key: &str, hidden: usize) -> Result<usize> {
    match config.raw(key) {
        None => Ok(hidden.div_ceil(16)),
        Some(Value::String(auto)) if auto == "auto" => Ok(hidden.div_ceil(16)),
        Some(_) => config.size(key),
    }
}
