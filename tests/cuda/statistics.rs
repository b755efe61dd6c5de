//! Statistics on the device equal the CPU's, value for value.

use massact::{
    backend::{
        Elementwise, Magnitudes, Rows, Statistics, StatisticsRequest, Tensors, cpu::Cpu, cuda::Cuda,
    },
    error::Error,
    model::dtype::DType,
};
use massact_emulator::{Emulator, Order};

use crate::bench::{DTYPES, backends, rounded};

const REQUEST: StatisticsRequest = StatisticsRequest {
    top_k: 5,
    abs_threshold: 100.0,
    rel_threshold: 1000.0,
    moments: true,
};

/// Values of very different magnitudes, with repeats, as the type holds them.
fn values(count: usize, seed: u64, dtype: DType) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let sign = if state & 1 == 0 { 1.0 } else { -1.0 };
            let scale = [1e-7, 1e-3, 1.0, 1.0, 1.0, 50.0][(state >> 8) as usize % 6];
            rounded(sign * scale * ((state >> 40) % 97) as f32 / 97.0, dtype)
        })
        .collect()
}

#[track_caller]
fn agree(
    what: &str,
    cuda: &Cuda<Emulator>,
    values: &[f32],
    columns: usize,
    sequences: &[Rows],
    request: &StatisticsRequest,
) {
    let rows = values.len() / columns;
    let cpu = Cpu::new();
    let x = cpu.upload(rows, columns, values.to_vec()).expect("fits");
    let wanted = cpu.statistics(&x, sequences, request).expect("computed");
    let x = cuda.upload(rows, columns, values.to_vec()).expect("fits");
    let pending = cuda.statistics(&x, sequences, request).expect("computed");
    let got = cuda.read_statistics(pending).expect("read");
    for (got, wanted) in got.iter().zip(&wanted) {
        // Added up in another order; a difference of squares where nothing varies.
        let (Some([mean, std]), Some([wanted_mean, wanted_std])) = (got.moments, wanted.moments)
        else {
            assert_eq!(got.moments.is_some(), request.moments, "{what}");
            continue;
        };
        let rms = wanted_mean.hypot(wanted_std);
        let near = (mean - wanted_mean).abs() <= 1e-12 * rms;
        assert!(near, "{what}: {got:?}, {wanted:?}");
        let varies = (std.powi(2) - wanted_std.powi(2)).abs() <= 1e-12 * rms * rms;
        assert!(varies, "{what}: {got:?}, {wanted:?}");
    }
    let wanted: Vec<Statistics> = wanted
        .into_iter()
        .zip(&got)
        .map(|(wanted, got)| Statistics {
            moments: got.moments,
            ..wanted
        })
        .collect();
    assert_eq!(got, wanted, "{what}: {rows} x {columns}, {sequences:?}");
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
        for (name, cuda) in backends(dtype) {
            for (columns, sequences) in &shapes {
                let rows = sequences.last().map_or(0, |rows| rows.end);
                let mut values = values(rows * columns, 3, dtype);
                agree(&name, &cuda, &values, *columns, sequences, &REQUEST);
                let last = values.len() - 1;
                values[last / 2] = -2400.0;
                values[last] = 2400.0;
                for moments in [true, false] {
                    let request = StatisticsRequest { moments, ..REQUEST };
                    agree(&name, &cuda, &values, *columns, sequences, &request);
                }
            }
        }
    }
}

