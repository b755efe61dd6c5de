//! Exact median, top-k and massive entries of |x|, mean and standard deviation of x.
//!
//! |x| of finite floats orders as its bit pattern does, so a histogram of the upper bits (one
//! read) finds the bucket of the median; a second read collects that bucket, some 3 % of the
//! values, and selects inside it. The first read also yields top-k: a block whose maximum does not
//! reach the k-th largest so far is skipped, and almost all are. Sums of the values and of their
//! squares are in float64, a chunk at a time, so that they do not depend on the number of threads.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, simd::vectorise};
use crate::{
    backend::{Entry, Magnitudes, Rows, Statistics, StatisticsRequest, magnitudes::moments},
    error::Result,
    interrupt,
};

/// Bits below a bucket: 8 exponent and 4 fraction bits choose one of 4,096.
const SHIFT: u32 = 19;
const BUCKETS: usize = 1 << (31 - SHIFT);
/// Values a thread reads at a time.
const CHUNK: usize = 1 << 16;
/// Values whose maximum is compared with the k-th largest at once.
const BLOCK: usize = 64;
/// Sums side by side.
const LANES: usize = 8;
pub(super) const INFINITY_BITS: u32 = 0x7f80_0000;

impl Magnitudes for Cpu {
    fn statistics(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Vec<Statistics>> {
        interrupt::check()?;
        Ok(sequences
            .iter()
            .map(|rows| {
                let values = &x.values[rows.start * x.columns..rows.end * x.columns];
                measure(values, x.columns, request)
            })
            .collect())
    }

    fn add_statistics(
        &self,
        x: &mut Tensor,
        other: &Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Vec<Statistics>> {
        interrupt::check()?;
        Ok(sequences
            .iter()
            .map(|rows| {
                let part = rows.start * x.columns..rows.end * x.columns;
                let values = &mut x.values[part.clone()];
                let first = FirstRead::of_sum(values, &other.values[part], request);
                first.finish(values, x.columns, request)
            })
            .collect())
    }

    fn read_statistics(&self, pending: Vec<Statistics>) -> Result<Vec<Statistics>> {
        Ok(pending)
    }
}

/// What the first read finds.
struct FirstRead {
    histogram: Vec<u32>,
    top: Top,
    /// First index of each chunk, sum of its values, sum of their squares.
    sums: Vec<(usize, [f64; 2])>,
    non_finite: usize,
}

/// The `k` largest magnitudes so far: bits and index, descending, ties by index.
pub(super) struct Top {
    k: usize,
    found: Vec<(u32, usize)>,
}

/// Statistics of a row-major matrix of `columns` columns.
fn measure(values: &[f32], columns: usize, request: &StatisticsRequest) -> Statistics {
    FirstRead::of(values, request).finish(values, columns, request)
}

impl FirstRead {
    fn of(values: &[f32], request: &StatisticsRequest) -> Self {
        Self::collect(values.par_chunks(CHUNK), request)
    }

    /// Of `values + others`, which take the place of the values, while they are in the cache.
    fn of_sum(values: &mut [f32], others: &[f32], request: &StatisticsRequest) -> Self {
        let chunks = values.par_chunks_mut(CHUNK).zip(others.par_chunks(CHUNK));
        let sums = chunks.map(|(values, others)| {
            for (value, other) in values.iter_mut().zip(others) {
                *value += other;
            }
            &*values
        });
        Self::collect(sums, request)
    }

    fn collect<'v>(
        chunks: impl IndexedParallelIterator<Item = &'v [f32]>,
        request: &StatisticsRequest,
    ) -> Self {
        // The largest value is reported even when no list is wanted.
        let k = request.top_k.max(1);
        chunks
            .enumerate()
            .fold(
                || Self::new(k),
                |mut read, (index, chunk)| {
                    read.add(chunk, index * CHUNK, request.moments);
                    read
                },
            )
            .reduce(|| Self::new(k), Self::merge)
    }

    /// The statistics of the values that it has read.
    fn finish(mut self, values: &[f32], columns: usize, request: &StatisticsRequest) -> Statistics {
        let median = f32::from_bits(median_bits(values, &self.histogram));
        let count = values.len();
        let moments = request.moments.then(|| moments(count, self.total()));
        let max = self
            .top
            .found
            .first()
            .map_or(0.0, |&(bits, _)| f32::from_bits(bits));
        let entry = |index: usize| Entry {
            position: index / columns,
            dimension: index % columns,
            value: values[index],
        };
        let threshold = request.abs_threshold.max(request.rel_threshold * median);
        let massive = if max > threshold {
            values
                .par_chunks(CHUNK)
                .enumerate()
                .flat_map_iter(|(chunk, part)| {
                    part.iter()
                        .enumerate()
                        .filter(|(_, value)| value.abs() > threshold)
                        .map(move |(offset, _)| entry(chunk * CHUNK + offset))
                })
                .collect()
        } else {
            Vec::new()
        };
        Statistics {
            max,
            median,
            top: self
                .top
                .found
                .iter()
                .take(request.top_k)
                .map(|&(_, index)| entry(index))
                .collect(),
            massive,
            moments,
            non_finite: self.non_finite,
        }
    }

    fn new(k: usize) -> Self {
        Self {
            histogram: vec![0; BUCKETS],
            top: Top::new(k),
            sums: Vec::new(),
            non_finite: 0,
        }
    }

    fn add(&mut self, chunk: &[f32], start: usize, moments: bool) {
        let mut sums = [[0.0; LANES]; 2];
        for (block, values) in chunk.chunks(BLOCK).enumerate() {
            if moments {
                vectorise(
                    #[inline(always)]
                    || add_sums(&mut sums, values),
                );
            }
            let mut largest = 0;
            for value in values {
                largest = largest.max(magnitude_bits(*value));
            }
            for value in values {
                self.histogram[(magnitude_bits(*value) >> SHIFT) as usize] += 1;
            }
            if i64::from(largest) > self.top.floor() {
                self.top.add(values, start + block * BLOCK);
            }
            if largest >= INFINITY_BITS {
                self.non_finite += values.iter().filter(|value| !value.is_finite()).count();
            }
        }
        let sums = sums.map(|lanes: [f64; LANES]| lanes.iter().sum());
        self.sums.push((start, sums));
    }

    /// Sum of all values and of their squares, added up in the order of the chunks.
    fn total(&mut self) -> [f64; 2] {
        self.sums.sort_unstable_by_key(|(start, _)| *start);
        let add =
            |[a, b]: [f64; 2], (_, [sum, squares]): &(usize, [f64; 2])| [a + sum, b + squares];
        self.sums.iter().fold([0.0; 2], add)
    }

    fn merge(mut self, other: Self) -> Self {
        for (mine, theirs) in self.histogram.iter_mut().zip(&other.histogram) {
            *mine += theirs;
        }
        self.top.merge(other.top);
        self.sums.extend(other.sums);
        self.non_finite += other.non_finite;
        self
    }
}

/// Adds values and their squares, each in float64, in lanes that vectorise.
#[inline(always)]
fn add_sums([sums, squares]: &mut [[f64; LANES]; 2], values: &[f32]) {
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let value = f64::from(chunk[lane]);
            sums[lane] += value;
            squares[lane] += value * value;
        }
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        let value = f64::from(*value);
        sums[lane] += value;
        squares[lane] += value * value;
    }
}

