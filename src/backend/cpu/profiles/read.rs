//! The first read of a profile: everything that a value tells by itself or beside its token's others.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{
    super::{
        magnitudes::{INFINITY_BITS, Top, magnitude_bits},
        simd::vectorise,
    },
    BUCKETS, SHIFT,
};
use crate::backend::profiles::LARGE;

/// Sums side by side.
const LANES: usize = 8;

/// What the first read finds.
pub(super) struct FirstRead {
    /// By the upper bits of |x|.
    pub(super) histogram: Vec<u32>,
    pub(super) top: Top,
    /// First index of each chunk, sums of (x - shift) and its powers.
    chunks: Vec<(usize, [f64; 4])>,
    /// The largest ratio of a token and the first position that has it.
    pub(super) ratio: Option<(f64, usize)>,
    /// Of each dimension, the tokens in which it is large; empty as long as there is none.
    large: Vec<u32>,
    pub(super) non_finite: usize,
    scratch: Vec<u32>,
}

impl FirstRead {
    /// Of a row-major matrix.
    pub(super) fn of(
        values: &[f32],
        columns: usize,
        (rows_at_once, least): (usize, usize),
        shift: f64,
        top_k: usize,
    ) -> Self {
        let chunk = (rows_at_once * columns).max(1);
        values
            .par_chunks(chunk)
            .enumerate()
            .with_min_len(least)
            .fold(
                || Self::new(top_k),
                |mut read, (index, chunk_values)| {
                    let mut sums = [0.0; 4];
                    for (row, values) in chunk_values.chunks(columns).enumerate() {
                        let position = index * rows_at_once + row;
                        read.add(values, position, shift, &mut sums);
                    }
                    read.chunks.push((index, sums));
                    read
                },
            )
            .reduce(|| Self::new(top_k), Self::merge)
    }

    fn new(k: usize) -> Self {
        Self {
            histogram: vec![0; BUCKETS],
            top: Top::new(k),
            chunks: Vec::new(),
            ratio: None,
            large: Vec::new(),
            non_finite: 0,
            scratch: Vec::new(),
        }
    }

    /// One token.
    fn add(&mut self, row: &[f32], position: usize, shift: f64, total: &mut [f64; 4]) {
        let mut sums = [[0.0; LANES]; 4];
        let mut largest = 0;
        vectorise(
            #[inline(always)]
            || {
                add_powers(&mut sums, row, shift);
                largest = largest_bits(row);
            },
        );
        let sums = sums.map(|lanes: [f64; LANES]| lanes.iter().sum::<f64>());
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
        // Of a known length, in which a bucket is known to be.
        if let Some(histogram) = self.histogram.first_chunk_mut::<BUCKETS>() {
            for value in row {
                histogram[(magnitude_bits(*value) >> SHIFT) as usize % BUCKETS] += 1;
            }
        }
        if i64::from(largest) > self.top.floor() {
            self.top.add(row, position * row.len());
        }
        if largest >= INFINITY_BITS {
            self.non_finite += row.iter().filter(|value| !value.is_finite()).count();
        }
        self.compare_ratio(row, position, largest);
        let count = row.len() as f64;
        let squares = sums[1] + shift * (2.0 * sums[0] + shift * count);
        self.count_large(row, largest, LARGE * (squares / count).max(0.0).sqrt());
    }

    /// Takes the token's ratio if it is the largest so far. Most are seen not to be without their
    /// median: half of the token's values would have to be below what the ratio so far allows.
    fn compare_ratio(&mut self, row: &[f32], position: usize, largest: u32) {
        let max = f64::from(f32::from_bits(largest));
        let middle = (row.len() - 1) / 2;
        if let Some((best, _)) = self.ratio {
            // Rounding must not hide an equal ratio.
            let most = (max / best * (1.0 + 1e-6)) as f32;
            if count_up_to(row, most.to_bits()) <= middle {
                return;
            }
        }
        if count_up_to(row, 0) > middle {
            return;
        }
        self.scratch.clear();
        self.scratch
            .extend(row.iter().map(|value| magnitude_bits(*value)));
        let median = *self.scratch.select_nth_unstable(middle).1;
        let ratio = max / f64::from(f32::from_bits(median));
        if ratio.is_finite() {
            self.ratio = larger(self.ratio, Some((ratio, position)));
        }
    }

    /// Counts the dimensions whose magnitude is above the threshold.
    fn count_large(&mut self, row: &[f32], largest: u32, threshold: f64) {
        let mut above = threshold as f32;
        if f64::from(above) > threshold {
            above = above.next_down();
        }
        let above = above.to_bits();
        if largest <= above {
            return;
        }
        self.large.resize(row.len(), 0);
        let large = &mut self.large;
        vectorise(
            #[inline(always)]
            || {
                for (count, value) in large.iter_mut().zip(row) {
                    *count += u32::from(magnitude_bits(*value) > above);
                }
            },
        );
    }

    /// The sums over all values, added up in the order of the chunks.
    pub(super) fn sums(&mut self) -> [f64; 4] {
        self.chunks.sort_unstable_by_key(|(index, _)| *index);
        let mut total = [0.0; 4];
        for (_, sums) in &self.chunks {
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        total
    }

    /// Dimensions that are large anywhere, and in how many tokens.
    pub(super) fn large(&self) -> Vec<(u32, u32)> {
        let counts = (0u32..).zip(self.large.iter().copied());
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn merge(mut self, other: Self) -> Self {
        add_counts(&mut self.histogram, &other.histogram);
        self.top.merge(other.top);
        self.chunks.extend(other.chunks);
        self.ratio = larger(self.ratio, other.ratio);
        self.large
            .resize(self.large.len().max(other.large.len()), 0);
        add_counts(&mut self.large, &other.large);
        self.non_finite += other.non_finite;
        self
    }
}

fn add_counts(mine: &mut [u32], theirs: &[u32]) {
    for (mine, theirs) in mine.iter_mut().zip(theirs) {
        *mine += theirs;
    }
}

/// The larger ratio; of equal ones the earlier token's.
fn larger(a: Option<(f64, usize)>, b: Option<(f64, usize)>) -> Option<(f64, usize)> {
    let (Some(first), Some(second)) = (a, b) else {
        return a.or(b);
    };
    let order = first.0.total_cmp(&second.0).then(second.1.cmp(&first.1));
    Some(if order.is_lt() { second } else { first })
}

/// Adds (x - shift) and its powers, each in float64, in lanes that vectorise.
#[inline(always)]
fn add_powers(sums: &mut [[f64; LANES]; 4], values: &[f32], shift: f64) {
    let [first, second, third, fourth] = sums;
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            let value = f64::from(chunk[lane]) - shift;
            let square = value * value;
            first[lane] += value;
            second[lane] += square;
            third[lane] += square * value;
            fourth[lane] += square * square;
        }
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        let value = f64::from(*value) - shift;
        let square = value * value;
        first[lane] += value;
        second[lane] += square;
        third[lane] += square * value;
        fourth[lane] += square * square;
    }
}

#[inline(always)]
fn largest_bits(values: &[f32]) -> u32 {
    let mut largest = 0;
    for value in values {
        largest = largest.max(magnitude_bits(*value));
    }
    largest
}

/// How many magnitudes have these bits or lower ones.
fn count_up_to(row: &[f32], bits: u32) -> usize {
    let mut count = 0u32;
    vectorise(
        #[inline(always)]
        || {
            count = 0;
            for value in row {
                count += u32::from(magnitude_bits(*value) <= bits);
            }
        },
    );
    count as usize
}