/// What is measured while it is added up is what is measured afterwards: the sums, and every statistic.
#[test]
fn sums_are_measured_as_they_are_made() {
    let shapes: [(usize, Vec<Rows>); 4] = [
        (8, vec![0..1, 1..2]),
        (63, vec![0..3, 3..4, 4..40]),
        (64, vec![0..7, 7..20]),
        (776, vec![0..11, 11..30]),
    ];
    for dtype in DTYPES {
        for (name, cuda) in backends(dtype) {
            for (columns, sequences) in &shapes {
                let rows = sequences.last().map_or(0, |rows| rows.end);
                let upload = |seed| {
                    let mut values = values(rows * columns, seed, dtype);
                    values[rows * columns / 2] = 1500.0;
                    cuda.upload(rows, *columns, values).expect("fits")
                };
                let other = upload(8);
                for moments in [true, false] {
                    let request = StatisticsRequest { moments, ..REQUEST };
                    let (mut once, mut twice) = (upload(7), upload(7));
                    let pending = cuda.add_statistics(&mut once, &other, sequences, &request);
                    let found = cuda.read_statistics(pending.expect("computed"));
                    cuda.add(&mut twice, &other).expect("computed");
                    let pending = cuda.statistics(&twice, sequences, &request);
                    let wanted = cuda.read_statistics(pending.expect("computed"));
                    let what = format!("{name}, {rows} x {columns}");
                    assert_eq!(found.expect("read"), wanted.expect("read"), "{what}");
                    let bits = |x| {
                        let values = cuda.download(x).expect("read");
                        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                    };
                    assert_eq!(bits(&once), bits(&twice), "{what}");
                }
            }
        }
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init)]
fn constants_zeros_and_ties() {
    for dtype in DTYPES {
        let cuda = Cuda::new(Emulator::new(Order::Random(5)), dtype);
        for constant in [0.0, -0.0, 3.25] {
            let same = vec![constant; 40_000];
            agree("constant", &cuda, &same, 10, &[0..4000], &REQUEST);
        }
        // The largest value again and again: the earliest places win.
        let ties: Vec<f32> = (0..30_000).map(|i| (i % 7) as f32 - 3.0).collect();
        agree("ties", &cuda, &ties, 100, &[0..300], &REQUEST);
        let rising: Vec<f32> = (0..20_000)
            .map(|i| rounded(i as f32 / 2.0, dtype))
            .collect();
        agree("rising", &cuda, &rising, 100, &[0..200], &REQUEST);
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init)]
fn long_lists_and_low_thresholds() {
    for dtype in DTYPES {
        let cuda = Cuda::new(Emulator::new(Order::Reverse), dtype);
        let values = values(30 * 100, 9, dtype);
        for top_k in [0, 1, 32, 33, 100, 5000] {
            let request = StatisticsRequest { top_k, ..REQUEST };
            agree("top", &cuda, &values, 100, &[0..10, 10..30], &request);
        }
        for (abs_threshold, rel_threshold) in [(0.0, 0.0), (0.5, 0.0), (0.3, 2.0), (49.0, 0.0)] {
            let request = StatisticsRequest {
                abs_threshold,
                rel_threshold,
                ..REQUEST
            };
            agree(
                "thresholds",
                &cuda,
                &values,
                100,
                &[0..10, 10..30],
                &request,
            );
        }
    }
}

/// More values than the list has room for pass the absolute threshold, few the relative one.
#[test]
#[allow(clippy::single_range_in_vec_init)]
fn many_candidates_few_massive() {
    for dtype in DTYPES {
        for (name, cuda) in backends(dtype) {
            let mut values = vec![0.015_625; 20_000];
            values[3000..12_000].fill(2.0);
            values[17] = -64.0;
            values[19_999] = 48.0;
            let request = StatisticsRequest {
                abs_threshold: 1.0,
                rel_threshold: 1000.0,
                ..REQUEST
            };
            agree(&name, &cuda, &values, 100, &[0..200], &request);
        }
    }
}

/// Massive values of many tensors are in one list. They are told apart, in whatever order they are read, and while
/// others are added.
#[test]
fn tensors_share_a_list() {
    for (name, cuda) in backends(DType::BFloat16) {
        let sequences = [0..3, 3..10];
        // More tensors than a list has room for, so that it begins anew.
        for walk in 0..3 {
            let make = |seed: usize| {
                let mut values = vec![0.015_625; 10 * 24];
                for count in 0..seed % 5 {
                    values[(seed * 7 + count * 31) % 240] = 128.0 + (seed + count) as f32;
                }
                values
            };
            let request = StatisticsRequest {
                abs_threshold: 99.0,
                ..REQUEST
            };
            let measure = |seed| {
                let x = cuda.upload(10, 24, make(seed)).expect("fits");
                let pending = cuda.statistics(&x, &sequences, &request);
                (seed, pending.expect("computed"))
            };
            let check = |(seed, pending)| {
                let cpu = Cpu::new();
                let x = cpu.upload(10, 24, make(seed)).expect("fits");
                let wanted = cpu.statistics(&x, &sequences, &request).expect("computed");
                let found = cuda.read_statistics(pending).expect("read");
                let massive = |all: &[Statistics]| {
                    let lists = all.iter().map(|one| one.massive.clone());
                    lists.collect::<Vec<_>>()
                };
                let what = format!("{name}, walk {walk}, tensor {seed}");
                assert_eq!(massive(&found), massive(&wanted), "{what}");
            };
            let mut waiting: Vec<_> = (0..40).map(measure).collect();
            check(waiting.remove(17));
            waiting.push(measure(40));
            check(waiting.pop().expect("there"));
            waiting.extend((41..60).map(measure));
            waiting.into_iter().rev().for_each(check);
        }
    }
}

