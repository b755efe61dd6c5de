//! The distribution of a tensor's values: moments, quantiles, outliers, and what eight bits make of it.
#![forbid(unsafe_code)]

use super::{Entry, Rows, Tensors};
use crate::error::Result;

/// The quantiles of |x| that a profile holds.
pub const QUANTILES: [f64; 6] = [0.25, 0.5, 0.75, 0.9, 0.99, 0.999];
/// The place in [`QUANTILES`] of the one at which the clipped eight bits end.
pub(super) const CLIPPED_AT: usize = 5;
/// A value is large for its token if it is above this times the root mean square of the token's values.
pub const LARGE: f64 = 5.0;
/// Bins of a profile's histogram of |x|: eight to a factor of two from 2^-32 to 2^32.
pub const HISTOGRAM_BINS: usize = 512;
/// Bins to a factor of two, each as wide as the others of it.
pub const BINS_PER_OCTAVE: usize = 8;
/// The exponent of the first bin's lower edge. What is smaller, zero too, is in this bin; what is larger
/// than the last bin's upper edge in that one.
pub const LOWEST_EXPONENT: i32 = -32;

/// What to list in a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileRequest {
    /// Entries of largest magnitude.
    pub top_k: usize,
}

/// Number and mean of values, and the sums of the powers of their distances from the mean.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CentralMoments {
    /// How many.
    pub count: f64,
    /// Their mean.
    pub mean: f64,
    /// Sums of the second, third and fourth power.
    pub powers: [f64; 3],
}

impl CentralMoments {
    /// From the sums of (x - shift) and its powers up to the fourth. A shift near the mean keeps the
    /// digits that differences of powers lose.
    pub fn of_sums(count: usize, shift: f64, [first, second, third, fourth]: [f64; 4]) -> Self {
        let count = count as f64;
        if count == 0.0 {
            return Self::default();
        }
        let d = first / count;
        Self {
            count,
            mean: shift + d,
            powers: [
                (second - d * first).max(0.0),
                third - 3.0 * d * second + 2.0 * d * d * first,
                (fourth - 4.0 * d * third + 6.0 * d * d * second - 3.0 * d * d * d * first)
                    .max(0.0),
            ],
        }
    }

    /// Of both together (Pébay, Formulas for robust, one-pass parallel computation of covariances and
    /// arbitrary-order statistical moments, 2008).
    pub fn and(&self, other: &Self) -> Self {
        if self.count == 0.0 || other.count == 0.0 {
            return if self.count == 0.0 { *other } else { *self };
        }
        let (a, b) = (self.count, other.count);
        let n = a + b;
        let d = other.mean - self.mean;
        let ([a2, a3, a4], [b2, b3, b4]) = (self.powers, other.powers);
        let second = a2 + b2 + d * d * a * b / n;
        let third =
            a3 + b3 + d.powi(3) * a * b * (a - b) / (n * n) + 3.0 * d * (a * b2 - b * a2) / n;
        let fourth = a4
            + b4
            + d.powi(4) * a * b * (a * a - a * b + b * b) / n.powi(3)
            + 6.0 * d * d * (a * a * b2 + b * b * a2) / (n * n)
            + 4.0 * d * (a * b3 - b * a3) / n;
        Self {
            count: n,
            mean: self.mean + d * b / n,
            powers: [second, third, fourth],
        }
    }

    /// The sum of the squares.
    pub fn squares(&self) -> f64 {
        self.powers[0] + self.count * self.mean * self.mean
    }

    /// The standard deviation of these values, not of what they might be a sample of.
    pub fn std(&self) -> f64 {
        (self.powers[0] / self.count.max(1.0)).sqrt()
    }

    /// The root mean square.
    pub fn rms(&self) -> f64 {
        (self.squares() / self.count.max(1.0)).sqrt()
    }

    /// The fourth central moment over the squared variance, less the normal distribution's 3; none of
    /// values that are all equal.
    pub fn excess_kurtosis(&self) -> Option<f64> {
        let [second, _, fourth] = self.powers;
        // Equal values leave the rounding of their sums.
        let varies = second > 1e-12 * self.squares();
        varies.then(|| self.count * fourth / (second * second) - 3.0)
    }
}

