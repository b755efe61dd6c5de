//! Reproducible values that a type holds.

use half::{bf16, f16};

use crate::model::dtype::DType;

/// `count` values in -1..1.
pub(super) fn noise(count: usize, seed: u32, dtype: DType) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        // Numerical Recipes' linear congruential generator.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        rounded((state >> 8) as f32 / (1 << 23) as f32 - 1.0, dtype)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// `count` bytes of any value.
pub(super) fn bytes(count: usize, seed: u32) -> Vec<u8> {
    let values = noise(count, seed, DType::Float32).into_iter();
    values.map(|value| (value * 128.0 + 128.0) as u8).collect()
}

/// The value that is left of `x` in a type.
pub(super) fn rounded(x: f32, dtype: DType) -> f32 {
    match dtype {
        DType::Float32 => x,
        DType::BFloat16 => bf16::from_f32(x).to_f32(),
        DType::Float16 => f16::from_f32(x).to_f32(),
    }
}

/// What rounding a result to the type makes of it at most, with float32's rounding before it.
pub(super) fn rounding(dtype: DType) -> f64 {
    let own = match dtype {
        DType::Float32 => 0.0,
        DType::BFloat16 => 1.0 / 256.0,
        DType::Float16 => 1.0 / 2048.0,
    };
    own + 1e-5
}
