use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::backend::LARGE;

/// The definition, by sorting and in float64.
fn by_sorting(values: &[f32], columns: usize, top_k: usize) -> Profile {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(a.cmp(&b)));
    let ascending: Vec<f64> = order
        .iter()
        .rev()
        .map(|&index| f64::from(values[index].abs()))
        .collect();
    let count = values.len();
    let quantiles = QUANTILES.map(|quantile| {
        let place = quantile * (count - 1) as f64;
        let low = place.floor();
        let (a, b) = (
            ascending[low as usize],
            ascending[(low as usize + 1).min(count - 1)],
        );
        a + (b - a) * (place - low)
    });
    let wide = || values.iter().map(|value| f64::from(*value));
    let mean = wide().sum::<f64>() / count as f64;
    let mut histogram = vec![0; HISTOGRAM_BINS];
    let edge = |bin: usize| 2f64.powi(bin as i32 / 8 - 32) * (1.0 + (bin % 8) as f64 / 8.0);
    let edges: Vec<f64> = (1..HISTOGRAM_BINS).map(edge).collect();
    for value in &ascending {
        histogram[edges.partition_point(|edge| edge <= value)] += 1;
    }
    let mut token_ratio: Option<(f64, usize)> = None;
    let mut large = vec![0; columns];
    for (position, row) in values.chunks(columns).enumerate() {
        let mut sorted: Vec<f64> = row.iter().map(|value| f64::from(value.abs())).collect();
        let rms = (sorted.iter().map(|x| x * x).sum::<f64>() / columns as f64).sqrt();
        for (count, value) in large.iter_mut().zip(&sorted) {
            *count += u32::from(*value > LARGE * rms);
        }
        sorted.sort_by(f64::total_cmp);
        let median = sorted[(columns - 1) / 2];
        let ratio = sorted[columns - 1] / median;
        if median > 0.0 && token_ratio.is_none_or(|(most, _)| ratio > most) {
            token_ratio = Some((ratio, position));
        }
    }
    let error = |most: f64| {
        let scale = most / 127.0;
        let rounded = wide().map(|x| scale * (x / scale).clamp(-127.0, 127.0).round_ties_even());
        rounded
            .zip(wide())
            .map(|(q, x)| (x - q).powi(2))
            .sum::<f64>()
    };
    let max = values[order[0]].abs();
    Profile {
        rows: count / columns,
        moments: CentralMoments {
            count: count as f64,
            mean,
            powers: [2, 3, 4].map(|power| wide().map(|x| (x - mean).powi(power)).sum()),
        },
        max,
        top: order
            .iter()
            .take(top_k)
            .map(|&index| Entry {
                position: index / columns,
                dimension: index % columns,
                value: values[index],
            })
            .collect(),
        median: values[order[count / 2]].abs(),
        quantiles,
        histogram,
        token_ratio,
        large: (0..).zip(large).filter(|(_, count)| *count > 0).collect(),
        int8_error: if max > 0.0 {
            error(f64::from(max))
        } else {
            0.0
        },
        int8_clipped_error: (quantiles[CLIPPED_AT] > 0.0).then(|| error(quantiles[CLIPPED_AT])),
        non_finite: 0,
    }
}

#[track_caller]
fn same(got: &Profile, wanted: &Profile) {
    let near = |a: f64, b: f64, scale: f64| {
        assert!(
            (a - b).abs() <= 1e-5 * scale,
            "{a}, {b}: {got:?}, {wanted:?}"
        );
    };
    let rms = wanted.moments.rms();
    near(got.moments.mean, wanted.moments.mean, 1e-4 * rms);
    let values = wanted.moments.count * f64::from(wanted.max).powi(2);
    for (power, (a, b)) in got
        .moments
        .powers
        .iter()
        .zip(wanted.moments.powers)
        .enumerate()
    {
        near(
            *a,
            b,
            1e-4 * values * f64::from(wanted.max).powi(power as i32),
        );
    }
    for (a, b) in got.quantiles.iter().zip(wanted.quantiles) {
        near(*a, b, 1e-9 * b);
    }
    // Errors are taken in float32 in units of the scale: up to 127 of them, each value is off by 1.2e-5 at most
    // (its rounding and the scale's), which moves a square by twice that times the error.
    let error = |a: f64, b: f64, most: f64| {
        let off = 1.2e-5 * most / 127.0;
        let count = wanted.moments.count;
        let lost = 2.0 * (count * b.max(0.0)).sqrt() * off + count * off * off;
        near(a, b, 10.0 * b.abs() + lost / 1e-5);
    };
    error(got.int8_error, wanted.int8_error, f64::from(wanted.max));
    let clipped = |profile: &Profile| profile.int8_clipped_error.unwrap_or(-1.0);
    error(clipped(got), clipped(wanted), wanted.quantiles[CLIPPED_AT]);
    let exact = Profile {
        moments: wanted.moments,
        quantiles: wanted.quantiles,
        int8_error: wanted.int8_error,
        int8_clipped_error: wanted.int8_clipped_error,
        ..got.clone()
    };
    assert_eq!(&exact, wanted);
}