/// The distribution of one sequence's values at one site.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Tokens.
    pub rows: usize,
    /// Their moments.
    pub moments: CentralMoments,
    /// max |x|
    pub max: f32,
    /// The `top_k` entries of largest magnitude, descending; ties by position, then dimension.
    pub top: Vec<Entry>,
    /// Exact median of |x|: the lower of the two middle values when their count is even.
    pub median: f32,
    /// The [`QUANTILES`] of |x|, between two values by linear interpolation in float64 as in
    /// `numpy.quantile`.
    pub quantiles: [f64; QUANTILES.len()],
    /// How many |x| are in each of the [`HISTOGRAM_BINS`].
    pub histogram: Vec<u32>,
    /// The largest over tokens of max |x| over the lower median of |x|, and the first position that has
    /// it; none if every token's median is 0.
    pub token_ratio: Option<(f64, usize)>,
    /// Dimensions that are [`LARGE`] in any token, and in how many; ascending.
    pub large: Vec<(u32, u32)>,
    /// The sum of squared errors of eight bits: `s * round(x / s)`, s = max |x| / 127.
    pub int8_error: f64,
    /// As before, with s = the last of the quantiles / 127, and what is larger set to 127 s; none where
    /// that quantile is 0.
    pub int8_clipped_error: Option<f64>,
    /// Values that are infinite or not a number.
    pub non_finite: usize,
}

/// Ranks of two values among `count` ascending ones and the way from one to the other, at which the
/// quantile is.
pub(super) fn quantile_ranks(quantile: f64, count: usize) -> (usize, usize, f64) {
    let last = count.saturating_sub(1);
    let place = quantile * last as f64;
    let low = (place as usize).min(last);
    (low, (low + 1).min(last), place - low as f64)
}

/// A point between two values, rounded as `numpy.quantile` rounds it.
pub(super) fn between(low: f64, high: f64, way: f64) -> f64 {
    let distance = high - low;
    if way >= 0.5 {
        high - distance * (1.0 - way)
    } else {
        low + distance * way
    }
}

/// The bin of a magnitude, from its exponent without bias and the first three bits of its fraction.
pub(super) fn histogram_bin(exponent: i32, eighth: usize) -> usize {
    let octave = exponent - LOWEST_EXPONENT;
    match usize::try_from(octave) {
        Err(_) => 0,
        Ok(octave) => (octave * BINS_PER_OCTAVE + eighth).min(HISTOGRAM_BINS - 1),
    }
}

/// The distribution of values.
pub trait Profiles: Tensors {
    /// The profile of each sequence's rows.
    fn profile(
        &self,
        x: &Self::Tensor,
        sequences: &[Rows],
        request: &ProfileRequest,
    ) -> Result<Self::PendingProfile>;
    /// Brings profiles to the host, one per sequence.
    fn read_profiles(&self, pending: Self::PendingProfile) -> Result<Vec<Profile>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: &[f64], shift: f64) -> CentralMoments {
        let power = |p: i32| values.iter().map(|x| (x - shift).powi(p)).sum();
        CentralMoments::of_sums(values.len(), shift, [1, 2, 3, 4].map(power))
    }

    #[test]
    fn moments_of_parts_are_those_of_the_whole() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i * i % 37) + 1000.0).collect();
        let mean = values.iter().sum::<f64>() / 100.0;
        let whole = sums(&values, mean);
        let parts = sums(&values[..30], 1003.0).and(&sums(&values[30..], 1017.0));
        let parts = CentralMoments::default().and(&parts);
        assert!((whole.mean - parts.mean).abs() < 1e-9);
        for (a, b) in whole.powers.iter().zip(parts.powers) {
            assert!((a - b).abs() <= 1e-9 * a.abs().max(1.0), "{a} {b}");
        }
        let central = |p: i32| values.iter().map(|x| (x - mean).powi(p)).sum::<f64>();
        let wanted = 100.0 * central(4) / central(2).powi(2) - 3.0;
        let found = parts.excess_kurtosis().expect("they vary");
        assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        assert_eq!(sums(&[0.1; 7], 0.0).excess_kurtosis(), None);
        assert_eq!(CentralMoments::default().excess_kurtosis(), None);
    }

    #[test]
    fn quantiles_lie_between_two_values() {
        assert_eq!(quantile_ranks(0.5, 4), (1, 2, 0.5));
        assert_eq!(quantile_ranks(0.999, 1), (0, 0, 0.0));
        assert_eq!(quantile_ranks(1.0, 3), (2, 2, 0.0));
        assert_eq!(between(1.0, 3.0, 0.25), 1.5);
        assert_eq!(between(1.0, 3.0, 0.75), 2.5);
    }

    #[test]
    fn bins_of_magnitudes() {
        assert_eq!(histogram_bin(-32, 0), 0);
        assert_eq!(histogram_bin(-127, 7), 0);
        assert_eq!(histogram_bin(0, 0), 256);
        assert_eq!(histogram_bin(0, 7), 263);
        assert_eq!(histogram_bin(31, 7), 511);
        assert_eq!(histogram_bin(127, 0), 511);
    }
}
