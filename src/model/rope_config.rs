//! Rotary settings of a config, in both spellings, as transformers understands them
//! (`modeling_rope_utils.py`, `RotaryEmbeddingConfigMixin`).
#![forbid(unsafe_code)]

use serde_json::Value;

use super::{
    config::{Config, same},
    rope::{Rope, RopeDefaults, RopeScaling},
};
use crate::error::{Error, Result};

impl Rope {
    /// Reads either config style: `rope_theta` with `rope_scaling`, or `rope_parameters`.
    pub fn from_config(
        config: &Config,
        head_dim: usize,
        max_positions: usize,
        defaults: RopeDefaults,
    ) -> Result<Self> {
        let read = |section| Self::from_section(config, section, head_dim, max_positions, defaults);
        match [
            filled(config, "rope_parameters")?,
            filled(config, "rope_scaling")?,
        ] {
            [Some(new), Some(old)] => agreed(read(Some(&new))?, &read(Some(&old))?),
            [new, old] => read(new.or(old).as_ref()),
        }
    }

    /// Reads one set of parameters; what it lacks is looked up in the config, then in `defaults`.
    pub fn from_section(
        config: &Config,
        section: Option<&Config>,
        head_dim: usize,
        max_positions: usize,
        defaults: RopeDefaults,
    ) -> Result<Self> {
        if let Some(section) = section {
            one_for_all_layers(section)?;
        }
        let setting = |key: &str, default: f64| match section {
            Some(section) if section.has(key) => {
                let inner = section.number_or(key, default)?;
                said_otherwise(config, key, section, key);
                Ok(inner)
            }
            _ => config.number_or(key, default),
        };
        let theta = setting("rope_theta", defaults.theta)?;
        // A null takes the family's share away: the whole head rotates.
        let null = config.raw("partial_rotary_factor") == Some(&Value::Null)
            && !section.is_some_and(|section| section.has("partial_rotary_factor"));
        let share = if null {
            1.0
        } else {
            setting("partial_rotary_factor", defaults.partial.unwrap_or(1.0))?
        };
        let scaled = section.map(kind).transpose()?;
        // Its share is one of the whole head's pairs, where a family rotates whole heads.
        let proportional = scaled == Some(PROPORTIONAL) && defaults.partial.is_none();
        let whole = defaults.partial.is_none() && !proportional;
        if !(0.0..=1.0).contains(&share) || (share != 1.0 && whole) {
            return Err(config.refuse("partial_rotary_factor", "this family rotates whole heads"));
        }
        let dims = match proportional {
            true => head_dim,
            false => (head_dim as f64 * share) as usize,
        };
        if theta <= 0.0 {
            return Err(Error::new(
                "config.json",
                format!("`rope_theta` is {theta}, expected a positive number"),
            )
            .remedy("correct it in config.json, or take the file of the original model"));
        }
        check_dims(dims)?;
        if let Some(section) = section.filter(|_| defaults.alpha)
            && let Some(theta) = stretched(section, theta, dims)?
        {
            return Self::plain(theta, dims, defaults.interleaved);
        }
        Ok(Self {
            theta,
            dims,
            scaling: match section {
                Some(section) if proportional => RopeScaling::Proportional {
                    pairs: (head_dim as f64 * share / 2.0) as usize,
                    factor: positive(PROPORTIONAL, section.number_or("factor", 1.0)?)?,
                },
                Some(section) => {
                    let positions = (config, max_positions);
                    RopeScaling::from_section(section, theta, dims, positions)?
                }
                None => RopeScaling::Default,
            },
            interleaved: defaults.interleaved,
        })
    }
}

/// Older configs say `type`, newer ones `rope_type`.
fn kind(section: &Config) -> Result<&str> {
    section.text_or("rope_type", section.text_or("type", "default")?)
}

/// The base that the `alpha` of dynamic scaling makes of this one, where there is one (Hunyuan).
fn stretched(section: &Config, theta: f64, dims: usize) -> Result<Option<f64>> {
    let alpha = section.number_opt("alpha")?.filter(|alpha| *alpha != 0.0);
    let Some(alpha) = alpha.filter(|_| kind(section).is_ok_and(|kind| kind == "dynamic")) else {
        return Ok(None);
    };
    let base = theta * alpha.powf(dims as f64 / (dims as f64 - 2.0));
    if !base.is_finite() || base <= 0.0 {
        return Err(section.refuse("alpha", "it makes no base of the rotation"));
    }
    Ok(Some(base))
}

