//! What a plan asks for and layers lack. Layers that have it are observed; the others are named.
#![forbid(unsafe_code)]

use super::{plan::Plan, site::Site};
use crate::{
    error::{Error, Result},
    model::spec::{DecoderSpec, Layer},
    report::number::ranges,
};

/// Sites to look at instead; the last one is in every layer.
const INSTEAD: [Site; 4] = [
    Site::AttentionOutput,
    Site::MixerOutput,
    Site::MlpOutput,
    Site::LayerOutput,
];

/// Refuses sites and attention maps that no layer has.
pub(super) fn check(spec: &DecoderSpec, plan: &Plan) -> Result<()> {
    for site in Site::ALL {
        if plan.observes(site) && !site.exists_in(spec) {
            return Err(refusal(spec, site));
        }
    }
    if plan.looks_at_attention() {
        check_attention(spec)?;
    }
    Ok(())
}

/// Refuses to look at the attention of a model that has none.
pub fn check_attention(spec: &DecoderSpec) -> Result<()> {
    if without_attention(spec).len() < spec.layers.len() {
        return Ok(());
    }
    Err(Error::usage(
        "attention",
        "no layer of this model has any: other parts mix its tokens",
    )
    .remedy("`massact capture --sites mixer_output` has what these add"))
}

/// Layers without attention.
pub fn without_attention(spec: &DecoderSpec) -> Vec<usize> {
    let layers = spec.layers.iter().enumerate();
    let without = layers.filter(|(_, layer)| layer.attention.is_none());
    without.map(|(index, _)| index).collect()
}

fn refusal(spec: &DecoderSpec, site: Site) -> Error {
    let mut reasons: Vec<&str> = Vec::new();
    for reason in spec.layers.iter().filter_map(|layer| site.lacking(layer)) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let instead = match site {
        Site::Gate | Site::MlpInner if Site::ExpertInner.exists_in(spec) => &[Site::ExpertInner],
        Site::RouterLogits
        | Site::Gate
        | Site::MlpInner
        | Site::ExpertInner
        | Site::ExpertOutput => &INSTEAD[2..],
        Site::MixerOutput => &INSTEAD[3..],
        Site::AttentionGate => &INSTEAD[..],
        _ => &INSTEAD[1..],
    };
    let instead = instead.iter().find(|other| other.exists_in(spec));
    Error::usage(
        format!("site `{}`", site.name()),
        format!("the layers of this model {}", reasons.join(" or ")),
    )
    .remedy(format!(
        "observe {} instead",
        instead.unwrap_or(&Site::LayerOutput).name()
    ))
}

/// A line for the layers that lack the same for the same reason: the sites, the layers and why.
pub(super) fn notices(spec: &DecoderSpec, plan: &Plan) -> Vec<String> {
    let mut found: Vec<(Vec<&str>, Vec<usize>, &str)> = Vec::new();
    let mut add = |name: &'static str, lacking: &dyn Fn(&Layer) -> Option<&'static str>| {
        let mut of_name: Vec<(Vec<usize>, &str)> = Vec::new();
        for (index, layer) in spec.layers.iter().enumerate() {
            let Some(reason) = lacking(layer) else {
                continue;
            };
            match of_name.iter_mut().find(|(_, other)| *other == reason) {
                Some((layers, _)) => layers.push(index),
                None => of_name.push((vec![index], reason)),
            }
        }
        for (layers, reason) in of_name {
            let same =
                |other: &&mut (Vec<&str>, Vec<usize>, &str)| other.1 == layers && other.2 == reason;
            match found.iter_mut().find(same) {
                Some((names, ..)) => names.push(name),
                None => found.push((vec![name], layers, reason)),
            }
        }
    };
    for site in Site::ALL.into_iter().filter(|site| plan.observes(*site)) {
        add(site.name(), &|layer| site.lacking(layer));
    }
    if plan.looks_at_attention() {
        add("attention maps", &|layer| Site::Q.lacking(layer));
    }
    let lines = found.into_iter().map(|(names, layers, reason)| {
        let names = names.join(", ");
        match layers.as_slice() {
            // The reasons speak of several layers.
            [layer] => {
                let reason = reason.replace("have ", "has ").replace("mix ", "mixes ");
                format!("{names}: layer {layer} is left out, which {reason}")
            }
            layers => format!(
                "{names}: layers {} are left out, which {reason}",
                ranges(layers)
            ),
        }
    });
    lines.collect()
}
