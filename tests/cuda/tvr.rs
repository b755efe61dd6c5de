//! Target variance rescaling on the device equals the CPU's, bit for bit.

use half::{bf16, f16};
use massact::{
    backend::{Moments, Rescaling, StoredTensors, cpu::Cpu},
    model::{dtype::DType, weights::Elements},
};

use crate::bench::{DTYPES, backends, noise};

const CHUNK: usize = 1 << 16;

fn bytes(values: &[f32], dtype: DType) -> Vec<u8> {
    let value = |value: &f32| match dtype {
        DType::Float32 => value.to_le_bytes().to_vec(),
        DType::BFloat16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
        DType::Float16 => f16::from_f32(*value).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(value).collect()
}

/// Moments before and after, and the new bytes.
fn rescaled(
    on: &dyn StoredTensors,
    elements: Elements<'_>,
    target: f64,
) -> (Vec<Moments>, Vec<Moments>, Vec<u8>) {
    let before = on.moments(elements, None).expect("measured");
    let change = Rescaling::new(&Moments::join_all(&before), target);
    let after = on.moments(elements, Some(change)).expect("measured");
    let mut out = vec![0; elements.bytes.len()];
    on.rescale(elements, change, &mut out).expect("rescaled");
    (before, after, out)
}

#[track_caller]
fn agree(what: &str, values: &[f32], dtype: DType, target: f64) {
    let stored = bytes(values, dtype);
    let elements = Elements {
        dtype,
        bytes: &stored,
    };
    let wanted = rescaled(&Cpu::new(), elements, target);
    for (name, cuda) in backends(dtype) {
        let got = rescaled(&cuda, elements, target);
        let what = format!("{what}, {} values, {name}", values.len());
        // As text, in which NaN is itself and other numbers have all their digits.
        let text = |moments: &[Moments]| format!("{moments:?}");
        assert_eq!(text(&got.0), text(&wanted.0), "{what}: before");
        assert_eq!(text(&got.1), text(&wanted.1), "{what}: after");
        assert!(got.2 == wanted.2, "{what}: other bytes");
    }
}

/// Parts of a lane's row, of a run and of a chunk; several chunks.
#[test]
fn awkward_sizes() {
    for dtype in DTYPES {
        for count in [
            2,
            15,
            33,
            2047,
            2049,
            CHUNK - 1,
            CHUNK + 1,
            2 * CHUNK + 5000,
        ] {
            agree("noise", &noise(count, 5, dtype), dtype, 0.01);
        }
    }
}

/// A mean far from zero, values that round to subnormals, and targets above the spread.
#[test]
fn awkward_values() {
    for dtype in DTYPES {
        let noise = noise(3000, 9, dtype);
        let far: Vec<f32> = noise.iter().map(|x| 100.0 + x).collect();
        let narrow: Vec<f32> = noise.iter().map(|x| x * x * x * x / 64.0).collect();
        for target in [1e-6, 0.013, 3.0] {
            agree("far", &far, dtype, target);
            agree("narrow", &narrow, dtype, target);
        }
    }
}

#[test]
fn what_overflows_is_infinite() {
    let values = noise(40, 2, DType::Float16);
    agree("large", &values, DType::Float16, 1e6);
    agree("large", &values, DType::Float32, 1e39);
}
