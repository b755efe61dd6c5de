//! Rotary position embeddings: inverse frequencies and their scalings.
//!
//! Source of every formula: transformers `modeling_rope_utils.py`. Frequencies and angles are
//! rounded to float32 where transformers rounds them, because at position 4,000 the rounding of
//! an angle is already 1e-4.
#![forbid(unsafe_code)]

use super::config::Config;
use crate::error::{Error, Result};

/// One rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Rotated dimensions of each head (the first ones).
    pub dims: usize,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// Change of the frequencies for contexts longer than pre-training's.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All positions divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Base grows with the sequence beyond `original` positions (dynamic NTK).
    Dynamic {
        /// Growth factor.
        factor: f64,
        /// Positions of pre-training.
        original: usize,
    },
    /// Wavelength-dependent interpolation of Llama 3.1.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Below this share of `original`, a wavelength is long.
        low: f64,
        /// Above this share of `original`, a wavelength is short.
        high: f64,
        /// Positions of pre-training.
        original: usize,
    },
    /// Interpolates slow dimensions and leaves fast ones (YaRN, Peng et al. 2023).
    Yarn {
        /// Divisor of interpolated frequencies.
        factor: f64,
        /// Factor on cosines and sines.
        attention: f64,
        /// Pair index below which nothing is interpolated.
        low: f64,
        /// Pair index above which everything is interpolated.
        high: f64,
    },
}

impl Rope {
    /// Reads either config style: `rope_theta` with `rope_scaling`, or `rope_parameters`.
    pub fn from_config(config: &Config, dims: usize, max_positions: usize) -> Result<Self> {
        if dims == 0 || !dims.is_multiple_of(2) {
            return Err(Error::new(
                "config.json",
                format!("rotary embedding over {dims} dimensions; it must be even"),
            )
            .remedy("check head_dim, hidden_size and num_attention_heads"));
        }
        let parameters = config.section("rope_parameters")?;
        let scaling = match &parameters {
            Some(section) => Some(section.clone()),
            None => config.section("rope_scaling")?,
        };
        let theta = match &parameters {
            Some(section) => {
                section.number_or("rope_theta", config.number_or("rope_theta", 1e4)?)?
            }
            None => config.number_or("rope_theta", 1e4)?,
        };
        if theta <= 0.0 {
            return Err(Error::new(
                "config.json",
                format!("`rope_theta` is {theta}, expected a positive number"),
            )
            .remedy("the file is damaged; download it again"));
        }
        Ok(Self {
            theta,
            dims,
            scaling: match scaling {
                Some(section) => RopeScaling::from_section(&section, theta, dims, max_positions)?,
                None => RopeScaling::Default,
            },
        })
    }

    /// Whether the table depends on the length of the sequence.
    pub fn depends_on_length(&self) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. })
    }

    /// Angular step per position for each of the `dims / 2` pairs, for a sequence of `length`.
    pub fn inverse_frequencies(&self, length: usize) -> Vec<f32> {
        let mut base = self.theta;
        if let RopeScaling::Dynamic { factor, original } = self.scaling {
            let (length, original, dims) = (
                length.max(original) as f64,
                original as f64,
                self.dims as f64,
            );
            base *= ((factor * length / original) - (factor - 1.0)).powf(dims / (dims - 2.0));
        }
        (0..self.dims)
            .step_by(2)
            .map(|index| {
                let exponent = index as f32 / self.dims as f32;
                1.0 / (base.powf(f64::from(exponent)) as f32)
            })
            .enumerate()
            .map(|(pair, frequency)| self.scale(pair, frequency))
            .collect()
    }

    fn scale(&self, pair: usize, frequency: f32) -> f32 {
        match self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => frequency,
            RopeScaling::Linear { factor } => frequency / factor as f32,
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let original = original as f32;
                let (factor, low, high) = (factor as f32, low as f32, high as f32);
                let wavelength = 2.0 * std::f32::consts::PI / frequency;
                if wavelength > original / low {
                    frequency / factor
                } else if wavelength < original / high {
                    frequency
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
            RopeScaling::Yarn {
                factor, low, high, ..
            } => {
                let width = if low == high { 0.001 } else { high - low };
                let kept = 1.0 - ((pair as f64 - low) / width).clamp(0.0, 1.0) as f32;
                frequency / factor as f32 * (1.0 - kept) + frequency * kept
            }
        }
    }

    /// Cosines and sines, each `[length, dims / 2]`, for positions `0..length`.
    pub fn table(&self, length: usize) -> RopeTable {
        let frequencies = self.inverse_frequencies(length);
        let factor = match self.scaling {
            RopeScaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        };
        let mut cos = Vec::with_capacity(length * frequencies.len());
        let mut sin = Vec::with_capacity(length * frequencies.len());
        for position in 0..length {
            for frequency in &frequencies {
                let angle = f64::from(position as f32 * frequency);
                cos.push((angle.cos() * factor) as f32);
                sin.push((angle.sin() * factor) as f32);
            }
        }
        RopeTable {
            pairs: frequencies.len(),
            cos,
            sin,
        }
    }
}

