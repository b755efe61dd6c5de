//! What became of every stored tensor, so that none can vanish without a word.
//!
//! A tensor is read by the forward pass, known to be unneeded by a pattern of names, or left over.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    spec::{Attention, DecoderSpec},
    tied::Head,
    weights::WeightStore,
};
use crate::error::{Error, Result};

/// What of a format is left out.
const NOT_SIMULATED: &str = "not simulated";

/// Names in a notice; the record has all.
const NAMED: usize = 4;

/// What became of a checkpoint's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsRecord {
    /// How they are stored: a type, or how they are packed.
    #[serde(default)]
    pub format: String,
    /// `not simulated`, where a model in this format is run with quantised activations elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations_quantised: Option<String>,
    /// How many tensors that the forward pass reads are stored in which type or encoding.
    #[serde(default)]
    pub stored_as: BTreeMap<String, usize>,
    /// How many the forward pass reads.
    pub used: usize,
    /// How many it rightly does without, by what they are.
    pub unneeded: BTreeMap<String, usize>,
    /// Names of those that nothing accounts for.
    pub unused: Vec<String>,
    /// What the tensors alone show to be there, whatever the config says.
    pub recognised: Vec<String>,
}

impl WeightsRecord {
    /// Accounts for every stored tensor. Refuses one that is left over because it has a second spelling,
    /// with another of the family's `prefixes`, of a name that is read: which of the two counts,
    /// libraries do not agree on.
    pub(super) fn new(
        spec: &DecoderSpec,
        prefixes: &[&str],
        weights: &WeightStore,
        head: &Head,
        recognised: Vec<String>,
    ) -> Result<Self> {
        let used: HashSet<String> = spec.tensors().into_iter().collect();
        let predicted = predicting_layers(spec, weights);
        let replaced = replaced_keys(spec);
        let packing = weights.packing();
        let stored_as = |name: &str| weights.stored_as(name).unwrap_or_default();
        let quantises = packing.is_some_and(|packing| packing.quantises_activations);
        let mut record = Self {
            format: match packing {
                Some(packing) => packing.format.clone(),
                None => stored_as(&spec.embedding.tokens),
            },
            activations_quantised: quantises.then(|| NOT_SIMULATED.to_owned()),
            recognised,
            ..Self::default()
        };
        for name in weights.names() {
            if used.contains(name) {
                record.used += 1;
                *record.stored_as.entry(stored_as(name)).or_default() += 1;
                continue;
            }
            let known = match head {
                Head::Equal(equal) if equal == name => Some("head equal to the embedding"),
                _ if predicted.iter().any(|layer| name.starts_with(layer)) => Some(PREDICTION),
                _ if replaced.iter().any(|module| name.starts_with(module)) => Some(REPLACED),
                _ if packing.is_some() && of_activations(name) => Some(ACTIVATIONS),
                _ if zero_bias(name, weights)? => Some("biases of zeros"),
                _ => unneeded(name, weights.shape(name).unwrap_or_default()),
            };
            match known {
                Some(what) => *record.unneeded.entry(what.to_owned()).or_default() += 1,
                None => record.unused.push(name.to_owned()),
            }
        }
        record.unused.sort_unstable();
        for name in &record.unused {
            if let Some(other) = other_spelling(name, prefixes, &used) {
                return Err(Error::new(
                    "weights",
                    format!("`{name}` is another spelling of `{other}`, which the model reads"),
                )
                .remedy("keep the one that is meant under the name that the family has"));
            }
        }
        Ok(record)
    }

    /// What a user should know of it, one line each.
    pub(super) fn notices(&self, model_type: &str) -> Vec<String> {
        let mut notices: Vec<String> = self
            .recognised
            .iter()
            .map(|what| format!("its tensors show {what}"))
            .collect();
        if self.activations_quantised.is_some() {
            notices.push(format!(
                "the weights ({}) are dequantised; that activations are quantised, too, where the model is run in this format, is not simulated",
                self.format
            ));
        }
        if let Some(count @ 1..) = Some(self.unused.len()) {
            let are = if count == 1 {
                "tensor is"
            } else {
                "tensors are"
            };
            notices.push(format!(
                "{count} stored {are} not used, because a `{model_type}` as its config.json describes it has none of that name: {}",
                named(&self.unused)
            ));
        }
        notices
    }
}

