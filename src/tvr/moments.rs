//! Mean and standard deviation of a stored tensor in float64.
//!
//! The tensor is cut into chunks of fixed size; each chunk gets its mean and its sum of squared
//! deviations in two passes (with the correction of Chan, Golub and LeVeque, 1983), and the chunks
//! are joined in a fixed order by the formula of the same authors. So the result depends neither on the
//! number of threads nor on the processor, and large means cost no digits.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use crate::{
    backend::{cpu::simd::vectorise, cuda::ChunkMoments},
    error::Result,
    interrupt,
    model::weights::Elements,
};

/// Values a thread reads at a time; half a megabyte in float32 stays in the second-level cache.
pub(super) const CHUNK: usize = 1 << 16;
/// Partial sums kept side by side, so that the loop vectorises and its order is fixed.
const LANES: usize = 16;
/// Values that are summed before their sum joins the others.
const BLOCK: usize = 128 * LANES;

/// The first two moments of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    count: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
    min: f64,
    max: f64,
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
    pub(super) fn is_finite(&self) -> bool {
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

    /// Of `count` values, as a card found them.
    pub(super) fn of_chunk(count: usize, found: ChunkMoments) -> Self {
        Self {
            count,
            mean: found.mean,
            squares: found.squares,
            min: found.min,
            max: found.max,
        }
    }

    fn of_values(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let (mut mean, mut squares, mut min, mut max) = (0.0, 0.0, f64::INFINITY, -f64::INFINITY);
        vectorise(|| {
            let about = sum(values, |value| value) / count;
            let rest = sum(values, |value| value - about);
            mean = about + rest / count;
            squares = sum(values, |value| (value - about) * (value - about)) - rest * rest / count;
            (min, max) = extremes(values);
        });
        Self {
            count: values.len(),
            mean,
            squares: squares.max(0.0),
            min,
            max,
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

    const NONE: Self = Self {
        count: 0,
        mean: 0.0,
        squares: 0.0,
        min: f64::INFINITY,
        max: -f64::INFINITY,
    };
}

/// Moments of each chunk of the stored values, after a change.
pub(super) fn of_chunks(
    elements: Elements<'_>,
    change: impl Fn(&mut [f32]) + Sync,
) -> Result<Vec<Moments>> {
    let length = elements.len();
    let chunks: Vec<Moments> = (0..length.div_ceil(CHUNK))
        .into_par_iter()
        .map_init(
            || vec![0.0f32; CHUNK],
            |buffer, index| {
                // The whole is thrown away below.
                if interrupt::requested() {
                    return Moments::NONE;
                }
                let start = index * CHUNK;
                let end = (start + CHUNK).min(length);
                let values = &mut buffer[..end - start];
                elements.slice(start, end).write_f32(values);
                change(values);
                Moments::of_values(values)
            },
        )
        .collect();
    interrupt::check()?;
    Ok(chunks)
}

/// The sum of the terms: first of blocks, so that few terms meet a large partial sum.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let mut lanes = [0.0f64; LANES];
        let (rows, rest) = block.as_chunks::<LANES>();
        for row in rows {
            for (lane, value) in lanes.iter_mut().zip(row) {
                *lane += term(f64::from(*value));
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane += term(f64::from(*value));
        }
        total += lanes.iter().sum::<f64>();
    }
    total
}

#[inline(always)]
fn extremes(values: &[f32]) -> (f64, f64) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [-f32::INFINITY; LANES]);
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for ((low, high), value) in low.iter_mut().zip(&mut high).zip(block) {
            *low = if *value < *low { *value } else { *low };
            *high = if *value > *high { *value } else { *high };
        }
    }
    (
        low.into_iter()
            .fold(f64::INFINITY, |low, value| low.min(f64::from(value))),
        high.into_iter()
            .fold(-f64::INFINITY, |high, value| high.max(f64::from(value))),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::dtype::DType;

    fn moments(values: &[f32]) -> Moments {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let elements = Elements {
            dtype: DType::Float32,
            bytes: &bytes,
        };
        let chunks = of_chunks(elements, |_| {}).expect("not interrupted");
        Moments::join_all(&chunks)
    }

    /// Sums of float32 values times a power of two in 128-bit integers: exact.
    fn exact(values: &[i32]) -> (f64, f64) {
        let count = values.len() as i128;
        let sum: i128 = values.iter().map(|value| i128::from(*value)).sum();
        let squares: i128 = values.iter().map(|value| i128::from(*value).pow(2)).sum();
        let spread = count * squares - sum * sum;
        let std = (spread as f64 / count as f64 / (count - 1) as f64).sqrt();
        (sum as f64 / count as f64, std)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        /// Far from zero, where the textbook formula loses everything.
        #[test]
        fn agrees_with_exact_integers(
            offset in -8_000_000i32..8_000_000,
            small in proptest::collection::vec(-1000i32..1000, 2..300),
            repeat in 1usize..900,
        ) {
            let integers: Vec<i32> = small.iter().cycle().take(small.len() * repeat)
                .map(|value| value + offset).collect();
            // Whole numbers below 2^24 are exact in float32.
            let values: Vec<f32> = integers.iter().map(|value| *value as f32).collect();
            let (found, (mean, std)) = (moments(&values), exact(&integers));
            prop_assert!((found.mean - mean).abs() <= 4e-15 * (mean.abs() + std), "{} {mean}", found.mean);
            prop_assert!((found.std() - std).abs() <= 1e-14 * std, "{} {std}", found.std());
        }
    }

    #[test]
    fn equal_values_have_no_spread() {
        assert_eq!(moments(&vec![0.1; 3 * CHUNK + 7]).std(), 0.0);
        assert_eq!(moments(&[5.0]).std(), 0.0);
        assert_eq!(moments(&[1.0, 2.0]).std(), 0.5f64.sqrt());
    }

    #[test]
    fn what_is_no_number_shows_wherever_it_is() {
        for bad in [f32::NAN, f32::INFINITY, -f32::INFINITY] {
            for place in [0, 17, CHUNK, CHUNK + 100] {
                let mut values = vec![1.0; CHUNK + 101];
                values[place] = bad;
                assert!(!moments(&values).is_finite(), "{bad} at {place}");
            }
        }
        assert!(moments(&[f32::MAX, -f32::MAX, f32::MAX]).is_finite());
    }
}