impl Top {
    pub(super) fn new(k: usize) -> Self {
        Self {
            k,
            found: Vec::with_capacity(k + 1),
        }
    }

    /// Bits and index, descending.
    pub(super) fn entries(&self) -> &[(u32, usize)] {
        &self.found
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.found.extend(other.found);
        self.found
            .sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        self.found.truncate(self.k);
    }

    /// A magnitude must exceed this to enter; below every magnitude while there is room.
    pub(super) fn floor(&self) -> i64 {
        match self.found.get(self.k - 1) {
            Some(&(bits, _)) => i64::from(bits),
            None => -1,
        }
    }

    pub(super) fn add(&mut self, values: &[f32], start: usize) {
        let mut floor = self.floor();
        for (offset, value) in values.iter().enumerate() {
            let bits = magnitude_bits(*value);
            if i64::from(bits) > floor {
                // After its equals, so that of equal magnitudes the earlier stays.
                let place = self.found.partition_point(|&(other, _)| other >= bits);
                self.found.insert(place, (bits, start + offset));
                self.found.truncate(self.k);
                floor = self.floor();
            }
        }
    }
}

/// Bits of the lower middle of all magnitudes.
fn median_bits(values: &[f32], histogram: &[u32]) -> u32 {
    if values.is_empty() {
        return 0;
    }
    let mut rank = (values.len() - 1) / 2;
    let mut bucket = 0;
    while rank >= histogram[bucket] as usize {
        rank -= histogram[bucket] as usize;
        bucket += 1;
    }
    let mut inside: Vec<u32> = values
        .par_chunks(CHUNK)
        .flat_map_iter(|chunk| {
            chunk
                .iter()
                .map(|value| magnitude_bits(*value))
                .filter(|bits| (bits >> SHIFT) as usize == bucket)
        })
        .collect();
    *inside.select_nth_unstable(rank).1
}

