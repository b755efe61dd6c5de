//! When a measured number agrees with a published one.
//!
//! The published runs computed in bfloat16, with 8 significant bits: a value is off by up to 2^-9, one
//! in 512, each time it is rounded.
//!
//! - A massive activation is a product of a few rounded numbers, and was rounded again when it was
//!   averaged and printed: half a dozen roundings stay within 3 %.
//! - Logits of 8 to 32 are rounded to sixteenths or eighths. That averages out but for its second order,
//!   and moves a mean NLL by less than 0.01 nats; twice that is 2 % of a perplexity.
//! - Where an intervention breaks a model, or it was broken before, the smallest difference grows from
//!   layer to layer. Only the order of magnitude can agree: a factor of 10 either way.

use crate::experiments::intervention_analysis::Impact;

/// Of massive activations, relative.
pub(super) const MAGNITUDE: f64 = 0.03;
/// Of perplexities, relative.
pub(super) const PERPLEXITY: f64 = 0.02;
/// Of perplexities of broken models, a factor.
pub(super) const BROKEN: f64 = 10.0;

/// Perplexity over the original's from which an intervention breaks a model: the least of a medium
/// impact.
const BROKEN_FROM_RATIO: f64 = Impact::MEDIUM_FROM;
/// Perplexity from which a model is broken.
const BROKEN_FROM: f64 = 1000.0;

/// How two perplexities are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Relative.
    Close,
    /// In orders of magnitude.
    Magnitude,
}

impl Scale {
    /// By the published perplexity and the original's beside it.
    pub(super) fn of(published: f64, original: f64) -> Self {
        if published >= BROKEN_FROM || published >= BROKEN_FROM_RATIO * original {
            Self::Magnitude
        } else {
            Self::Close
        }
    }

    pub(super) fn agrees(self, measured: f64, published: f64) -> bool {
        match self {
            Self::Close => relative(measured, published, PERPLEXITY),
            Self::Magnitude => (1.0 / BROKEN..=BROKEN).contains(&(measured / published)),
        }
    }

    /// In words.
    pub(super) fn text(self) -> String {
        match self {
            Self::Close => percent(PERPLEXITY),
            Self::Magnitude => format!("a factor of {BROKEN}"),
        }
    }
}

/// Whether a number differs by a share of the published one at most.
pub(super) fn relative(measured: f64, published: f64, share: f64) -> bool {
    (measured - published).abs() <= share * published.abs()
}

/// `2 %`
pub(super) fn percent(share: f64) -> String {
    format!("{} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_or_of_one_magnitude() {
        // Llama-2-7B: original, a mean, zero.
        assert_eq!(Scale::of(5.133, 5.133), Scale::Close);
        assert_eq!(Scale::of(5.137, 5.133), Scale::Close);
        assert_eq!(Scale::of(8977.0, 5.133), Scale::Magnitude);
        // Gemma-7B without BOS is broken as it is.
        assert_eq!(Scale::of(3e8, 3e8), Scale::Magnitude);
        assert!(Scale::Close.agrees(5.2, 5.133));
        assert!(!Scale::Close.agrees(5.25, 5.133));
        assert!(Scale::Magnitude.agrees(900.0, 8977.0));
        assert!(!Scale::Magnitude.agrees(800.0, 8977.0));
        assert!(!Scale::Magnitude.agrees(f64::INFINITY, 8977.0));
        assert_eq!(
            (percent(MAGNITUDE).as_str(), Scale::Close.text().as_str()),
            ("3 %", "2 %")
        );
    }
}
