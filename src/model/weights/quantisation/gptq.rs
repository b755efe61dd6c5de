//! GPTQ: tensors `X.qweight`, `X.qzeros`, `X.scales` and perhaps `X.g_idx`.
#![forbid(unsafe_code)]

use super::parts::{Packer, group_size, refuse};
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
    // Settings of single modules: what they are, shapes say.
    let dynamic = section.get("dynamic").and_then(|value| value.as_object());
    let dynamic = dynamic.is_some_and(|patterns| !patterns.is_empty());
    let mut packer = Packer::new(weights);
    for module in packer.ending(".qweight") {
        let words = format!("{module}.qweight");
        let parts = GptqParts {
            zeros: packer.part(&format!("{module}.qzeros"), &words)?,
            scales: packer.part(&format!("{module}.scales"), &words)?,
            groups: packer.take(&format!("{module}.g_idx")),
            words: packer.part(&words, &words)?,
        };
        let (bits, group) = match &parts.groups {
            Some(groups) if dynamic => {
                let of = |shape: &[usize]| shape.first().copied().unwrap_or_default();
                let inputs = of(groups.shape()).max(1);
                let bits = of(parts.words.shape()).saturating_mul(32) / inputs;
                (bits, inputs / of(parts.scales.shape()).max(1))
            }
            _ => (bits, group),
        };
        let name = format!("{module}.weight");
        let (encoding, shape) = Gptq::new(&name, parts, bits, group, zero_offset)?;
        packer.pack(name, shape, Encoding::Gptq(encoding));
    }
    Ok(packer.packing("GPTQ", false))
}

const MARLIN: &str = "the weights are laid out for one kernel; massact reads `gptq` and `gptq_v2`";

/// What is to be added to a stored zero point. A config that does not say has the first version.
fn zero_offset(section: &Config) -> Result<u32> {
    let key = section.either(&["checkpoint_format", "format"]);
    match section.text_or(key, "gptq")? {
        "gptq" => Ok(1),
        "gptq_v2" => Ok(0),
        other => Err(refuse(key, format_args!("`{other}`"), MARLIN)),
    }
}
