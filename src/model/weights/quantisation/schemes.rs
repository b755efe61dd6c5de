//! What compressed-tensors' config says of modules: how weights are packed in which of them.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::parts::{Pattern, block_size, group_size, refuse};
use crate::{
    error::Result,
    model::{config::Config, weights::encodings::Blocks},
};

/// Formats of which massact knows the tensors.
const FORMATS: [&str; 9] = [
    "dense",
    "float-quantized",
    "int-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "pack-quantized",
];

/// One group of `config_groups`.
#[derive(Debug)]
pub(super) struct Scheme {
    targets: Vec<Target>,
    /// Bits of a weight.
    pub(super) bits: usize,
    /// Whether the code that is zero is the middle one.
    pub(super) symmetric: bool,
    /// What shares a scale.
    pub(super) blocks: Blocks,
    /// Whether a tensor says which inputs are a group.
    pub(super) ordered: bool,
}

/// A module's name, a pattern after `re:`, or a class.
#[derive(Debug)]
struct Target {
    text: String,
    pattern: Option<Pattern>,
}

/// All groups, and what else the config says.
#[derive(Debug)]
pub(super) struct Schemes {
    groups: Vec<Scheme>,
    /// Whether inputs, outputs or the key/value cache are quantised where the model is run.
    pub(super) quantises_activations: bool,
}

impl Schemes {
    pub(super) fn read(section: &Config) -> Result<Self> {
        refuse_unknown_format(section)?;
        refuse_others(section)?;
        let mut schemes = Self {
            groups: Vec::new(),
            quantises_activations: section.get("kv_cache_scheme").is_some(),
        };
        let Some(groups) = section.section("config_groups")? else {
            return Ok(schemes);
        };
        for name in groups.keys() {
            let Some(group) = groups.section(&name)? else {
                continue;
            };
            refuse_unknown_format(&group)?;
            let activations = ["input_activations", "output_activations"];
            schemes.quantises_activations |= activations.iter().any(|key| group.get(key).is_some());
            if let Some(weights) = group.section("weights")? {
                schemes.groups.push(scheme(&group, &weights)?);
            }
        }
        Ok(schemes)
    }

    /// The groups that may be a module's: that with the most special target that matches it, the first in
    /// the alphabet of several, as in compressed-tensors; or else all of them.
    pub(super) fn of(&self, module: &str) -> Vec<&Scheme> {
        let ranked: Vec<_> = self
            .groups
            .iter()
            .map(|group| (group.target(module), group))
            .collect();
        let best = ranked
            .iter()
            .filter_map(|(target, _)| target.as_ref())
            .min();
        let counts = ranked.iter().filter(|(target, _)| target.as_ref() == best);
        counts.map(|(_, group)| *group).collect()
    }
}

const NO_MATCH: u8 = 3;

impl Scheme {
    /// The most special of its targets that match a module, and how special it is.
    fn target(&self, module: &str) -> Option<(u8, &str)> {
        let targets = self.targets.iter();
        let ranked = targets.map(|target| (target.rank(module), target.text.as_str()));
        ranked.filter(|(rank, _)| *rank != NO_MATCH).min()
    }
}

impl Target {
    fn new(text: String) -> Self {
        let pattern = text.strip_prefix("re:").map(Pattern::new);
        Self { text, pattern }
    }

    /// How special it is where it matches a module: its name, a pattern, its class.
    fn rank(&self, module: &str) -> u8 {
        match &self.pattern {
            Some(pattern) if pattern.matches(module) => 1,
            None if self.text == module => 0,
            None if self.text == class(module) => 2,
            _ => NO_MATCH,
        }
    }
}

/// The class of a module that is packed.
fn class(module: &str) -> &'static str {
    let last = module.rsplit('.').next().unwrap_or(module);
    match last {
        "embed_tokens" | "embed_in" | "word_embeddings" | "wte" => "Embedding",
        _ => "Linear",
    }
}

fn refuse_unknown_format(section: &Config) -> Result<()> {
    match section.get("format") {
        Some(format) if !format.as_str().is_some_and(|name| FORMATS.contains(&name)) => {
            Err(refuse(
                "format",
                format,
                "massact does not read this format of compressed-tensors",
            ))
        }
        _ => Ok(()),
    }
}

/// Refuses what is beyond quantisation: sparse tensors, rotated weights.
fn refuse_others(section: &Config) -> Result<()> {
    if let Some(sparsity) = section.section("sparsity_config")? {
        let format = sparsity.text_or("format", "dense")?;
        if format != "dense" {
            return Err(refuse(
                "sparsity_config.format",
                format_args!("`{format}`"),
                "massact does not read sparse tensors",
            ));
        }
    }
    if let Some(transforms) = section.section("transform_config")? {
        let groups = transforms.get("config_groups");
        if groups
            .and_then(Value::as_object)
            .is_some_and(|groups| !groups.is_empty())
        {
            return Err(refuse(
                "transform_config",
                "set",
                "massact does not compute transforms of weights or activations",
            ));
        }
    }
    Ok(())
}

