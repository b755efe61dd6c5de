//! The distribution of a tensor's values, in three reads.
//!
//! The first takes the moments, the largest values, the ratio of each token, and a histogram of the upper
//! bits of |x|, in which every quantile has its bucket. The second collects those buckets, about one value
//! in a hundred, and selects inside them. The third rounds to eight bits, for which largest value and
//! quantile must be known. Sums are in float64, some whole rows at a time and added up in their order, so
//! that they do not depend on the number of threads.
#![forbid(unsafe_code)]

mod errors;
mod read;
mod select;

use rayon::prelude::*;

use self::read::FirstRead;
use super::{Cpu, Tensor};
use crate::{
    backend::{
        Entry, Profile, ProfileRequest, Profiles, Rows,
        profiles::{
            BINS_PER_OCTAVE, CLIPPED_AT, CentralMoments, HISTOGRAM_BINS, QUANTILES, between,
            histogram_bin, quantile_ranks,
        },
    },
    error::Result,
    interrupt,
};

/// Bits below a bucket: 8 exponent and 7 fraction bits choose one of 32,768. More would leave less to
/// select from, but their counts would not stay in the nearest cache.
const SHIFT: u32 = 16;
const BUCKETS: usize = 1 << (31 - SHIFT);
/// Buckets to a factor of two.
const PER_OCTAVE: usize = 1 << (23 - SHIFT);
/// Values a thread reads at a time, as far as whole rows allow.
const CHUNK: usize = 1 << 16;

impl Profiles for Cpu {
    fn profile(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        request: &ProfileRequest,
    ) -> Result<Vec<Profile>> {
        interrupt::check()?;
        let profile = |rows: &Rows, least: usize| {
            let values = &x.values[rows.start * x.columns..rows.end * x.columns];
            profile_of(values, x.columns, request, least)
        };
        if sequences.len() < rayon::current_num_threads() {
            return Ok(sequences.iter().map(|rows| profile(rows, 1)).collect());
        }
        // A sequence a thread: nothing is counted in parts and put together, and nobody waits.
        let whole = sequences.par_iter().map(|rows| profile(rows, usize::MAX));
        Ok(whole.collect())
    }

    fn read_profiles(&self, pending: Vec<Profile>) -> Result<Vec<Profile>> {
        Ok(pending)
    }
}

/// The profile of a row-major matrix of `columns` columns, of which a task has at least so many chunks.
fn profile_of(values: &[f32], columns: usize, request: &ProfileRequest, least: usize) -> Profile {
    let rows_at_once = (CHUNK / columns.max(1)).max(1);
    let first_row = &values[..columns.min(values.len())];
    // Any value near the mean serves.
    let shift = first_row.iter().copied().map(f64::from).sum::<f64>() / columns.max(1) as f64;
    let shift = if shift.is_finite() { shift } else { 0.0 };
    let columns = columns.max(1);
    let top_k = request.top_k.max(1);
    let mut first = FirstRead::of(values, columns, (rows_at_once, least), shift, top_k);
    let count = values.len();
    let ranks = QUANTILES.map(|quantile| quantile_ranks(quantile, count));
    let median_rank = count.saturating_sub(1) / 2;
    let mut wanted: Vec<usize> = ranks
        .iter()
        .flat_map(|(low, high, _)| [*low, *high])
        .collect();
    wanted.push(median_rank);
    let selected = select::at_ranks(values, &first.histogram, wanted, ranks[CLIPPED_AT].0, least);
    let at = |rank: usize| selected.at(rank).map_or(0.0, f32::from_bits);
    let quantiles =
        ranks.map(|(low, high, way)| between(f64::from(at(low)), f64::from(at(high)), way));
    let entry = |index: usize| Entry {
        position: index / columns,
        dimension: index % columns,
        value: values[index],
    };
    let sums = first.sums();
    let top = first.top.entries();
    let max = top.first().map_or(0.0, |&(bits, _)| f32::from_bits(bits));
    let [int8_error, clipped] =
        errors::of(values, max, (quantiles[CLIPPED_AT], &selected.tail), least);
    Profile {
        rows: count / columns.max(1),
        moments: CentralMoments::of_sums(count, shift, sums),
        max,
        top: top
            .iter()
            .take(request.top_k)
            .map(|&(_, index)| entry(index))
            .collect(),
        median: at(median_rank),
        quantiles,
        histogram: coarse(&first.histogram),
        token_ratio: first.ratio,
        large: first.large(),
        int8_error,
        int8_clipped_error: (quantiles[CLIPPED_AT] > 0.0).then_some(clipped),
        non_finite: first.non_finite,
    }
}

/// The buckets' counts in the bins of a profile.
fn coarse(histogram: &[u32]) -> Vec<u32> {
    let mut bins = vec![0; HISTOGRAM_BINS];
    let parts = histogram.chunks(PER_OCTAVE / BINS_PER_OCTAVE);
    for (part, counts) in parts.enumerate() {
        let exponent = (part / BINS_PER_OCTAVE) as i32 - 127;
        bins[histogram_bin(exponent, part % BINS_PER_OCTAVE)] += counts.iter().sum::<u32>();
    }
    bins
}

#[cfg(test)]
mod tests;
