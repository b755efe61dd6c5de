//! Granite with experts (transformers `modeling_granitemoe.py`, `modeling_granitemoeshared.py`), and of
//! `modeling_granitemoehybrid.py` what has attention in every layer.
#![forbid(unsafe_code)]

use super::{
    Family, granite,
    llama_like::Options,
    parts::{LayerParts, activation, consecutive},
};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        names::Names,
        spec::{Activation, DecoderSpec, Experts, GatedMlp, Linear, Mlp, Routing, Score, Shared},
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
    notes: "`granitemoeshared` with or without experts and rotation; models with attention in every layer",
    other_names: &[("layers_block_type", "layer_types")],
    // Of the layers that massact refuses.
    without_effect: &[
        "mamba_chunk_size",
        "mamba_conv_bias",
        "mamba_d_conv",
        "mamba_d_head",
        "mamba_d_state",
        "mamba_expand",
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
    describe: |config, names| {
        let kinds = config.texts_opt("layer_types")?.unwrap_or_default();
        let layers = config.layers("num_hidden_layers")?;
        config.check_per_layer("layer_types", &kinds, layers)?;
        let attends = |kind: &String| matches!(kind.as_str(), "attention" | "full_attention");
        if let Some(other) = kinds.iter().find(|kind| !attends(kind)) {
            return Err(Error::new(
                "config.json",
                format!("`layer_types` has `{other}`: massact runs models of this family that have attention in every layer"),
            )
            .remedy("run `massact models` for what is supported"));
        }
        let mut spec = describe(config, names, Some(1024.0))?;
        if config
            .get("position_embedding_type")
            .is_none_or(|kind| kind != "rope")
        {
            let attention = spec
                .layers
                .iter_mut()
                .flat_map(|layer| &mut layer.attention);
            attention.for_each(|attention| attention.rope = None);
        }
        Ok(spec)
    },
    ..FAMILY
};

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
                groups: None,
                top_k,
                renormalise: true,
                epsilon: 1e-20,
                scale: 1.0,
            },
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
