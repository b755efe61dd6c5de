//! Stored tensors: their moments, and rescaling, both in float64.
//!
//! The tensor is cut into chunks of fixed size; each chunk gets its mean and its sum of squared
//! deviations in two passes (with the correction of Chan, Golub and LeVeque, 1983), and the chunks
//! are joined in a fixed order by the formula of the same authors. So the result depends neither on the
//! number of threads nor on the processor, and large means cost no digits.
#![forbid(unsafe_code)]

use std::fmt::Debug;

use crate::{error::Result, model::weights::Elements};

/// Values of a chunk; half a megabyte in float32 stays in the second-level cache.
pub(super) const CHUNK: usize = 1 << 16;

/// The first two moments of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    pub(super) count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub(super) squares: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Moments {
    /// Standard deviation with Bessel's correction; 0 for a single value.
    pub fn std(&self) -> f64 {
        // Equal values have no spread, whatever rounding left in the sum.
        if self.count < 2 || self.min == self.max {
            return 0.0;
        }
        (self.squares / (self.count - 1) as f64).sqrt()
    }

    /// Whether all values are numbers.
    pub(crate) fn is_finite(&self) -> bool {
        self.mean.is_finite() && self.squares.is_finite()
    }

    /// Of neighbouring chunks together: in pairs of pairs, so that rounding grows with the logarithm of
    /// their number.
    pub fn join_all(parts: &[Self]) -> Self {
        match parts {
            [] => Self::NONE,
            [one] => *one,
            _ => {
                let (left, right) = parts.split_at(parts.len() / 2);
                Self::join_all(left).join(Self::join_all(right))
            }
        }
    }

    /// The moments of these values and `more` together.
    fn join(self, more: Self) -> Self {
        let (ours, theirs) = (self.count as f64, more.count as f64);
        let both = ours + theirs;
        let apart = more.mean - self.mean;
        Self {
            count: self.count + more.count,
            mean: self.mean + apart * (theirs / both),
            squares: self.squares + more.squares + apart * apart * (ours * theirs / both),
            min: self.min.min(more.min),
            max: self.max.max(more.max),
        }
    }

    pub(super) const NONE: Self = Self {
        count: 0,
        mean: 0.0,
        squares: 0.0,
        min: f64::INFINITY,
        max: -f64::INFINITY,
    };
}

/// `(x - mean) / std * target + mean`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rescaling {
    pub(super) mean: f64,
    pub(super) std: f64,
    pub(super) target: f64,
}

impl Rescaling {
    /// To the standard deviation `target`, the mean kept.
    pub fn new(moments: &Moments, target: f64) -> Self {
        Self {
            mean: moments.mean,
            std: moments.std(),
            target,
        }
    }
}

/// What target variance rescaling computes of a stored tensor. Every device computes the same bits.
pub trait StoredTensors: Debug {
    /// Moments of every 65,536 values, the last of what remains; of the values that rescaling would
    /// store, if one is given.
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>>;
    /// Stores the rescaled values in `out`, which has the size of the elements.
    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()>;
}
