//! Perplexity, and how much an intervention changes it.
#![forbid(unsafe_code)]

use serde::Serialize;

use crate::{data::mt19937::Mt19937, error::Result};

/// Bootstrap resamples.
const RESAMPLES: usize = 10_000;
/// A 95 % interval: what lies outside on either side.
const TAIL: f64 = 0.025;

/// The impact of an intervention by the ratio of perplexities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Impact {
    /// Below 1.5.
    None,
    /// From 1.5 to below 100.
    Medium,
    /// 100 and more.
    High,
}

impl Impact {
    /// The least ratio of a medium impact.
    pub const MEDIUM_FROM: f64 = 1.5;
    /// The least ratio of a high impact.
    pub const HIGH_FROM: f64 = 100.0;

    fn of(ratio: f64) -> Self {
        if ratio < Self::MEDIUM_FROM {
            Self::None
        } else if ratio < Self::HIGH_FROM {
            Self::Medium
        } else {
            Self::High
        }
    }

    /// As a table shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Perplexity under an intervention over the original's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// The ratio; null beyond the range of double precision.
    pub ratio: Option<f64>,
    /// Lower end of the 95 % interval; null for a single window.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// What it means.
    pub class: Impact,
}

/// `exp` of the mean of the windows' mean NLLs; null beyond the range of double precision.
pub(super) fn perplexity(nll: &[f64]) -> Option<f64> {
    finite(mean(nll).exp())
}

/// The mean of the windows' mean NLLs.
pub(super) fn mean(nll: &[f64]) -> f64 {
    nll.iter().sum::<f64>() / nll.len().max(1) as f64
}

/// `exp(mean(changed - original))` over the windows. The interval is the percentile bootstrap's:
/// the windows are drawn with replacement, both NLLs of a window together.
pub(super) fn ratio(original: &[f64], changed: &[f64], seed: u64) -> Result<Ratio> {
    let differences: Vec<f64> = changed.iter().zip(original).map(|(c, o)| c - o).collect();
    let ratio = mean(&differences).exp();
    let (low, high) = match interval(&differences, seed)? {
        Some((low, high)) => (finite(low.exp()), finite(high.exp())),
        None => (None, None),
    };
    Ok(Ratio {
        ratio: finite(ratio),
        low,
        high,
        class: Impact::of(ratio),
    })
}

/// The interval of the mean. The same seed draws the same windows, for every intervention.
fn interval(values: &[f64], seed: u64) -> Result<Option<(f64, f64)>> {
    if values.len() < 2 {
        return Ok(None);
    }
    let mut random = Mt19937::new(seed);
    let last = values.len() as u64 - 1;
    let mut means = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        crate::interrupt::check()?;
        let drawn = values
            .iter()
            .map(|_| values[random.interval(last) as usize]);
        means.push(drawn.sum::<f64>() / values.len() as f64);
    }
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Ok(Some((at(TAIL), at(1.0 - TAIL))))
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for (ratio, class) in [
            (0.9, Impact::None),
            (1.499, Impact::None),
            (1.5, Impact::Medium),
            (99.9, Impact::Medium),
            (100.0, Impact::High),
            (f64::INFINITY, Impact::High),
        ] {
            assert_eq!(Impact::of(ratio), class, "{ratio}");
        }
    }

    #[test]
    fn perplexity_is_of_the_mean() {
        let found = perplexity(&[1.0, 3.0]).expect("finite");
        assert!((found - 2f64.exp()).abs() < 1e-12);
        assert_eq!(perplexity(&[800.0]), None);
    }

    #[test]
    fn no_change_has_no_spread() {
        let nll = [2.0, 5.0, 3.5];
        let found = ratio(&nll, &nll, 1).expect("not interrupted");
        assert_eq!(
            (found.ratio, found.low, found.high),
            (Some(1.0), Some(1.0), Some(1.0))
        );
        let single = ratio(&[2.0], &[3.0], 1).expect("not interrupted");
        assert_eq!((single.low, single.high), (None, None));
    }

    /// Of two windows a resample has the first never, once or twice, with chances 1/4, 1/2, 1/4; of
    /// many normal differences the interval is close to mean -+ 1.96 standard errors.
    #[test]
    fn the_interval_is_the_bootstraps() {
        let found = interval(&[0.0, 1.0], 7).expect("not interrupted");
        assert_eq!(found, Some((0.0, 1.0)));
        // Sums of twelve uniforms: normal with variance 1.
        let mut random = Mt19937::new(3);
        let mut uniform = || f64::from(random.next_u32()) / f64::from(u32::MAX);
        let values: Vec<f64> = (0..400)
            .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
            .collect();
        let centre = mean(&values);
        let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
        let error = (squares / 399.0 / 400.0).sqrt();
        let (low, high) = interval(&values, 7)
            .expect("not interrupted")
            .expect("two ends");
        for (end, expected) in [(low, -1.96), (high, 1.96)] {
            assert!(((end - centre) / error - expected).abs() < 0.15, "{end}");
        }
    }
}
