//! GPTQ: tensors `X.qweight`, `X.qzeros`, `X.scales` and perhaps `X.g_idx`.
#![forbid(unsafe_code)]

use super::parts::{Packer, Pattern, group_size, no_order, refuse};
use crate::{
    error::Result,
    model::{
        config::Config,
        weights::{
            encodings::{Encoding, Gptq, GptqParts},
            store::{Packing, WeightStore},
        },
    },
};

pub(super) fn recognise(weights: &mut WeightStore, section: &Config) -> Result<Option<Packing>> {
    let bits = section.size_or("bits", 4)?;
    if ![2, 3, 4, 8].contains(&bits) {
        return Err(refuse("bits", bits, "massact reads 2, 3, 4 and 8 bits"));
    }
    let group = group_size(section, 128)?;
    let zero_offset = zero_offset(section)?;
    if section.flag_or("is_marlin_format", false)? {
        return Err(refuse("is_marlin_format", true, MARLIN));
    }
    if section.get("rotation").is_some() {
        return Err(refuse(
            "rotation",
            "set",
            "massact does not compute rotations of weights or activations",
        ));
    }
    let whole = Settings {
        bits,
        group,
        ordered: section.flag_or("desc_act", false)?,
    };
    let dynamic = section.section("dynamic")?.unwrap_or_default();
    let mut packer = Packer::new(weights);
    for module in packer.ending(".qweight") {
        let words = format!("{module}.qweight");
        let order = format!("{module}.g_idx");
        let parts = GptqParts {
            zeros: packer.part(&format!("{module}.qzeros"), &words)?,
            scales: packer.part(&format!("{module}.scales"), &words)?,
            groups: packer.take(&order),
            words: packer.part(&words, &words)?,
        };
        let name = format!("{module}.weight");
        let settings = match &parts.groups {
            // What they are, shapes say.
            Some(groups) if !dynamic.is_empty() => {
                let of = |shape: &[usize]| shape.first().copied().unwrap_or_default();
                let inputs = of(groups.shape()).max(1);
                Settings {
                    bits: of(parts.words.shape()).saturating_mul(32) / inputs,
                    group: inputs / of(parts.scales.shape()).max(1),
                    ..whole
                }
            }
            Some(_) => whole,
            None => settings_of(&module, &dynamic, whole)?,
        };
        // Of one group, no input is another's.
        if settings.ordered && settings.group != 0 && parts.groups.is_none() {
            return Err(no_order(&name, &order, "desc_act"));
        }
        let Settings { bits, group, .. } = settings;
        let (encoding, shape) = Gptq::new(&name, parts, bits, group, zero_offset)?;
        packer.pack(name, shape, Encoding::Gptq(encoding));
    }
    Ok(packer.packing("GPTQ", false))
}

/// How a module is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Settings {
    bits: usize,
    /// Inputs of a group; 0 for all.
    group: usize,
    /// Whether a tensor says which inputs are a group.
    ordered: bool,
}

/// The settings of a module: those of the patterns of `dynamic` that match its name, or of all. The first
/// pattern of the file counts; which that is does not matter as long as all say the same.
fn settings_of(module: &str, dynamic: &Config, whole: Settings) -> Result<Settings> {
    let mut found = None;
    for key in dynamic.keys() {
        // What `-:` matches is not packed, unless another pattern comes before it.
        let pattern = key.strip_prefix("+:").unwrap_or(&key);
        if pattern.starts_with("-:") || !Pattern::new(pattern).matches(module) {
            continue;
        }
        let Some(own) = dynamic.section(&key)? else {
            continue;
        };
        let settings = Settings {
            bits: own.size_or("bits", whole.bits)?,
            group: group_size(&own, whole.group)?,
            ordered: own.flag_or("desc_act", whole.ordered)?,
        };
        if *found.get_or_insert(settings) != settings {
            let why = format!("two of its patterns match `{module}` and do not agree");
            return Err(refuse("dynamic", "ambiguous", &why));
        }
    }
    Ok(found.unwrap_or(whole))
}

const MARLIN: &str = "the weights are laid out for one kernel; massact reads `gptq` and `gptq_v2`";

/// What is to be added to a stored zero point. A config that does not say has the first version.
fn zero_offset(section: &Config) -> Result<u32> {
    let key = section.either(&["checkpoint_format", "format"]);
    if section.get(key).is_none() {
        return Ok(1);
    }
    match section.text_or(key, "gptq")? {
        "gptq" => Ok(1),
        "gptq_v2" => Ok(0),
        other => Err(refuse(key, format_args!("`{other}`"), MARLIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_single_modules() {
        let text = br#"{"+:.*down": {"bits": 8, "group_size": -1}, "-:.*down_proj": {}, ".*up": {"bits": 2},
            "+:.*up_proj$": {"bits": 3}}"#;
        let dynamic = Config::parse(text).expect("valid");
        let whole = Settings {
            bits: 4,
            group: 32,
            ordered: false,
        };
        let of = |module| settings_of(module, &dynamic, whole);
        assert_eq!(of("h.0.q_proj"), Ok(whole));
        let own = Settings {
            bits: 8,
            group: 0,
            ..whole
        };
        assert_eq!(of("h.0.down_proj"), Ok(own));
        assert_eq!(of("h.0.up").expect("one").bits, 2);
        let error = of("h.0.up_proj").expect_err("two").to_string();
        assert!(error.contains("h.0.up_proj"), "{error}");
    }

    #[test]
    fn a_format_that_is_null_is_the_first() {
        for (text, offset) in [
            ("{}", 1),
            (r#"{"checkpoint_format": null}"#, 1),
            (r#"{"checkpoint_format": null, "format": "gptq_v2"}"#, 0),
        ] {
            let section = Config::parse(text.as_bytes()).expect("valid");
            assert_eq!(zero_offset(&section), Ok(offset), "{text}");
        }
    }
}