/// The name that is read of which this one differs by a prefix alone.
fn other_spelling(name: &str, prefixes: &[&str], used: &HashSet<String>) -> Option<String> {
    let bare = prefixes
        .iter()
        .filter(|prefix| !prefix.is_empty())
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    prefixes
        .iter()
        .map(|prefix| format!("{prefix}{bare}"))
        .chain([bare.to_owned()])
        .find(|other| other != name && used.contains(other))
}

/// The first few names, and how many more.
pub(super) fn named(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMED {
        text.push_str(&format!(" and {} more", names.len() - NAMED));
    }
    text
}

const PREDICTION: &str = "multi-token prediction";

const REPLACED: &str = "keys and values that an earlier layer's replace";

const ACTIVATIONS: &str = "quantisation of activations";

/// Whether a tensor says how activations or the key/value cache are quantised.
fn of_activations(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let of = |what: &str| {
        let rest = last.strip_prefix(what);
        matches!(
            rest,
            Some("_scale" | "_scale_inv" | "_zero_point" | "_global_scale" | "_scale_ub")
        )
    };
    ["input", "output", "activation", "kv", "q", "k", "v", "prob"]
        .into_iter()
        .any(of)
        // Of stacked experts, `X_activation_scale`.
        || last.ends_with("_activation_scale")
}

/// Whether a tensor is a bias of zeros, which some libraries store for every packed matrix. One that the
/// model does not have and that would add something is refused.
fn zero_bias(name: &str, weights: &WeightStore) -> Result<bool> {
    let Some(module) = name.strip_suffix(".bias") else {
        return Ok(false);
    };
    if !weights.is_packed(&format!("{module}.weight")) {
        return Ok(false);
    }
    let values = weights.get(name)?.elements.to_f32();
    if values.iter().all(|value| *value == 0.0) {
        return Ok(true);
    }
    Err(Error::new(
        "weights",
        format!("`{name}` is not zero, and a model as config.json describes it has no such bias"),
    )
    .remedy("take weights and config.json from one model: these do not fit together"))
}

/// Names, up to the dot after the number, of layers beyond the decoder's that predict further
/// tokens (DeepSeek-V3): they join an embedding to a hidden state, which no decoder layer does.
fn predicting_layers(spec: &DecoderSpec, weights: &WeightStore) -> Vec<String> {
    let joins = weights
        .names()
        .filter_map(|name| name.strip_suffix("eh_proj.weight"));
    joins
        .filter(|layer| {
            let number = layer.trim_end_matches('.').rsplit('.').next();
            let number = number.and_then(|number| number.parse::<usize>().ok());
            number.is_some_and(|number| number >= spec.layers.len())
        })
        .map(str::to_owned)
        .collect()
}

/// Modules of keys and values in layers that read those of an earlier one: some checkpoints store them
/// as if they were needed.
fn replaced_keys(spec: &DecoderSpec) -> Vec<String> {
    let attention = spec.layers.iter().flat_map(|layer| &layer.attention);
    let sharing = attention.filter(|attention| attention.shares().is_some());
    let modules = ["k_proj.", "v_proj.", "k_norm.", "v_norm."];
    let of_layer = |own: &Attention| modules.map(|module| format!("{}.{module}", own.module()));
    sharing.flat_map(of_layer).collect()
}

