//! Falcon-H1 (transformers `modeling_falcon_h1.py`): Llama with Mamba-2's layer beside attention, and a
//! factor on nearly everything.
#![forbid(unsafe_code)]

use super::{
    Family,
    bamba::RENAMED,
    llama_like::{self, Options},
    parts::{LayerParts, NormStyle},
    state_space::{Mamba2, factors},
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{DecoderSpec, Linear, Mixer, Mlp, Projections, StateSpace},
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 8192),
        ("mamba_d_ssm", 1024),
        ("mamba_n_heads", 128),
        ("mamba_expand", 2),
    ],
    without_effect: &[
        "layer_types",
        "layers_block_type",
        "mamba_chunk_size",
        "mamba_use_mlp",
        "num_logits_to_keep",
    ],
    renamed: RENAMED,
    ..Family::llama_like(
        "falcon_h1",
        "tiiuae/Falcon-H1-1.5B-Base",
        "Llama with Mamba-2 beside attention, on the same norm; multipliers on all parts",
        describe,
    )
};

fn describe(config: &Config, names: &Names) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.norm = NormStyle::rms(config.number_or("rms_norm_eps", 1e-5)?);
    let sizes = options.sizes;
    let inner = match config.size_opt("mamba_d_ssm")? {
        Some(inner) => {
            config.without_effect(&["mamba_expand"]);
            inner
        }
        None => config.size("mamba_expand")? * sizes.hidden,
    };
    let mamba = Mamba2 {
        out_bias: config.flag_or("projectors_bias", false)?,
        ..Mamba2::read(config, sizes.hidden, inner, options.norm.epsilon)?
    };
    let output = OutputNorm::read(config)?;
    let scales = Scales::read(config)?;
    let mut spec = llama_like::describe(config, names, &options, |_, layer| {
        if let Projections::Direct { q, k, v } = &mut layer.attention.projections {
            let [input, _] = scales.attention;
            scale(q, input, 1.0);
            scale(k, input, scales.key);
            scale(v, input, 1.0);
        }
        scale(&mut layer.attention.o, 1.0, scales.attention[1]);
        if let Mlp::Gated(mlp) = &mut layer.mlp {
            let [gate, down] = scales.mlp;
            mlp.gate
                .iter_mut()
                .for_each(|linear| scale(linear, 1.0, gate));
            scale(&mut mlp.down, 1.0, down);
        }
        Ok(())
    })?;
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        let parts = LayerParts {
            names,
            list: "layers",
            index,
            style: options.norm,
        };
        let mut mixer = mamba.mixer(&parts, "mamba");
        scales.change(&mut mixer);
        output.change(&mut mixer);
        layer.mixer = Some(Mixer::StateSpace(Box::new(mixer)));
    }
    spec.embedding.scale = scales.embedding;
    spec.head.scale = scales.head;
    Ok(spec)
}

fn scale(linear: &mut Linear, input: f32, output: f32) {
    (linear.input_scale, linear.output_scale) = (input, output);
}

/// What becomes of the state space layer's output.
struct OutputNorm {
    there: bool,
    first: bool,
}

impl OutputNorm {
    fn read(config: &Config) -> Result<Self> {
        Ok(Self {
            there: config.flag_or("mamba_rms_norm", false)?,
            first: config.flag_or("mamba_norm_before_gate", true)?,
        })
    }

    fn change(&self, mixer: &mut StateSpace) {
        mixer.norm_first = self.first;
        if !self.there {
            mixer.norm = None;
        }
    }
}

/// The multipliers.
struct Scales {
    embedding: f32,
    head: f32,
    /// Of what attention reads, and of what it adds.
    attention: [f32; 2],
    key: f32,
    /// Of the gate, and of what the MLP adds.
    mlp: [f32; 2],
    /// Of what the state space layer reads, and of what it adds.
    state_space: [f32; 2],
    /// Of its gate, x, b, c and dt.
    parts: [f32; 5],
}

impl Scales {
    fn read(config: &Config) -> Result<Self> {
        let factor = |key: &str| -> Result<f32> { Ok(config.number_or(key, 1.0)? as f32) };
        let input = |key: &str| match factor(key)? {
            0.0 => Err(config.refuse(key, "a part would read nothing")),
            factor => Ok(factor),
        };
        Ok(Self {
            embedding: factor("embedding_multiplier")?,
            head: factor("lm_head_multiplier")?,
            attention: [
                input("attention_in_multiplier")?,
                factor("attention_out_multiplier")?,
            ],
            key: factor("key_multiplier")?,
            mlp: factors(config, "mlp_multipliers")?,
            state_space: [input("ssm_in_multiplier")?, factor("ssm_out_multiplier")?],
            parts: factors(config, "ssm_multipliers")?,
        })
    }

    fn change(&self, mixer: &mut StateSpace) {
        let [input, output] = self.state_space;
        let [gate, x, b, c, dt] = self.parts;
        scale(&mut mixer.gate, input, gate);
        scale(&mut mixer.x, input, x);
        scale(&mut mixer.b, input, b);
        scale(&mut mixer.c, input, c);
        scale(&mut mixer.dt, input, dt);
        scale(&mut mixer.out, 1.0, output);
    }
}