fn scheme(group: &Config, weights: &Config) -> Result<Scheme> {
    let bits = weights.size_or("num_bits", 8)?;
    let size = group_size(weights, 0)?;
    let implied = match (weights.get("group_size"), size) {
        (None, _) => "tensor",
        (Some(_), 0) => "channel",
        (Some(_), _) => "group",
    };
    let strategy = match weights.get("strategy") {
        None => implied,
        Some(_) => weights.text_or("strategy", implied)?,
    };
    let blocks = match strategy.to_ascii_lowercase().as_str() {
        "tensor" => Blocks::Tensor,
        "channel" => Blocks::Outputs,
        "group" | "tensor_group" if size > 0 => Blocks::Of(1, size),
        "block" => block_size(weights, "block_structure")?
            .ok_or_else(|| refuse("block_structure", "absent", "blocks have two sizes"))?,
        other => {
            return Err(refuse(
                "strategy",
                format_args!("`{other}`"),
                "massact does not know which weights share a scale",
            ));
        }
    };
    let targets = group.texts_opt("targets")?.unwrap_or_default();
    Ok(Scheme {
        targets: targets.into_iter().map(Target::new).collect(),
        bits,
        symmetric: weights.flag_or("symmetric", true)?,
        ordered: ordered(weights) && matches!(blocks, Blocks::Of(1, _)),
        blocks,
    })
}

/// Whether inputs are grouped in an order of their own: `true` and `dynamic` are other words for `group`.
/// Weights that were only rounded in another order (`weight`, `static`) are grouped as they lie.
fn ordered(weights: &Config) -> bool {
    match weights.get("actorder") {
        Some(Value::String(order)) => ["group", "dynamic"].contains(&order.to_lowercase().as_str()),
        order => order.and_then(Value::as_bool).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemes(text: &str) -> Result<Schemes> {
        Schemes::read(&Config::parse(text.as_bytes())?)
    }

    #[test]
    fn the_most_special_target_counts() {
        let found = schemes(
            r#"{"config_groups": {
                "a": {"targets": ["Linear"], "weights": {"num_bits": 2}},
                "b": {"targets": ["re:.*gate_proj$"], "weights": {"num_bits": 3}},
                "c": {"targets": ["h.1.gate_proj"], "weights": {"num_bits": 4}},
                "d": {"targets": ["re:(a+)+$"], "weights": {"num_bits": 5}},
                "e": {"targets": ["Embedding"], "weights": {"num_bits": 6}}
            }}"#,
        )
        .expect("valid");
        let bits = |module: &str| -> Vec<usize> {
            found.of(module).iter().map(|scheme| scheme.bits).collect()
        };
        assert_eq!(bits("h.0.up_proj"), [2]);
        assert_eq!(bits("h.0.gate_proj"), [3]);
        assert_eq!(bits("h.1.gate_proj"), [4]);
        assert_eq!(bits("gate_proj.x"), [2]);
        assert_eq!(bits("model.embed_tokens"), [6]);
    }

    #[test]
    fn of_two_patterns_the_first_in_the_alphabet_counts() {
        let found = schemes(
            r#"{"config_groups": {
                "a": {"targets": ["re:h.*"], "weights": {"num_bits": 2}},
                "b": {"targets": ["re:.*proj"], "weights": {"num_bits": 3}}
            }}"#,
        );
        let found = found.expect("valid");
        let bits: Vec<usize> = found
            .of("h.0.up_proj")
            .iter()
            .map(|group| group.bits)
            .collect();
        assert_eq!(bits, [3]);
        assert_eq!(found.of("x").len(), 2);
    }

    #[test]
    fn orders_of_inputs() {
        for (order, expected) in [
            (r#""group""#, true),
            (r#""dynamic""#, true),
            ("true", true),
            (r#""weight""#, false),
            (r#""static""#, false),
            ("false", false),
            ("null", false),
        ] {
            let text = format!(
                r#"{{"config_groups": {{"a": {{"targets": [], "weights": {{"group_size": 32, "actorder": {order}}}}}}}}}"#
            );
            let found = schemes(&text).expect("valid");
            assert_eq!(found.groups[0].ordered, expected, "{order}");
        }
    }

    #[test]
    fn what_shares_a_scale() {
        let blocks = |weights: &str| {
            let text =
                format!(r#"{{"config_groups": {{"a": {{"targets": [], "weights": {weights}}}}}}}"#);
            schemes(&text).map(|found| found.groups[0].blocks)
        };
        for (weights, expected) in [
            ("{}", Blocks::Tensor),
            (r#"{"group_size": -1}"#, Blocks::Outputs),
            (r#"{"group_size": 32}"#, Blocks::Of(1, 32)),
            (r#"{"strategy": "channel"}"#, Blocks::Outputs),
            (
                r#"{"strategy": "block", "block_structure": [3, 4]}"#,
                Blocks::Of(3, 4),
            ),
        ] {
            assert_eq!(blocks(weights), Ok(expected), "{weights}");
        }
        for wrong in [
            r#"{"strategy": "group"}"#,
            r#"{"strategy": "block"}"#,
            r#"{"strategy": "block", "block_structure": [0, 4]}"#,
            r#"{"strategy": "token"}"#,
            r#"{"num_bits": 0}"#,
        ] {
            assert!(blocks(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_more_than_quantised_is_refused() {
        for (text, named) in [
            (r#"{"format": "marlin-24"}"#, "marlin-24"),
            (
                r#"{"sparsity_config": {"format": "sparse-bitmask"}}"#,
                "sparse-bitmask",
            ),
            (
                r#"{"transform_config": {"config_groups": {"u": {}}}}"#,
                "transform_config",
            ),
        ] {
            let error = schemes(text).expect_err(named).to_string();
            assert!(error.contains(named), "{error}");
        }
        let plain = r#"{"format": "pack-quantized", "sparsity_config": {}, "transform_config": {"config_groups": {}}}"#;
        assert!(schemes(plain).is_ok());
    }
}
