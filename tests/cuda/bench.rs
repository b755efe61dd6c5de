//! Devices and numbers that the tests share.

use half::{bf16, f16};
use massact::{
    backend::{Precision, cuda::Cuda},
    model::dtype::DType,
};
use massact_emulator::{Emulator, Order};

pub(crate) const DTYPES: [DType; 3] = [DType::Float32, DType::BFloat16, DType::Float16];

/// The backend in every scheduling order, and once with every access of memory checked.
pub(crate) fn backends(
    precision: impl Into<Precision>,
) -> impl Iterator<Item = (String, Cuda<Emulator>)> {
    let precision = precision.into();
    let orders = [Order::Forward, Order::Reverse, Order::Random(7)];
    let plain = orders
        .into_iter()
        .map(|order| (format!("{order:?}"), false, order));
    let checked = ("checked".to_owned(), true, Order::Random(3));
    plain.chain([checked]).map(move |(name, checked, order)| {
        let device = if checked {
            Emulator::checked(order)
        } else {
            Emulator::new(order)
        };
        let cuda = Cuda::new(device, precision);
        (format!("{precision}, {name}"), cuda)
    })
}

/// The value that is left of `x` in this type.
pub(crate) fn rounded(x: f32, dtype: DType) -> f32 {
    match dtype {
        DType::Float32 => x,
        DType::BFloat16 => bf16::from_f32(x).to_f32(),
        DType::Float16 => f16::from_f32(x).to_f32(),
    }
}

/// Numbers in -1..1 that the type holds.
pub(crate) fn noise(count: usize, seed: u32, dtype: DType) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            rounded((state >> 8) as f32 / (1 << 23) as f32 - 1.0, dtype)
        })
        .collect()
}

/// Half a unit in the last place of the type, for numbers around 1, and float32's rounding in
/// between.
pub(crate) fn rounding(dtype: DType) -> f32 {
    match dtype {
        DType::Float32 => 1e-5,
        DType::BFloat16 => 1.0 / 256.0 + 1e-5,
        DType::Float16 => 1.0 / 2048.0 + 1e-5,
    }
}

/// Each value within the tolerance, relative to the larger of itself and `scale`.
#[track_caller]
pub(crate) fn near(what: &str, got: &[f32], wanted: &[f32], tolerance: f32, scale: f32) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (index, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let bound = tolerance * wanted.abs().max(scale);
        assert!(
            (got - wanted).abs() <= bound || (got.is_nan() && wanted.is_nan()),
            "{what}[{index}]: {got} instead of {wanted}"
        );
    }
}