/// Where more values are massive than there is room for, the next attempt has room for all.
#[test]
#[allow(clippy::single_range_in_vec_init)]
fn a_list_without_room_is_made_larger() {
    for dtype in DTYPES {
        for (name, cuda) in backends(dtype) {
            // Of each token 20 values of 64, in more tensors than the first list has room for.
            let mut values = vec![0.015_625; 50 * 64];
            let outliers = values.chunks_mut(64).flat_map(|row| &mut row[10..30]);
            outliers.for_each(|value| *value = 512.0);
            let x = cuda.upload(50, 64, values.clone()).expect("fits");
            let measure = || {
                let pending = cuda.statistics(&x, &[0..50], &REQUEST)?;
                let more: Vec<_> = (0..30)
                    .map(|_| cuda.statistics(&x, &[0..50], &REQUEST))
                    .collect::<Result<_, _>>()?;
                let found = cuda.read_statistics(pending)?;
                for pending in more {
                    assert_eq!(cuda.read_statistics(pending)?, found, "{name}");
                }
                Ok::<_, Error>(found)
            };
            // Told by every look at that list, not by the first alone.
            let measured = || cuda.statistics(&x, &[0..50], &REQUEST);
            let pending: Vec<_> = (0..30).map_while(|_| measured().ok()).collect();
            assert!(
                (1..30).contains(&pending.len()),
                "{name}: {}",
                pending.len()
            );
            for pending in pending {
                let error = cuda.read_statistics(pending).expect_err("no room");
                assert!(error.is_worth_repeating(), "{name}: {error}");
            }
            let found = measure().expect("room for all");
            assert_eq!(found[0].massive.len(), 1000, "{name}");
            agree(&name, &cuda, &values, 64, &[0..50], &REQUEST);
        }
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init)]
fn what_is_not_finite_is_counted() {
    for dtype in DTYPES {
        let cuda = Cuda::new(Emulator::new(Order::Forward), dtype);
        let mut values = vec![1.0; 9000];
        values[700] = f32::NAN;
        values[8999] = f32::NEG_INFINITY;
        let x = cuda.upload(90, 100, values).expect("fits");
        let pending = cuda.statistics(&x, &[0..90], &REQUEST).expect("computed");
        let got = cuda.read_statistics(pending).expect("read");
        assert_eq!(got[0].non_finite, 2, "{dtype}");
    }
}

/// Sums are the same bits in every order of threads and blocks, and do not overflow where squares
/// leave float32.
#[test]
#[allow(clippy::single_range_in_vec_init)]
fn moments_in_every_order() {
    for dtype in [DType::Float32, DType::BFloat16] {
        let mut values = values(300 * 100, 6, dtype);
        values[12_345] = rounded(1e30, dtype);
        values[23_456] = rounded(-3e-30, dtype);
        let mut first = None;
        for (name, cuda) in backends(dtype) {
            agree(&name, &cuda, &values, 100, &[0..300], &REQUEST);
            let x = cuda.upload(300, 100, values.clone()).expect("fits");
            let pending = cuda.statistics(&x, &[0..300], &REQUEST).expect("computed");
            let got = &cuda.read_statistics(pending).expect("read")[0];
            let bits = got.moments.expect("asked for").map(f64::to_bits);
            assert_eq!(bits, *first.get_or_insert(bits), "{name}");
        }
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
        let values = values(5000, 4, dtype);
        agree("99 KiB", &cuda, &values, 50, &[0..37, 37..100], &REQUEST);
    }
}