#[inline(always)]
pub(super) fn magnitude_bits(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::backend::{Elementwise, Tensors};

    const REQUEST: StatisticsRequest = StatisticsRequest {
        top_k: 5,
        abs_threshold: 100.0,
        rel_threshold: 1000.0,
        moments: true,
    };

    /// The definition, by sorting.
    fn by_sorting(values: &[f32], columns: usize, request: &StatisticsRequest) -> Statistics {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(a.cmp(&b)));
        let entry = |index: usize| Entry {
            position: index / columns,
            dimension: index % columns,
            value: values[index],
        };
        // Descending order: the lower middle of n is at n / 2 from the top.
        let median = values[order[values.len() / 2]].abs();
        let count = values.len() as f64;
        let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
        let squares = values
            .iter()
            .map(|value| (f64::from(*value) - mean).powi(2));
        let std = (squares.sum::<f64>() / count).sqrt();
        Statistics {
            max: values[order[0]].abs(),
            median,
            top: order
                .iter()
                .take(request.top_k)
                .map(|&i| entry(i))
                .collect(),
            massive: (0..values.len())
                .filter(|&i| {
                    values[i].abs() > request.abs_threshold
                        && values[i].abs() > request.rel_threshold * median
                })
                .map(entry)
                .collect(),
            moments: Some([mean, std]),
            non_finite: 0,
        }
    }

    /// Moments to 9 digits, which is what the plain sum of millions of float64 is good for, all else
    /// exactly.
    #[track_caller]
    fn same(got: Statistics, wanted: Statistics) {
        let moments = wanted.moments;
        if let (Some([mean, std]), Some([wanted_mean, wanted_std])) = (got.moments, moments) {
            let rms = wanted_mean.hypot(wanted_std);
            let near = (mean - wanted_mean).abs() <= 1e-9 * rms;
            assert!(near, "{got:?}, {wanted:?}");
            // A difference of squares, whose digits are fewer where nothing varies.
            let varies = (std.powi(2) - wanted_std.powi(2)).abs();
            assert!(varies <= 1e-9 * rms * rms, "{got:?}, {wanted:?}");
        }
        assert_eq!(got.moments.is_some(), moments.is_some());
        assert_eq!(Statistics { moments, ..got }, wanted);
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
                sign * scale * ((state >> 40) % 97) as f32 / 97.0
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
            for seed in 0..8 {
                let mut values = values(rows * columns, seed);
                if seed % 2 == 1 {
                    values[rows * columns / 2] = -2400.0;
                    values[rows * columns - 1] = 2400.0;
                }
                let got = measure(&values, columns, &REQUEST);
                same(got, by_sorting(&values, columns, &REQUEST));
            }
        }
    }

    #[test]
    fn constant_and_zero_tensors() {
        for constant in [0.0, -0.0, 3.25] {
            let values = vec![constant; 1000];
            let got = measure(&values, 10, &REQUEST);
            assert_eq!((got.max, got.median), (constant.abs(), constant.abs()));
            let places: Vec<_> = got.top.iter().map(|e| (e.position, e.dimension)).collect();
            assert_eq!(places, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
        }
    }

    /// Sums of float32 would have lost 1e-3 of the mean here.
    #[test]
    fn moments_of_many_values_beside_massive_ones() {
        let mut values: Vec<f32> = (0..3_000_000)
            .map(|i| 0.1 + ((i * 7919) % 1000) as f32 * 1e-6)
            .collect();
        values[17] = -2400.0;
        values[2_999_999] = 1e20;
        same(
            measure(&values, 1000, &REQUEST),
            by_sorting(&values, 1000, &REQUEST),
        );
        values[2_999_999] = 0.1;
        let one = measure(&values, 1000, &REQUEST);
        same(one.clone(), by_sorting(&values, 1000, &REQUEST));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build();
        let other = pool
            .expect("threads")
            .install(|| measure(&values, 1000, &REQUEST));
        let bits = |of: &Statistics| of.moments.map(|both| both.map(f64::to_bits));
        assert!(bits(&one).is_some());
        assert_eq!(bits(&one), bits(&other));
        // Nobody asks, nothing is added up; all else is the same.
        let without = StatisticsRequest {
            moments: false,
            ..REQUEST
        };
        let found = measure(&values, 1000, &without);
        let moments = None;
        assert_eq!(found, Statistics { moments, ..one });
    }

    #[test]
    fn thresholds_are_strict() {
        let mut values = vec![0.1; 99];
        values.push(100.0);
        assert!(measure(&values, 10, &REQUEST).massive.is_empty());
        values[99] = 100.001;
        assert_eq!(measure(&values, 10, &REQUEST).massive.len(), 1);
        values[..99].fill(0.2);
        assert!(measure(&values, 10, &REQUEST).massive.is_empty());
    }

    #[test]
    fn counts_what_is_not_finite() {
        let mut values = vec![1.0; 200_000];
        values[70_000] = f32::NAN;
        values[150_000] = f32::NEG_INFINITY;
        assert_eq!(measure(&values, 100, &REQUEST).non_finite, 2);
    }

    /// Any float32, and often one that others are equal to.
    fn any_value() -> impl Strategy<Value = f32> {
        let often = [
            0.0,
            -0.0,
            0.5,
            1.0,
            -1.0,
            100.0,
            -100.0,
            2400.0,
            f32::MAX,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            -f32::from_bits(3),
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
        ];
        prop_oneof![
            3 => select(often.to_vec()),
            1 => any::<u32>().prop_map(f32::from_bits),
        ]
    }

    /// What is not a number is not equal to itself, but its bits are.
    fn bits(entries: &[Entry]) -> Vec<(usize, usize, u32)> {
        let bits = |entry: &Entry| (entry.position, entry.dimension, entry.value.to_bits());
        entries.iter().map(bits).collect()
    }

    proptest! {
        /// Ties, denormals, infinities, what is not a number, even and odd counts.
        #[test]
        fn equals_the_definition_whatever_the_values(
            mut values in vec(any_value(), 1..300),
            columns in 1usize..9,
            top_k in 0usize..12,
        ) {
            values.truncate((values.len() / columns * columns).max(1));
            let columns = columns.min(values.len());
            let request = StatisticsRequest { top_k, ..REQUEST };
            let got = measure(&values, columns, &request);
            let wanted = by_sorting(&values, columns, &request);
            prop_assert_eq!(got.max.to_bits(), wanted.max.to_bits());
            prop_assert_eq!(got.median.to_bits(), wanted.median.to_bits());
            prop_assert_eq!(bits(&got.top), bits(&wanted.top));
            let non_finite = values.iter().filter(|value| !value.is_finite()).count();
            prop_assert_eq!(got.non_finite, non_finite);
            // Nothing is listed beside what is not a number; runs with such values are refused.
            if !values.iter().any(|value| value.is_nan()) {
                prop_assert_eq!(bits(&got.massive), bits(&wanted.massive));
            }
            if non_finite == 0 {
                same(got, wanted);
            }
        }
    }

    /// Of several chunks and sequences.
    #[test]
    fn sums_are_measured_as_they_are_made() {
        let (rows, columns) = (500, 300);
        let cpu = Cpu::new();
        let x = |seed| cpu.upload(rows, columns, values(rows * columns, seed));
        let (mut once, other) = (x(3).expect("fits"), x(4).expect("fits"));
        let mut twice = x(3).expect("fits");
        let sequences = [0..300, 300..500];
        let found = cpu.add_statistics(&mut once, &other, &sequences, &REQUEST);
        cpu.add(&mut twice, &other).expect("computed");
        let wanted = cpu.statistics(&twice, &sequences, &REQUEST);
        assert_eq!(found.expect("computed"), wanted.expect("computed"));
        assert_eq!(once.values[..], twice.values[..]);
    }

    #[test]
    fn no_list_wanted_still_reports_the_maximum() {
        let request = StatisticsRequest {
            top_k: 0,
            ..REQUEST
        };
        let got = measure(&[1.0, -7.0], 2, &request);
        assert_eq!((got.max, got.top.len()), (7.0, 0));
    }
}
