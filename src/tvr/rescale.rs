//! The formula, and its one rounding.
#![forbid(unsafe_code)]

use half::{bf16, f16, slice::HalfFloatSliceExt};

use super::moments::Moments;
use crate::{backend::cpu::simd::vectorise, model::dtype::DType};

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

    #[inline(always)]
    fn formula(self, value: f32) -> f64 {
        (f64::from(value) - self.mean) / self.std * self.target + self.mean
    }

    /// Replaces `values` by what `dtype` stores of the results, which float32 holds exactly.
    pub(super) fn apply(self, values: &mut [f32], dtype: DType) {
        vectorise(|| match dtype {
            DType::Float32 => {
                for value in &mut *values {
                    *value = self.formula(*value) as f32;
                }
            }
            DType::BFloat16 => {
                for value in &mut *values {
                    *value = bfloat16(to_odd(self.formula(*value)));
                }
            }
            DType::Float16 => {
                for value in &mut *values {
                    *value = to_odd(self.formula(*value));
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
}

/// Stores values that `dtype` holds exactly, little-endian.
pub(super) fn store(values: &[f32], dtype: DType, bytes: &mut [u8]) {
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
