//! Variants that a checkpoint's tensors show, whatever its family: DyT in the place of norms,
//! attention KV bias, a gate on the attention's output, a learned scale of the embedding.
//!
//! Family files describe the plain decoder; this changes the description by what is stored.
#![forbid(unsafe_code)]

use super::{
    config::Config,
    names::Names,
    spec::{
        Attention, DecoderSpec, KvBias, Layer, Learned, Norm, NormKind, Projections, WeightLayout,
    },
    weights::WeightStore,
};
use crate::error::Result;

/// Changes the description where tensors of a variant are stored. Returns what they alone show.
pub(super) fn variants(
    spec: &mut DecoderSpec,
    config: &Config,
    names: &Names,
    weights: &WeightStore,
) -> Result<Vec<String>> {
    let gate = GateRows::read(config)?;
    let own_gates = spec
        .layers
        .iter()
        .filter_map(|layer| layer.attention.as_ref())
        .any(|attention| attention.gate.is_some());
    for layer in &mut spec.layers {
        for norm in layer.norms_mut() {
            dyt(norm, weights);
        }
        if let Some(attention) = &mut layer.attention {
            attention.kv_bias = kv_bias(attention, weights);
            output_gate(attention, gate, config, weights)?;
        }
    }
    let per_layer = spec.embedding.per_layer.iter_mut();
    let ends = per_layer.map(|embedding| &mut embedding.norm);
    let ends = ends.chain(&mut spec.embedding.norm);
    for norm in ends.chain(&mut spec.final_norm) {
        dyt(norm, weights);
    }
    let scale = names.base("shared_scale");
    spec.embedding.learned_scale = weights.contains(&scale).then_some(scale);
    Ok(found(spec, gate, own_gates))
}

/// What was taken from the tensors, in words.
fn found(spec: &DecoderSpec, gate: GateRows, own_gates: bool) -> Vec<String> {
    let norms = spec.layers.iter().flat_map(Layer::norms);
    let norms = norms.chain(&spec.embedding.norm).chain(&spec.final_norm);
    let norms = norms.filter(|norm| norm.kind == NormKind::Tanh).count();
    let layers = |has: fn(&Attention) -> bool| {
        let attention = spec.layers.iter().flat_map(|layer| &layer.attention);
        attention.filter(|attention| has(attention)).count()
    };
    let gates = match gate {
        GateRows::OfHead { expected: false } if !own_gates => {
            layers(|attention| attention.gate.is_some())
        }
        // The config says so itself, or the family has them.
        _ => 0,
    };
    let one_or = |count: usize, one: &str| match count {
        1 => format!("one {one}"),
        _ => format!("{count} {one}s"),
    };
    let mut found = Vec::new();
    let mut say = |count: usize, what: String| {
        if count > 0 {
            found.push(what);
        }
    };
    say(
        norms,
        format!("DyT in the place of {}", one_or(norms, "norm")),
    );
    let biases = layers(|attention| attention.kv_bias.is_some());
    say(
        biases,
        format!("attention KV bias in {}", one_or(biases, "layer")),
    );
    say(
        gates,
        format!(
            "a gate on the output of attention in {}",
            one_or(gates, "layer")
        ),
    );
    if spec.embedding.learned_scale.is_some() {
        found.push("a learned scale of the embedding".to_owned());
    }
    let linear = |attention: &Attention| attention.o.layout == WeightLayout::OutIn;
    if spec.model_type == "gpt2" && layers(linear) > 0 {
        found.push("matrices laid out as nanoGPT does".to_owned());
    }
    found
}

/// DyT (Zhu et al. 2025) has a tensor `alpha` beside its weight. It has no epsilon, its weight is
/// the factor itself in every family, and its bias is there or not.
fn dyt(norm: &mut Norm, weights: &WeightStore) {
    let alpha = norm.tensors_named("alpha");
    if !alpha.iter().any(|name| weights.contains(name)) {
        return;
    }
    let shape = match &norm.weight {
        Some(weight) => weight.shape.clone(),
        None => vec![norm.width],
    };
    let learned = |tensors: Vec<String>| Learned {
        tensors,
        shape: shape.clone(),
    };
    let bias = norm.tensors_named("bias");
    norm.bias = bias
        .iter()
        .any(|name| weights.contains(name))
        .then(|| learned(bias));
    norm.weight = Some(learned(norm.tensors_named("weight")));
    norm.kind = NormKind::Tanh;
    norm.weight_offset = 0.0;
    norm.epsilon = 0.0;
    norm.alpha = alpha;
}

/// Attention KV bias is a parameter `k_bias` of the attention module, or a module of that name.
fn kv_bias(attention: &Attention, weights: &WeightStore) -> Option<KvBias> {
    let module = attention.module();
    ["", ".weight"]
        .map(|ending| KvBias {
            k: format!("{module}.k_bias{ending}"),
            v: format!("{module}.v_bias{ending}"),
        })
        .into_iter()
        .find(|bias| weights.contains(&bias.k) || weights.contains(&bias.v))
}

/// Which rows of a query projection twice as wide are the gate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GateRows {
    /// The second half of each query head's (Qwen3-Next).
    OfHead { expected: bool },
    /// The second half of each key/value head's (Qiu et al. 2025, whose config says so).
    OfGroup,
}

impl GateRows {
    fn read(config: &Config) -> Result<Self> {
        if config.flag_or("headwise_attn_output_gate", false)? {
            return Err(config.refuse(
                "headwise_attn_output_gate",
                "massact computes gates of one value a dimension, not of one a head",
            ));
        }
        if config.flag_or("elementwise_attn_output_gate", false)? {
            return Ok(Self::OfGroup);
        }
        let expected = config.flag_or("attn_output_gate", false)?;
        Ok(Self::OfHead { expected })
    }
}

/// A query projection with twice the rows has those of a gate, too.
fn output_gate(
    attention: &mut Attention,
    rows: GateRows,
    config: &Config,
    weights: &WeightStore,
) -> Result<()> {
    // The family's own.
    if attention.gate.is_some() {
        return Ok(());
    }
    let (expected, heads, key) = match rows {
        GateRows::OfHead { expected } => (expected, 1, "attn_output_gate"),
        GateRows::OfGroup => {
            let group = attention.heads / attention.kv_heads.max(1);
            (true, group, "elementwise_attn_output_gate")
        }
    };
    let size = heads * attention.head_dim;
    let Projections::Direct { q, .. } = &attention.projections else {
        return if expected {
            Err(config.refuse(key, "massact knows no gate beside latent or shared keys"))
        } else {
            Ok(())
        };
    };
    let own =
        q.layout == WeightLayout::OutIn && q.groups.is_none() && q.stored_outputs == q.out_features;
    let doubled = [2 * q.out_features, q.in_features];
    if expected && !own {
        return Err(config.refuse(key, "massact knows no gate in a fused projection"));
    }
    if expected || own && config.get(key).is_none() && weights.shape(&q.weight) == Some(&doubled) {
        attention.gate_beside_queries(size);
    }
    Ok(())
}
