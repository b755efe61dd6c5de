//! Rotary settings: from keys and tensors of a file to `rope_theta` and `rope_scaling`.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::keys::{Keys, Settings};
use crate::error::{Error, Result};

/// Divisors of the frequencies, one a pair.
const FREQUENCIES: &str = "rope_freqs.weight";
/// The same for long and for short sequences.
const LONG: &str = "rope_factors_long.weight";
const SHORT: &str = "rope_factors_short.weight";

/// Tensors that are settings, not weights.
pub(super) const TENSORS: [&str; 3] = [FREQUENCIES, LONG, SHORT];

/// Whether a family may rotate a part of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partial {
    /// All of it only.
    No,
    /// The share is `partial_rotary_factor`.
    Yes,
    /// The share is `rotary_pct`.
    Percent,
}

/// Sets base, scaling and rotated share.
pub(super) fn set(
    keys: &Keys<'_>,
    settings: &mut Settings,
    head_dim: u64,
    partial: Partial,
) -> Result<()> {
    let theta = keys.number_opt("rope.freq_base")?.unwrap_or(1e4);
    let dims = keys.size_opt("rope.dimension_count")?.unwrap_or(head_dim);
    let whole = dims == head_dim;
    if !whole && (partial == Partial::No || dims > head_dim) {
        return Err(keys.error(
            "rope.dimension_count",
            format!("it is {dims}, and heads have {head_dim} dimensions"),
        ));
    }
    // A half more than the dimensions, so that no rounding loses one.
    let share = if whole {
        1.0
    } else {
        (dims as f64 + 0.5) / head_dim as f64
    };
    match partial {
        Partial::No => {}
        Partial::Yes => settings.set("partial_rotary_factor", share),
        Partial::Percent => settings.set("rotary_pct", share),
    }
    settings.set(
        if partial == Partial::Percent {
            "rotary_emb_base"
        } else {
            "rope_theta"
        },
        theta,
    );
    if let Some(scaling) = scaling(keys, dims as usize / 2)? {
        if let Some(original) = keys.size_opt(ORIGINAL)? {
            // Phi-3 reads it beside the section.
            settings.set("original_max_position_embeddings", original);
        }
        settings.set("rope_scaling", scaling);
    }
    Ok(())
}

const ORIGINAL: &str = "rope.scaling.original_context_length";

/// The section, if anything is scaled.
fn scaling(keys: &Keys<'_>, pairs: usize) -> Result<Option<Value>> {
    let kind = keys.text_opt("rope.scaling.type")?.unwrap_or("none");
    let factor = keys.number_opt("rope.scaling.factor")?;
    // How it was before there was a type.
    let old = keys.number_opt("rope.scale_linear")?;
    // Whether it was trained so.
    keys.flag_opt("rope.scaling.finetuned")?;
    keys.refuse_unless("rope.scaling.yarn_ext_factor", 1.0)?;
    let attention = [
        keys.number_opt("rope.scaling.attn_factor")?,
        keys.number_opt("rope.scaling.yarn_attn_factor")?,
    ];
    let attention = attention
        .into_iter()
        .flatten()
        .find(|factor| *factor != 1.0);
    let both = |name: &str| {
        keys.error(
            "rope.scaling.type",
            format!("`{kind}` is beside the tensor `{name}`"),
        )
    };
    let frequencies = divisors(keys, FREQUENCIES, pairs)?;
    let long = [divisors(keys, SHORT, pairs)?, divisors(keys, LONG, pairs)?];
    match (kind, factor.or(old), frequencies, long) {
        ("none", None | Some(1.0 | 0.0), None, [None, None])
        | ("linear", Some(1.0), None, [None, None]) => Ok(None),
        ("none", _, Some(list), [None, None]) => Ok(Some(json!({
            "rope_type": "longrope",
            "short_factor": list.clone(),
            "long_factor": list,
            "attention_factor": 1.0,
            "factor": 1.0,
        }))),
        ("none" | "longrope", _, None, [Some(short), Some(long)]) => Ok(Some(json!({
            "rope_type": "longrope",
            "short_factor": short,
            "long_factor": long,
            "attention_factor": attention.unwrap_or(1.0),
        }))),
        ("linear", Some(factor), None, [None, None]) => {
            Ok(Some(json!({"rope_type": "linear", "factor": factor})))
        }
        // A factor alone was for linear scaling.
        ("none", Some(factor), None, [None, None])
            if keys.text_opt("rope.scaling.type")?.is_none() =>
        {
            Ok(Some(json!({"rope_type": "linear", "factor": factor})))
        }
        ("none", _, None, [None, None]) => Ok(None),
        ("yarn", Some(factor), None, [None, None]) => yarn(keys, factor, attention).map(Some),
        ("none" | "linear" | "yarn", _, Some(_), _) => Err(both(FREQUENCIES)),
        ("none" | "linear" | "yarn", _, _, [None, Some(_)] | [Some(_), _]) => Err(both(SHORT)),
        ("longrope", ..) => Err(keys.error(
            "rope.scaling.type",
            format!("it is `longrope`, which needs the tensors `{LONG}` and `{SHORT}`"),
        )),
        ("linear" | "yarn", ..) => Err(keys.error("rope.scaling.factor", "it is missing")),
        (other, ..) => Err(Error::new(
            format!("`{}.rope.scaling.type`", keys.architecture),
            format!("it is `{other}`, which massact does not compute"),
        )
        .remedy("run `massact models` for what is supported")),
    }
}

fn yarn(keys: &Keys<'_>, factor: f64, attention: Option<f64>) -> Result<Value> {
    keys.refuse_unless("rope.scaling.yarn_log_multiplier", 0.0)?;
    let mut section = json!({"rope_type": "yarn", "factor": factor});
    if let Some(original) = keys.size_opt(ORIGINAL)? {
        section["original_max_position_embeddings"] = original.into();
    }
    for (key, name) in [
        ("beta_fast", "rope.scaling.yarn_beta_fast"),
        ("beta_slow", "rope.scaling.yarn_beta_slow"),
    ] {
        if let Some(turns) = keys.number_opt(name)? {
            section[key] = turns.into();
        }
    }
    if let Some(attention) = attention {
        // It comes on top of YaRN's own.
        let own = if factor <= 1.0 {
            1.0
        } else {
            0.1 * factor.ln() + 1.0
        };
        section["attention_factor"] = (attention * own).into();
    }
    Ok(section)
}

/// A list of divisors, if it is there.
fn divisors(keys: &Keys<'_>, tensor: &str, pairs: usize) -> Result<Option<Vec<f32>>> {
    let Some(list) = keys.gguf.vector(tensor)? else {
        return Ok(None);
    };
    let positive = list
        .iter()
        .all(|divisor| *divisor > 0.0 && divisor.is_finite());
    if list.len() == pairs && positive {
        return Ok(Some(list));
    }
    Err(Error::new(
        format!("tensor `{tensor}`"),
        format!(
            "it has {} values, expected {pairs} positive ones",
            list.len()
        ),
    )
    .remedy(super::keys::REMEDY))
}
