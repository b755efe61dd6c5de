//! Profiles on the device are the CPU's: ranks, places and counts value for value, sums to rounding.

use massact::{
    backend::{Profile, ProfileRequest, Profiles, Rows, Tensors, cpu::Cpu, cuda::Cuda},
    model::dtype::DType,
};
use massact_emulator::{Emulator, Order};

use crate::bench::{DTYPES, backends, rounded};

const REQUEST: ProfileRequest = ProfileRequest { top_k: 5 };

/// Values of very different magnitudes, with repeats, as the type holds them.
fn values(count: usize, seed: u64, dtype: DType) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let sign = if state & 1 == 0 { 1.0 } else { -1.0 };
            let scale = [1e-6, 1e-3, 1.0, 1.0, 1.0, 50.0][(state >> 8) as usize % 6];
            rounded(sign * scale * ((state >> 40) % 97) as f32 / 97.0, dtype)
        })
        .collect()
}

/// A spike in the middle, and a dimension that is large on all but the first token.
fn with_outliers(mut values: Vec<f32>, columns: usize) -> Vec<f32> {
    let middle = values.len() / 2;
    values[middle] = -2400.0;
    for row in values.chunks_mut(columns).skip(1) {
        row[columns / 3] = 384.0;
    }
    values
}

#[track_caller]
fn agree(
    what: &str,
    cuda: &Cuda<Emulator>,
    values: &[f32],
    columns: usize,
    sequences: &[Rows],
    request: ProfileRequest,
) -> Vec<Profile> {
    let rows = values.len() / columns;
    let cpu = Cpu::new();
    let x = cpu.upload(rows, columns, values.to_vec()).expect("fits");
    let wanted = cpu.profile(&x, sequences, &request).expect("computed");
    let x = cuda.upload(rows, columns, values.to_vec()).expect("fits");
    let pending = cuda.profile(&x, sequences, &request).expect("computed");
    let got = cuda.read_profiles(pending).expect("read");
    let near = |a: f64, b: f64, scale: f64| (a - b).abs() <= 1e-9 * scale;
    for (got, wanted) in got.iter().zip(&wanted) {
        let ours = &got.moments;
        let theirs = &wanted.moments;
        let what = format!("{what}: {rows} x {columns}: {got:?}, {wanted:?}");
        assert!(near(ours.mean, theirs.mean, theirs.rms()), "{what}");
        let size = f64::from(wanted.max);
        for (power, (a, b)) in ours.powers.iter().zip(theirs.powers).enumerate() {
            let scale = theirs.count * size.powi(power as i32 + 2);
            assert!(near(*a, b, scale), "{what}");
        }
        // Squares of float32 errors.
        let error = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.max(1e-30);
        assert!(error(got.int8_error, wanted.int8_error), "{what}");
        let clipped = |profile: &Profile| profile.int8_clipped_error.unwrap_or(0.0);
        assert!(error(clipped(got), clipped(wanted)), "{what}");
        let exact = Profile {
            moments: wanted.moments,
            int8_error: wanted.int8_error,
            int8_clipped_error: wanted.int8_clipped_error,
            ..got.clone()
        };
        assert_eq!(&exact, wanted, "{what}");
        assert_eq!(
            got.int8_clipped_error.is_some(),
            wanted.int8_clipped_error.is_some()
        );
    }
    assert_eq!(got.len(), wanted.len());
    got
}

#[test]
#[allow(clippy::single_range_in_vec_init)]
fn awkward_shapes_in_every_order() {
    let shapes: [(usize, Vec<Rows>); 5] = [
        (1, vec![0..1]),
        (5, vec![0..1, 1..3]),
        (63, vec![0..3, 3..4, 4..40]),
        (64, vec![0..7]),
        (777, vec![0..11, 11..30]),
    ];
    for dtype in DTYPES {
        let mut first: Vec<Vec<Profile>> = Vec::new();
        for (name, cuda) in backends(dtype) {
            for (index, (columns, sequences)) in shapes.iter().enumerate() {
                let rows = sequences.last().map_or(0, |rows| rows.end);
                let plain = values(rows * columns, 3, dtype);
                agree(&name, &cuda, &plain, *columns, sequences, REQUEST);
                let spiked = with_outliers(plain, *columns);
                let found = agree(&name, &cuda, &spiked, *columns, sequences, REQUEST);
                // The same bits in every order of threads and blocks.
                if first.len() == index {
                    first.push(found.clone());
                }
                assert_eq!(found, first[index], "{name}");
            }
        }
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init)]
fn constants_zeros_and_long_lists() {
    for dtype in DTYPES {
        let cuda = Cuda::new(Emulator::new(Order::Random(5)), dtype);
        for constant in [0.0, -0.0, 3.25] {
            let same = vec![constant; 40_000];
            agree("constant", &cuda, &same, 10, &[0..4000], REQUEST);
        }
        // Most values of most tokens are zero, as after a ReLU.
        let sparse: Vec<f32> = (0..3000)
            .map(|i| {
                if i % 3 == 0 && i % 700 != 0 {
                    i as f32 / 8.0
                } else {
                    0.0
                }
            })
            .map(|value| rounded(value, dtype))
            .collect();
        let found = agree("sparse", &cuda, &sparse, 30, &[0..100], REQUEST);
        assert_eq!(found[0].token_ratio, None);
        // Equal ratios: the earliest token has it.
        let ties: Vec<f32> = (0..3000).map(|i| (i % 30) as f32 - 7.0).collect();
        let found = agree("ties", &cuda, &ties, 30, &[0..100], REQUEST);
        assert_eq!(found[0].token_ratio.map(|(_, position)| position), Some(0));
        let long = values(30 * 100, 9, dtype);
        let request = ProfileRequest { top_k: 70 };
        agree("long list", &cuda, &long, 100, &[0..10, 10..30], request);
    }
}

/// A card whose blocks have 99 KiB takes a coarser histogram and a second read for every type.
#[test]
#[allow(clippy::single_range_in_vec_init)]
fn little_shared_memory() {
    for dtype in DTYPES {
        let device =
            Emulator::new(Order::Random(1)).with_limits(|limits| limits.shared_bytes = 99 << 10);
        let cuda = Cuda::new(device, dtype);
        let values = with_outliers(values(5000, 4, dtype), 50);
        agree("99 KiB", &cuda, &values, 50, &[0..37, 37..100], REQUEST);
    }
}
