//! Moments of stored tensors, and rescaling with one rounding.
#![forbid(unsafe_code)]

use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use super::{Cpu, simd::vectorise};
use crate::{
    backend::{Moments, Rescaling, StoredTensors, stored::CHUNK},
    error::Result,
    interrupt,
    model::{dtype::DType, weights::Elements},
};

/// Partial sums kept side by side, so that the loop vectorises and its order is fixed.
const LANES: usize = 16;
/// Values that are summed before their sum joins the others.
const BLOCK: usize = 128 * LANES;

impl StoredTensors for Cpu {
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>> {
        of_chunks(elements, |values| {
            if let Some(change) = change {
                apply(change, values, elements.dtype);
            }
        })
    }

    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()> {
        let (dtype, size) = (elements.dtype, elements.dtype.size());
        out.par_chunks_mut(CHUNK * size)
            .zip(elements.bytes.par_chunks(CHUNK * size))
            .for_each_init(
                || vec![0.0f32; CHUNK],
                |values, (out, bytes)| {
                    let values = &mut values[..bytes.len() / size];
                    Elements { dtype, bytes }.write_f32(values);
                    apply(change, values, dtype);
                    store(values, dtype, out);
                },
            );
        Ok(())
    }
}

/// Moments of each chunk of the stored values, after a change.
fn of_chunks(elements: Elements<'_>, change: impl Fn(&mut [f32]) + Sync) -> Result<Vec<Moments>> {
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
                of_values(values)
            },
        )
        .collect();
    interrupt::check()?;
    Ok(chunks)
}

fn of_values(values: &[f32]) -> Moments {
    let count = values.len() as f64;
    let (mut mean, mut squares, mut min, mut max) = (0.0, 0.0, f64::INFINITY, -f64::INFINITY);
    vectorise(|| {
        let about = sum(values, |value| value) / count;
        let rest = sum(values, |value| value - about);
        mean = about + rest / count;
        squares = sum(values, |value| (value - about) * (value - about)) - rest * rest / count;
        (min, max) = extremes(values);
    });
    Moments {
        count: values.len(),
        mean,
        squares: squares.max(0.0),
        min,
        max,
    }
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

#[inline(always)]
fn formula(by: Rescaling, value: f32) -> f64 {
    (f64::from(value) - by.mean) / by.std * by.target + by.mean
}

/// Replaces `values` by what `dtype` stores of the results, which float32 holds exactly.
fn apply(by: Rescaling, values: &mut [f32], dtype: DType) {
    vectorise(|| match dtype {
        DType::Float32 => {
            for value in &mut *values {
                *value = formula(by, *value) as f32;
            }
        }
        DType::BFloat16 => {
            for value in &mut *values {
                *value = bfloat16(to_odd(formula(by, *value)));
            }
        }
        DType::Float16 => {
            for value in &mut *values {
                *value = to_odd(formula(by, *value));
            }
        }
    });
    if dtype == DType::Float16 {
        let mut halves = [f16::ZERO; 512];
        for part in values.chunks_mut(halves.len()) {
            // The slice conversions use the processor's half-precision instructions.
            let halves = &mut halves[..part.len()];
            halves.convert_from_f32_slice(part);
            halves.convert_to_f32_slice(part);
        }
    }
}

/// Stores values that `dtype` holds exactly, little-endian.
fn store(values: &[f32], dtype: DType, bytes: &mut [u8]) {
    match dtype {
        DType::Float32 => {
            for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
        }
        DType::BFloat16 => {
            for (bytes, value) in bytes.chunks_exact_mut(2).zip(values) {
                bytes.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
        DType::Float16 => {
            for (bytes, value) in bytes.chunks_exact_mut(2).zip(values) {
                bytes.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// A float64 as float32, rounded to odd: what does not fit takes the neighbour whose last bit is
/// set. Rounding that to a format with at least two bits less gives what rounding the float64
/// directly would (Boldo and Melquiond, "When double rounding is odd", 2005); by way of the nearest
/// float32 it would be rounded twice.
#[inline(always)]
fn to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = f64::from(nearest);
    // Toward zero, then odd. Infinity, when the value is finite, becomes the largest float32.
    let beyond = u32::from(back.abs() > value.abs());
    let inexact = u32::from(back != value);
    f32::from_bits((nearest.to_bits() - beyond) | inexact)
}

/// The nearest bfloat16, ties to even, for any number but NaN.
#[inline(always)]
fn bfloat16(value: f32) -> f32 {
    let bits = value.to_bits();
    let up = 0x7fff + ((bits >> 16) & 1);
    f32::from_bits(bits.wrapping_add(up) & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    /// The nearest of all values of a 16-bit format by search; ties to the even code.
    fn nearest(value: f64, decode: impl Fn(u16) -> f64) -> f64 {
        let magnitude = value.abs();
        let infinity = (0..0x7fff)
            .find(|code| decode(*code).is_infinite())
            .expect("one");
        let (mut low, mut high) = (0u16, infinity);
        // Codes of positive values are in order.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if decode(middle) <= magnitude {
                low = middle;
            } else {
                high = middle;
            }
        }
        // Beyond the largest number the next one would be, had the format one more exponent.
        let above = if high == infinity {
            2.0 * decode(low) - decode(low - 1)
        } else {
            decode(high)
        };
        let (down, up) = (magnitude - decode(low), above - magnitude);
        let code = if down < up || (down == up && low % 2 == 0) {
            low
        } else {
            high
        };
        decode(code).copysign(value)
    }

    fn of_bf16(code: u16) -> f64 {
        bf16::from_bits(code).to_f64()
    }

    fn of_f16(code: u16) -> f64 {
        f16::from_bits(code).to_f64()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Values close to the middle between two neighbours are where rounding twice goes wrong.
        #[test]
        fn rounds_once(code in 0u16..0x7c00, side in -3i32..=3, far in 30i32..52, negative: bool) {
            let sign = if negative { -1.0 } else { 1.0 };
            for (dtype, decode, last) in [
                (DType::BFloat16, of_bf16 as fn(u16) -> f64, 0x7f7f),
                (DType::Float16, of_f16 as fn(u16) -> f64, 0x7bff),
            ] {
                let code = code.min(last - 1);
                let (low, high) = (decode(code), decode(code + 1));
                let middle = f64::midpoint(low, high);
                let value = sign * (middle + f64::from(side) * middle * f64::from(-far).exp2());
                let half = match dtype {
                    DType::BFloat16 => f64::from(bfloat16(to_odd(value))),
                    _ => f16::from_f32(to_odd(value)).to_f64(),
                };
                prop_assert_eq!(half, nearest(value, decode), "{:?} {:e}", dtype, value);
            }
        }

        #[test]
        fn what_a_format_holds_stays(code in 0u16..0x7c00) {
            let values = [of_bf16(code) as f32, of_f16(code) as f32];
            prop_assert_eq!(bfloat16(to_odd(f64::from(values[0]))), values[0]);
            prop_assert_eq!(f16::from_f32(to_odd(f64::from(values[1]))).to_f32(), values[1]);
        }
    }
}
