//! Attention with linear biases (ALiBi, Press et al. 2022).
#![forbid(unsafe_code)]

use std::ops::Range;

use half::bf16;

/// A bias on the attention logits that grows with the key's position.
///
/// Conventions differ by a constant per row, which softmax does not see but captured logits do.
#[derive(Debug, Clone, PartialEq)]
pub struct Alibi {
    /// One slope per query head.
    pub slopes: Vec<f32>,
    /// Counts positions from the last key, which has 0, rather than from the first.
    pub from_last: bool,
    /// Slope and product are rounded to bfloat16.
    pub bfloat16: bool,
    /// Factor on the bias.
    pub factor: f32,
}

impl Alibi {
    /// Slopes `2^(-8 i / n)` for the largest power of two `n` in `heads`; the heads beyond it take
    /// every other slope of `2n`. The powers are taken of a rounded base (transformers
    /// `modeling_bloom.py`).
    pub fn new(heads: usize) -> Self {
        Self::with_slopes(heads, |count, index| {
            let base = (-8.0 / count as f64).exp2() as f32;
            f64::from(base).powi(index as i32) as f32
        })
    }

    /// The same slopes without rounding in between (transformers `modeling_mpt.py`).
    pub fn exact(heads: usize) -> Self {
        Self::with_slopes(heads, |count, index| {
            (-8.0 * index as f64 / count as f64).exp2() as f32
        })
    }

    fn with_slopes(heads: usize, slope: impl Fn(usize, usize) -> f32) -> Self {
        let power = 1 << heads.max(1).ilog2();
        let first = (1..=power).map(|index| slope(power, index));
        let beyond = (1..=2 * power)
            .step_by(2)
            .map(|index| slope(2 * power, index));
        Self {
            slopes: first.chain(beyond).take(heads).collect(),
            from_last: false,
            bfloat16: false,
            factor: 1.0,
        }
    }

    /// The slope of a head, as rounded as the model has it.
    pub fn slope(&self, head: usize) -> f32 {
        rounded(self.slopes[head], self.bfloat16)
    }

    /// The bias of some keys of a sequence of `length` in one head.
    pub fn bias(
        &self,
        head: usize,
        keys: Range<usize>,
        length: usize,
    ) -> impl Iterator<Item = f32> {
        let Self {
            from_last,
            bfloat16,
            factor,
            ..
        } = *self;
        let round = move |value| rounded(value, bfloat16);
        let slope = self.slope(head);
        keys.map(move |key| {
            let position = if from_last {
                key as f32 - (length - 1) as f32
            } else {
                // A bfloat16 product rounds its position first.
                round(key as f32)
            };
            factor * round(slope * position)
        })
    }
}

fn rounded(value: f32, to_bfloat16: bool) -> f32 {
    if to_bfloat16 {
        bf16::from_f32(value).to_f32()
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_beyond_a_power_of_two() {
        let alibi = Alibi::new(6);
        assert_eq!(alibi.slopes[..4], [0.25, 0.0625, 0.015_625, 0.003_906_25]);
        assert_eq!(alibi.slopes[4..], [0.5, 0.125]);
        assert_eq!(
            alibi.bias(0, 0..3, 9).collect::<Vec<_>>(),
            [0.0, 0.25, 0.5],
            "from the first key"
        );
    }
}