/// Precomputed rotations of one sequence length.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// Pairs rotated per head.
    pub pairs: usize,
    /// `[length, pairs]`.
    pub cos: Vec<f32>,
    /// `[length, pairs]`.
    pub sin: Vec<f32>,
}

impl RopeScaling {
    fn from_section(
        section: &Config,
        theta: f64,
        dims: usize,
        max_positions: usize,
    ) -> Result<Self> {
        // Older configs say `type`, newer ones `rope_type`.
        let kind = section.text_or("rope_type", section.text_or("type", "default")?)?;
        let factor = || {
            let factor = section.number_or("factor", f64::NAN)?;
            if factor.is_nan() || factor <= 0.0 {
                return Err(Error::new(
                    "config.json",
                    format!("rope scaling `{kind}` needs a positive `factor`"),
                )
                .remedy("the file is damaged; download it again"));
            }
            Ok(factor)
        };
        let original = || section.size_or("original_max_position_embeddings", max_positions);
        match kind {
            "default" => Ok(Self::Default),
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
                let factor = section.number_or("factor", max_positions as f64 / original as f64)?;
                Ok(yarn(section, factor, theta, dims, original)?)
            }
            other => Err(Error::new(
                "config.json",
                format!("rope scaling `{other}` is not one that massact computes"),
            )
            .remedy("run `massact models` for what is supported")),
        }
    }
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
        section.number_or("mscale", 0.0)?,
        section.number_or("mscale_all_dim", 0.0)?,
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
    let mut low = pair(section.number_or("beta_fast", 32.0)?);
    let mut high = pair(section.number_or("beta_slow", 1.0)?);
    if section.flag_or("truncate", true)? {
        (low, high) = (low.floor(), high.ceil());
    }
    Ok(RopeScaling::Yarn {
        factor,
        attention: section.number_or("attention_factor", attention)?,
        low: low.max(0.0),
        high: high.min(dims as f64 - 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(json: &str, dims: usize) -> Result<Rope> {
        Rope::from_config(&Config::parse(json.as_bytes())?, dims, 32)
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
    fn frequencies_fall_geometrically() {
        let frequencies = rope("{}", 4).expect("default").inverse_frequencies(10);
        assert_eq!(frequencies, [1.0, 0.01]);
        let halved = rope(r#"{"rope_scaling": {"type": "linear", "factor": 2}}"#, 4)
            .expect("linear")
            .inverse_frequencies(10);
        assert_eq!(halved, [0.5, 0.005]);
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
        let error = rope(r#"{"rope_scaling": {"type": "su"}}"#, 8).expect_err("unknown");
        assert!(error.to_string().contains("`su`"));
        assert!(rope("{}", 7).is_err());
        assert!(rope(r#"{"rope_scaling": {"type": "linear"}}"#, 8).is_err());
    }
}