impl RopeScaling {
    fn from_section(
        section: &Config,
        theta: f64,
        dims: usize,
        (config, max_positions): (&Config, usize),
    ) -> Result<Self> {
        let kind = kind(section)?;
        let positive = |factor: f64| positive(kind, factor);
        let factor = || positive(section.number_or("factor", f64::NAN)?);
        // Phi-3 writes it beside the section, and that one counts.
        let original = || {
            const KEY: &str = "original_max_position_embeddings";
            config.size_or(KEY, section.size_or(KEY, max_positions)?)
        };
        match kind {
            // Three positions a token, which are one in a text.
            "default" | "mrope" => Ok(Self::Default),
            "linear" => Ok(Self::Linear { factor: factor()? }),
            "dynamic" => Ok(Self::Dynamic {
                factor: factor()?,
                original: max_positions,
            }),
            "llama3" => Ok(Self::Llama3 {
                factor: factor()?,
                low: section.number_or("low_freq_factor", 1.0)?,
                high: section.number_or("high_freq_factor", 4.0)?,
                original: original()?,
            }),
            "yarn" => {
                let original = original()?;
                let stretched = max_positions as f64 / original as f64;
                let factor = positive(section.number_opt("factor")?.unwrap_or(stretched))?;
                Ok(yarn(section, factor, theta, dims, original)?)
            }
            // `su` is LongRoPE's first name.
            "longrope" | "su" => long(section, dims, original()?, max_positions),
            other => Err(Error::new(
                "config.json",
                format!("rope scaling `{other}` is not one that massact computes"),
            )
            .remedy("run `massact models` for what is supported")),
        }
    }
}

const PROPORTIONAL: &str = "proportional";

fn positive(kind: &str, factor: f64) -> Result<f64> {
    if factor.is_nan() || factor <= 0.0 {
        return Err(Error::new(
            "config.json",
            format!("rope scaling `{kind}` needs a positive `factor`"),
        )
        .remedy("correct it in config.json, or take the file of the original model"));
    }
    Ok(factor)
}

/// Refuses settings by kind of layer where a family has one rope.
fn one_for_all_layers(section: &Config) -> Result<()> {
    for kind in ["full_attention", "sliding_attention"] {
        if section.get(kind).is_some_and(Value::is_object) {
            return Err(Error::new(
                "config.json",
                format!("rotary settings of `{kind}` alone, in a family whose layers rotate alike"),
            )
            .remedy("write the settings into `rope_parameters` itself"));
        }
    }
    Ok(())
}

/// A section that says something: an empty one counts as absent.
pub(super) fn filled(config: &Config, key: &str) -> Result<Option<Config>> {
    Ok(config.section(key)?.filter(|section| !section.is_empty()))
}

/// What the two sections of a config say, if it is the same.
pub(super) fn agreed(new: Rope, old: &Rope) -> Result<Rope> {
    if new == *old {
        return Ok(new);
    }
    Err(Error::new(
        "config.json",
        "`rope_scaling` and `rope_parameters` are both there and say different things",
    )
    .remedy("keep one of them: move what is meant into `rope_parameters`, `rope_theta` included, and delete `rope_scaling`"))
}

/// Says that a setting beside a section, there called `name`, is not the one that counts.
pub(super) fn said_otherwise(config: &Config, name: &str, section: &Config, key: &str) {
    if let (Some(outer), Some(inner)) = (config.get(name), section.get(key))
        && !same(outer, inner)
    {
        config.notice(format!(
            "config.json: `{name}` is {outer} beside the rotary settings and {inner} in them: {inner} counts, as in transformers"
        ));
    }
}

pub(super) fn check_dims(dims: usize) -> Result<()> {
    if dims == 0 || !dims.is_multiple_of(2) {
        return Err(Error::new(
            "config.json",
            format!("rotary embedding over {dims} dimensions; it must be even"),
        )
        .remedy("check head_dim, hidden_size and num_attention_heads"));
    }
    Ok(())
}