/// Deterministic values of very different magnitudes, with repeats.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let sign = if state & 1 == 0 { 1.0 } else { -1.0 };
            let scale = [1e-30, 1e-3, 1.0, 1.0, 1.0, 50.0][(state >> 8) as usize % 6];
            0.25 + sign * scale * ((state >> 40) % 97) as f32 / 97.0
        })
        .collect()
}

#[test]
fn equals_the_definition() {
    for (rows, columns) in [
        (1, 1),
        (1, 2),
        (2, 1),
        (3, 5),
        (7, 64),
        (65, 63),
        (300, 777),
    ] {
        for seed in 0..6 {
            let mut values = values(rows * columns, seed);
            if seed % 2 == 1 {
                // A spike, and a dimension that is large on most tokens.
                values[rows * columns / 2] = -2400.0;
                for row in values.chunks_mut(columns).skip(1) {
                    row[columns / 3] = 300.0;
                }
            }
            let request = ProfileRequest { top_k: 7 };
            let got = profile_of(&values, columns, &request, 1);
            same(&got, &by_sorting(&values, columns, 7));
        }
    }
}

#[test]
fn zeros_and_constants() {
    let request = ProfileRequest { top_k: 2 };
    let zeros = profile_of(&[0.0; 64], 8, &request, 1);
    assert_eq!((zeros.max, zeros.median), (0.0, 0.0));
    assert_eq!((zeros.token_ratio, zeros.int8_clipped_error), (None, None));
    assert_eq!(zeros.int8_error, 0.0);
    assert_eq!(zeros.histogram[0], 64);
    // Most values of a token may be zero, as after a ReLU.
    let mut sparse = [0.0; 64];
    sparse[3] = 5.0;
    sparse[8..15].fill(-2.0);
    let sparse = profile_of(&sparse, 8, &request, 1);
    assert_eq!(sparse.token_ratio, Some((1.0, 1)));
    let constant = profile_of(&[-3.25; 64], 8, &request, 1);
    assert_eq!(constant.moments.excess_kurtosis(), None);
    assert_eq!(constant.quantiles, [3.25; QUANTILES.len()]);
    assert!(constant.int8_error < 1e-9);
}

#[test]
fn values_that_are_not_finite_are_counted() {
    let mut values = values(640, 3);
    values[7] = f32::NAN;
    values[600] = f32::NEG_INFINITY;
    let found = profile_of(&values, 64, &ProfileRequest { top_k: 5 }, 1);
    assert_eq!(found.non_finite, 2);
}

/// The same bits, however many threads share the work.
#[test]
fn threads_change_nothing() {
    let values = values(700 * 333, 11);
    let on = |threads: usize, least: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().expect("threads");
        pool.install(|| profile_of(&values, 333, &ProfileRequest { top_k: 9 }, least))
    };
    let one = on(1, 1);
    for threads in [2, 3, 7] {
        assert_eq!(on(threads, 1), one, "{threads} threads");
    }
    assert_eq!(on(2, usize::MAX), one, "in one piece");
}

proptest! {
    /// Ties, zeros, even and odd counts. Squares of values below 1e-19 vanish in float32, in which rows are
    /// measured, so there are none.
    #[test]
    fn equals_the_definition_whatever_the_values(
        values in vec(
            prop_oneof![
                2 => select(vec![0.0, -0.0, 1.0, -1.0, 2400.0]),
                1 => (1e-3f32..1e4).prop_map(|value| -value),
                1 => 1e-3f32..1e4,
            ],
            1..300,
        ),
        columns in 1usize..9,
    ) {
        let columns = columns.min(values.len());
        let values = &values[..values.len() / columns * columns];
        let got = profile_of(values, columns, &ProfileRequest { top_k: 5 }, 1);
        same(&got, &by_sorting(values, columns, 5));
    }
}
