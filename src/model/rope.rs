//! Rotary position embeddings: inverse frequencies and their scalings.
//!
//! Source of every formula: transformers `modeling_rope_utils.py`. Frequencies and angles are
//! rounded to float32 where transformers rounds them, because at position 4,000 the rounding of
//! an angle is already 1e-4.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use super::rope_config::check_dims;
use crate::error::Result;

/// One rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Rotated dimensions of each head (the first ones).
    pub dims: usize,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
    /// Whether dimension `2i` is rotated with `2i + 1` rather than `i` with `i + dims / 2`.
    pub interleaved: bool,
}

/// What a family assumes where the config is silent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeDefaults {
    /// Base.
    pub theta: f64,
    /// Share of a head that is rotated; none where the family rotates all of it and knows no such
    /// setting.
    pub partial: Option<f64>,
    /// Pairing of dimensions.
    pub interleaved: bool,
    /// Whether dynamic scaling with an `alpha` is a stretched base, whatever the length.
    pub alpha: bool,
}

impl Default for RopeDefaults {
    fn default() -> Self {
        Self {
            theta: 1e4,
            partial: None,
            interleaved: false,
            alpha: false,
        }
    }
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
    /// Only the first pairs of the whole head's series rotate (Gemma 4, 2026).
    Proportional {
        /// Pairs that rotate.
        pairs: usize,
        /// Divisor.
        factor: f64,
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
    /// A divisor per pair, one list for sequences beyond `original` positions and one for the
    /// others (LongRoPE, Ding et al. 2024).
    Long {
        /// Divisors of sequences up to `original`.
        short: Vec<f32>,
        /// Divisors of longer ones.
        long: Vec<f32>,
        /// Factor on cosines and sines of sequences up to `original`.
        attention: f64,
        /// The same of longer ones.
        long_attention: f64,
        /// Positions of pre-training.
        original: usize,
    },
}

impl Rope {
    /// Without scaling.
    pub fn plain(theta: f64, dims: usize, interleaved: bool) -> Result<Self> {
        check_dims(dims)?;
        Ok(Self {
            theta,
            dims,
            scaling: RopeScaling::Default,
            interleaved,
        })
    }

    /// Whether sequences may be longer than the configured positions: dynamic scaling is made
    /// for them.
    pub fn unlimited(&self) -> bool {
        matches!(self.scaling, RopeScaling::Dynamic { .. })
    }

    /// Whether the table depends on the length of the sequence.
    pub fn depends_on_length(&self) -> bool {
        matches!(
            self.scaling,
            RopeScaling::Dynamic { .. } | RopeScaling::Long { .. }
        )
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
                base.powf(f64::from(exponent)) as f32
            })
            .enumerate()
            .map(|(pair, power)| self.frequency(pair, power, length))
            .collect()
    }

    /// The frequency of a pair, `1 / power` without scaling.
    fn frequency(&self, pair: usize, power: f32, length: usize) -> f32 {
        let frequency = 1.0 / power;
        match &self.scaling {
            RopeScaling::Default | RopeScaling::Dynamic { .. } => frequency,
            RopeScaling::Linear { factor } => frequency / *factor as f32,
            RopeScaling::Proportional { pairs, .. } if pair >= *pairs => 0.0,
            RopeScaling::Proportional { factor, .. } => frequency / *factor as f32,
            RopeScaling::Long {
                short,
                long,
                original,
                ..
            } => {
                let divisors = if length > *original { long } else { short };
                1.0 / (divisors[pair] * power)
            }
            &RopeScaling::Llama3 {
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
            &RopeScaling::Yarn {
                factor, low, high, ..
            } => {
                let width = if low == high { 0.001 } else { high - low };
                let kept = 1.0 - ((pair as f64 - low) / width).clamp(0.0, 1.0) as f32;
                1.0 / (factor as f32 * power) * (1.0 - kept) + frequency * kept
            }
        }
    }

    /// Cosines and sines, each `[length, dims / 2]`, for positions `0..length`.
    pub fn table(&self, length: usize) -> RopeTable {
        let frequencies = self.inverse_frequencies(length);
        let factor = match self.scaling {
            RopeScaling::Long {
                long_attention,
                original,
                ..
            } if length > original => long_attention,
            RopeScaling::Yarn { attention, .. } | RopeScaling::Long { attention, .. } => attention,
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
        RopeTable::new(self.interleaved, frequencies.len(), cos, sin)
    }
}

/// Precomputed rotations of one sequence length, which never change.
#[derive(Debug)]
pub struct RopeTable {
    interleaved: bool,
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
    identity: u64,
}

impl RopeTable {
    /// Of these cosines and sines, each `[length, pairs]`.
    pub fn new(interleaved: bool, pairs: usize, cos: Vec<f32>, sin: Vec<f32>) -> Self {
        static TABLES: AtomicU64 = AtomicU64::new(0);
        Self {
            interleaved,
            pairs,
            cos,
            sin,
            identity: TABLES.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Whether dimension `2i` is rotated with `2i + 1` rather than `i` with `i + pairs`.
    pub fn interleaved(&self) -> bool {
        self.interleaved
    }

    /// Pairs rotated per head.
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// `[length, pairs]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// `[length, pairs]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }

    /// What no other table of this process has: a device knows by it what it holds already.
    pub fn identity(&self) -> u64 {
        self.identity
    }
}