/// What a tensor is that no decoder here reads, by its name and shape.
fn unneeded(name: &str, shape: &[usize]) -> Option<&'static str> {
    const OTHER_PARTS: [(&str, &str); 25] = [
        ("vision_tower.", "vision"),
        ("model.vision_tower.", "vision"),
        ("vision_model.", "vision"),
        ("model.vision_model.", "vision"),
        ("visual.", "vision"),
        ("model.visual.", "vision"),
        ("multi_modal_projector.", "vision"),
        ("model.multi_modal_projector.", "vision"),
        ("vision_encoder.", "vision"),
        ("model.vision_encoder.", "vision"),
        ("mm_projector.", "vision"),
        ("model.mm_projector.", "vision"),
        ("model.connector.", "vision"),
        ("image_newline", "vision"),
        ("model.image_newline", "vision"),
        ("model.multi_modal_projection.", "vision"),
        ("audio_tower.", "audio"),
        ("model.audio_tower.", "audio"),
        ("model.embed_audio.", "audio"),
        ("model.embed_vision.", "vision"),
        ("model.vision_embedder.", "vision"),
        ("mtp.", PREDICTION),
        ("model.mtp.", PREDICTION),
        ("model.mtp_", PREDICTION),
        ("mtp_", PREDICTION),
    ];
    let part = OTHER_PARTS
        .iter()
        .find(|(start, _)| name.starts_with(start));
    if let Some((_, what)) = part {
        return Some(what);
    }
    let (module, last) = name.rsplit_once('.').unwrap_or(("", name));
    let module = module.rsplit('.').next().unwrap_or(module);
    // Of other uses of a block whose weights each use stores.
    if name.contains(".shared_transformer.") && name.contains("_adapter_list.") {
        return Some("low-rank parts of other uses of a block");
    }
    // Of layers that go by the choice of an earlier one.
    if name.contains(".self_attn.indexer.") {
        return Some("sparse indexers");
    }
    let attention = matches!(
        module,
        "attn" | "attention" | "self_attention" | "self_attn"
    );
    match last {
        "inv_freq" | "original_inv_freq" | "cos_cached" | "sin_cached"
            if module.contains("rotary") =>
        {
            Some("rotary tables")
        }
        // The triangle of ones that old checkpoints store with every layer, and what it masks with.
        "bias" if attention && matches!(shape, [1, 1, rows, columns] if rows == columns) => {
            Some("attention masks")
        }
        "masked_bias" if attention && shape.iter().product::<usize>() == 1 => {
            Some("attention masks")
        }
        "position_ids" => Some("position ids"),
        "version" if module == "decoder" => Some("version number"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_of_activations() {
        for (name, of) in [
            ("h.0.mlp.experts.gate_up_proj_activation_scale", true),
            ("h.0.q_proj.input_scale", true),
            ("h.0.mlp.experts.gate_up_proj_scale", false),
        ] {
            assert_eq!(of_activations(name), of, "{name}");
        }
    }

    #[test]
    fn only_what_is_named_is_unneeded() {
        for (name, shape, what) in [
            (
                "h.0.attn.bias",
                &[1, 1, 32, 32][..],
                Some("attention masks"),
            ),
            (
                "gpt_neox.layers.3.attention.masked_bias",
                &[],
                Some("attention masks"),
            ),
            (
                "model.layers.0.self_attn.rotary_emb.inv_freq",
                &[8],
                Some("rotary tables"),
            ),
            (
                "transformer.h.1.self_attention.maybe_rotary.inv_freq",
                &[8],
                Some("rotary tables"),
            ),
            ("model.vision_tower.x.weight", &[2, 2], Some("vision")),
            ("model.layers.0.mlp.vision_tower.weight", &[2, 2], None),
            ("model.connector.proj.weight", &[2, 2], Some("vision")),
            ("model.image_newline", &[2], Some("vision")),
            (
                "model.layers.0.self_attn.indexer.wk.weight",
                &[2, 2],
                Some("sparse indexers"),
            ),
            ("model.mtp_block.0.norm.weight", &[2], Some(PREDICTION)),
            // A bias that adds to something.
            ("h.0.attn.bias", &[32], None),
            ("model.layers.0.self_attn.q_proj.bias", &[8], None),
            ("model.layers.0.mlp.inv_freq", &[8], None),
        ] {
            assert_eq!(unneeded(name, shape), what, "{name}");
        }
    }

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
        assert_eq!(named(&names[..2]), "`a`, `b`");
        assert_eq!(named(&names), "`a`, `b`, `c`, `d` and 2 more");
    }
}
