//! Granite with experts (transformers `modeling_granitemoe.py`, `modeling_granitemoeshared.py`), and with
//! Mamba-2's layers (`modeling_granitemoehybrid.py`).
#![forbid(unsafe_code)]

use super::{
    Family, granite,
    llama_like::Options,
    parts::{LayerParts, NormStyle, activation, consecutive},
    state_space::Mamba2,
};
use crate::{
    error::Result,
    model::{
        config::Config,
        names::Names,
        spec::{
            Activation, DecoderSpec, Experts, GatedMlp, Linear, Mixer, Mlp, Routing, Score, Shared,
        },
    },
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    defaults: &[("num_local_experts", 8), ("num_experts_per_tok", 2)],
    ..Family::llama_like(
        "granitemoe",
        "ibm-granite/granite-3.1-3b-a800m-base",
        "`granite` with experts in stacked tensors, weights of the chosen renormalised",
        |config, names| describe(config, names, None),
    )
};

/// Registry row.
pub(super) const SHARED: Family = Family {
    model_type: "granitemoeshared",
    example: "ibm-research/moe-7b-1b-active-shared-experts",
    notes: "`granitemoe` with an MLP beside the experts",
    describe: |config, names| describe(config, names, Some(0.0)),
    ..FAMILY
};

/// Registry row.
pub(super) const HYBRID: Family = Family {
    model_type: "granitemoehybrid",
    example: "ibm-granite/granite-4.0-350m",
    notes: "`granitemoeshared` with or without experts and rotation; Mamba-2 in the place of attention in most layers",
    defaults: &[
        ("num_local_experts", 8),
        ("num_experts_per_tok", 2),
        ("mamba_n_heads", 128),
        ("mamba_expand", 2),
    ],
    other_names: &[("layers_block_type", "layer_types")],
    // Some of them where a model has no layers of the kind.
    without_effect: &[
        "mamba_chunk_size",
        "mamba_conv_bias",
        "mamba_d_conv",
        "mamba_d_head",
        "mamba_d_state",
        "mamba_n_groups",
        "mamba_n_heads",
        "mamba_proj_bias",
        "normalization_function",
        "num_experts_per_tok",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "time_step_limit",
    ],
    describe: hybrid,
    ..FAMILY
};

fn hybrid(config: &Config, names: &Names) -> Result<DecoderSpec> {
    const KINDS: &str = "layer_types";
    let layers = config.layers("num_hidden_layers")?;
    let kinds = match config.texts_opt(KINDS)? {
        Some(kinds) => kinds,
        None => vec!["mamba".to_owned(); layers],
    };
    config.check_per_layer(KINDS, &kinds, layers)?;
    let mut spec = describe(config, names, Some(1024.0))?;
    let rotates = config
        .get("position_embedding_type")
        .is_some_and(|kind| kind == "rope");
    let hidden = spec.hidden_size;
    let style = NormStyle::rms(config.number_or("rms_norm_eps", 1e-6)?);
    let inner = config.size("mamba_expand")? * hidden;
    for (index, (layer, kind)) in spec.layers.iter_mut().zip(&kinds).enumerate() {
        match (kind.as_str(), &mut layer.attention) {
            ("attention" | "full_attention", Some(attention)) => {
                if !rotates {
                    attention.rope = None;
                }
            }
            ("mamba" | "linear_attention", attention) => {
                let parts = LayerParts {
                    names,
                    list: "layers",
                    index,
                    style,
                };
                let mamba = Mamba2::read(config, hidden, inner, style.epsilon)?;
                *attention = None;
                let mixer = mamba.mixer(&parts, "mamba");
                layer.mixer = Some(Mixer::StateSpace(Box::new(mixer)));
            }
            (other, _) => {
                return Err(config.refuse(KINDS, &format!("massact knows no layers `{other}`")));
            }
        }
    }
    Ok(spec)
}

/// With a shared MLP of `shared_intermediate_size`, which has this default, where the family knows it.
fn describe(config: &Config, names: &Names, shared: Option<f64>) -> Result<DecoderSpec> {
    let mut options = Options::read(config)?;
    options.mlp_bias = false;
    let hidden = options.sizes.hidden;
    let key = "shared_intermediate_size";
    let shared = match shared {
        Some(default) if config.number_or(key, default)? != 0.0 => {
            Some(config.size_or(key, default as usize)?)
        }
        _ => None,
    };
    let count = match config.number_or("num_local_experts", 8.0)? {
        0.0 => None,
        _ => Some(config.experts("num_local_experts")?),
    };
    let activation = activation(config.text_or("hidden_act", "silu")?)?;
    let top_k = match count {
        Some(_) => config.size("num_experts_per_tok")?,
        None => 0,
    };
    granite::describe(config, names, &options, |parts, layer| {
        let shared = shared.map(|width| {
            let names = ["shared_mlp.input_linear", "shared_mlp.output_linear"];
            gated(parts, names, (hidden, width), None, activation)
        });
        let experts = count.map(|count| Experts {
            count,
            expert: gated(
                parts,
                [
                    "block_sparse_moe.input_linear",
                    "block_sparse_moe.output_linear",
                ],
                (hidden, options.sizes.inner),
                Some(count),
                activation,
            ),
            routing: Routing {
                router: parts.linear("block_sparse_moe.router.layer", hidden, count, false),
                // Softmax over the chosen logits is softmax over all, renormalised.
                score: Score::Softmax,
                correction: None,
                table: None,
                groups: None,
                top_k,
                renormalise: true,
                epsilon: 1e-20,
                scale: 1.0,
            },
            latent: None,
            weighted_inputs: false,
            shared: None,
        });
        layer.mlp = match (experts, shared) {
            (Some(experts), shared) => Mlp::Experts(Box::new(Experts {
                shared: shared.map(|mlp| Shared { mlp, gate: None }),
                ..experts
            })),
            (None, Some(shared)) => Mlp::Gated(shared),
            (None, None) => {
                return Err(config.refuse(key, "without experts a layer has no other MLP"));
            }
        };
        Ok(())
    })
}

/// A gated MLP whose gate and up share a tensor; stacked where it is one of `count` experts.
fn gated(
    parts: &LayerParts<'_>,
    [input, output]: [&str; 2],
    (hidden, inner): (usize, usize),
    count: Option<usize>,
    activation: Activation,
) -> GatedMlp {
    let linear = |module: &str, inputs, outputs| {
        let linear: Linear = parts.linear(module, inputs, outputs, false);
        match count {
            Some(count) => linear.stacked(count),
            None => linear,
        }
    };
    let [gate, up] = consecutive(&linear(input, hidden, 2 * inner), [inner, inner]);
    GatedMlp::new(gate, up, linear(output, inner, hidden), activation)
}