/// Settings of LongRoPE as transformers derives them.
fn long(
    section: &Config,
    dims: usize,
    original: usize,
    max_positions: usize,
) -> Result<RopeScaling> {
    let divisors = |key: &str| -> Result<Vec<f32>> {
        let list = section.numbers_opt(key)?.unwrap_or_default();
        if list.len() != dims / 2 || list.iter().any(|divisor| *divisor <= 0.0) {
            return Err(Error::new(
                "config.json",
                format!(
                    "rope scaling needs {} positive numbers in `{key}`",
                    dims / 2
                ),
            )
            .remedy("correct it in config.json, or take the file of the original model"));
        }
        Ok(list.into_iter().map(|divisor| divisor as f32).collect())
    };
    let stretched = max_positions as f64 / original as f64;
    let factor = section.number_opt("factor")?.unwrap_or(stretched);
    let attention = if factor <= 1.0 || original == 1 {
        1.0
    } else {
        (1.0 + factor.ln() / (original as f64).ln()).sqrt()
    };
    let attention = section.number_opt("attention_factor")?.unwrap_or(attention);
    Ok(RopeScaling::Long {
        short: divisors("short_factor")?,
        long: divisors("long_factor")?,
        attention,
        long_attention: attention,
        original,
    })
}

/// Settings of YaRN as transformers derives them.
fn yarn(
    section: &Config,
    factor: f64,
    theta: f64,
    dims: usize,
    original: usize,
) -> Result<RopeScaling> {
    let magnitude = |scale: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * scale * factor.ln() + 1.0
        }
    };
    let (scale, all) = (
        section.number_opt("mscale")?.unwrap_or(0.0),
        section.number_opt("mscale_all_dim")?.unwrap_or(0.0),
    );
    let attention = if scale != 0.0 && all != 0.0 {
        magnitude(scale) / magnitude(all)
    } else {
        magnitude(1.0)
    };
    // The pair whose wavelength makes this many turns over the original positions.
    let pair = |turns: f64| {
        let turns = original as f64 / (turns * 2.0 * std::f64::consts::PI);
        dims as f64 * turns.ln() / (2.0 * theta.ln())
    };
    // 0 counts as absent, as in transformers.
    let turns = |key: &str, default: f64| -> Result<f64> {
        let turns = section.number_opt(key)?;
        Ok(turns.filter(|turns| *turns != 0.0).unwrap_or(default))
    };
    let mut low = pair(turns("beta_fast", 32.0)?);
    let mut high = pair(turns("beta_slow", 1.0)?);
    if section.flag_or("truncate", true)? {
        (low, high) = (low.floor(), high.ceil());
    }
    Ok(RopeScaling::Yarn {
        factor,
        attention: section.number_opt("attention_factor")?.unwrap_or(attention),
        low: low.max(0.0),
        high: high.min(dims as f64 - 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(json: &str, dims: usize) -> Result<Rope> {
        Rope::from_config(
            &Config::parse(json.as_bytes())?,
            dims,
            32,
            RopeDefaults::default(),
        )
    }

    #[test]
    fn both_config_styles_agree() {
        let old = rope(
            r#"{"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}}"#,
            8,
        );
        let new = rope(
            r#"{"rope_parameters": {"rope_type": "linear", "rope_theta": 500000.0, "factor": 2}}"#,
            8,
        );
        assert_eq!(old, new);
        assert_eq!(old.map(|r| r.theta), Ok(500_000.0));
    }

    #[test]
    fn two_sections_must_agree() {
        let both = |old: &str, new: &str| {
            rope(
                &format!(r#"{{"rope_scaling": {old}, "rope_parameters": {new}}}"#),
                8,
            )
        };
        let linear = r#"{"type": "linear", "factor": 2}"#;
        let same = r#"{"rope_type": "linear", "factor": 2.0, "rope_theta": 10000}"#;
        let alone = rope(&format!(r#"{{"rope_scaling": {linear}}}"#), 8);
        assert!(alone.is_ok());
        for (old, new) in [
            (linear, same),
            (linear, "{}"),
            ("{}", same),
            (linear, "null"),
        ] {
            assert_eq!(both(old, new), alone, "{old} {new}");
        }
        for other in [
            r#"{"rope_type": "default", "rope_theta": 10000}"#,
            r#"{"rope_type": "linear", "factor": 2, "rope_theta": 500}"#,
        ] {
            let message = both(linear, other).expect_err(other).to_string();
            assert!(
                message.contains("`rope_scaling` and `rope_parameters`"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_base_beside_the_section_that_says_otherwise_is_named() {
        let text = r#"{"rope_theta": 300, "rope_parameters": {"rope_theta": 50.0}}"#;
        let config = Config::parse(text.as_bytes()).expect("valid");
        let rope = Rope::from_config(&config, 8, 32, RopeDefaults::default()).expect("valid");
        assert_eq!(rope.theta, 50.0);
        let [notice] = &config.notices()[..] else {
            panic!("{:?}", config.notices());
        };
        assert!(
            notice.contains("`rope_theta` is 300") && notice.contains("50.0 counts"),
            "{notice}"
        );
    }

    #[test]
    fn what_null_means() {
        let of = |text: &str, partial| {
            let config = Config::parse(text.as_bytes())?;
            let defaults = RopeDefaults {
                partial,
                ..RopeDefaults::default()
            };
            Rope::from_config(&config, 8, 32, defaults)
        };
        let dims = |text: &str| of(text, Some(0.5)).map(|rope| rope.dims);
        assert_eq!(dims("{}"), Ok(4));
        assert_eq!(dims(r#"{"partial_rotary_factor": null}"#), Ok(8));
        assert!(of(r#"{"rope_theta": null}"#, None).is_err());
        let yarn = |more: &str| {
            rope(
                &format!(r#"{{"rope_scaling": {{"type": "yarn", "factor": 4{more}}}}}"#),
                8,
            )
        };
        let plain = yarn("");
        assert!(plain.is_ok());
        for more in [
            r#", "beta_fast": null, "beta_slow": null"#,
            r#", "beta_fast": 0"#,
            r#", "attention_factor": null, "mscale": null"#,
        ] {
            assert_eq!(yarn(more), plain, "{more}");
        }
    }

    #[test]
    fn frequencies_fall_geometrically() {
        let frequencies = rope("{}", 4).expect("default").inverse_frequencies(10);
        assert_eq!(frequencies, [1.0, 0.01]);
        let halved = rope(r#"{"rope_scaling": {"type": "linear", "factor": 2}}"#, 4)
            .expect("linear")
            .inverse_frequencies(10);
        assert_eq!(halved, [0.5, 0.005]);
    }

    /// The rotating pairs are the first of the whole head's, in families that rotate whole heads.
    #[test]
    fn a_proportional_share_rotates_some_pairs() {
        let of = |more: &str| {
            rope(
                &format!(r#"{{"rope_scaling": {{"rope_type": "proportional"{more}}}}}"#),
                8,
            )
        };
        let half = of(r#", "partial_rotary_factor": 0.5"#).expect("proportional");
        assert_eq!(half.dims, 8);
        assert_eq!(half.inverse_frequencies(10), [1.0, 0.1, 0.0, 0.0]);
        let scaled = of(r#", "partial_rotary_factor": 0.7, "factor": 2"#).expect("scaled");
        assert_eq!(scaled.inverse_frequencies(10), [0.5, 0.05, 0.0, 0.0]);
        let whole = of("").expect("all of it");
        let plain = rope("{}", 8).expect("default");
        assert_eq!(whole.inverse_frequencies(10), plain.inverse_frequencies(10));
        assert!(of(r#", "factor": 0"#).is_err());
    }

    #[test]
    fn dynamic_changes_only_beyond_the_original_length() {
        let dynamic = rope(
            r#"{"rope_scaling": {"rope_type": "dynamic", "factor": 4}}"#,
            8,
        )
        .expect("dynamic");
        let plain = rope("{}", 8).expect("default");
        assert_eq!(
            dynamic.inverse_frequencies(32),
            plain.inverse_frequencies(32)
        );
        assert!(dynamic.inverse_frequencies(64)[1] < plain.inverse_frequencies(64)[1]);
    }

    #[test]
    fn unknown_scaling_and_odd_dims_are_refused_by_name() {
        let error = rope(r#"{"rope_scaling": {"type": "new"}}"#, 8).expect_err("unknown");
        assert!(error.to_string().contains("`new`"));
        assert!(rope("{}", 7).is_err());
        assert!(rope(r#"{"rope_scaling": {"type": "linear"}}"#, 8).is_err());
        let by_layer = r#"{"rope_parameters": {"full_attention": {"rope_theta": 50}}}"#;
        let message = rope(by_layer, 8).expect_err("by layer").to_string();
        assert!(message.contains("full_attention"), "{message}");
    }
}
