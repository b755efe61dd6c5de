//! The distribution of a tensor's values (`kernels/profile_*.cu`, and those of the statistics).
//!
//! As with statistics everything is decided on the device. What stays there until the end of the run is
//! the partial sums of some blocks, the bins, and a count for each dimension.
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    constants::{PROFILE_BINS, PROFILE_LOWEST, PROFILE_SLOTS, PROFILE_THREADS, STATISTICS_THREADS},
    device::Device,
    magnitudes::{Call, Pending, magnitude_bits, magnitude_value},
    memory::Buffer,
    tensors::int,
};
use crate::{
    backend::{
        Magnitudes, Profile, ProfileRequest, Profiles, Rows, StatisticsRequest,
        profiles::{
            CLIPPED_AT, CentralMoments, HISTOGRAM_BINS, LARGE, LOWEST_EXPONENT, QUANTILES, between,
            quantile_ranks,
        },
    },
    error::Result,
    model::dtype::DType,
};

/// Two ranks a quantile, and the largest value's.
const SLOTS: usize = 2 * QUANTILES.len() + 1;

const _: () = assert!(SLOTS <= PROFILE_SLOTS);
const _: () = assert!(PROFILE_BINS == HISTOGRAM_BINS);
const _: () = assert!(PROFILE_LOWEST as i32 == -LOWEST_EXPONENT);

/// Profiles on the device, one for each sequence.
#[derive(Debug)]
pub struct PendingProfile<D: Device> {
    statistics: Pending<D>,
    dtype: DType,
    columns: usize,
    rows: Vec<u32>,
    /// Of the kernels that leave partial sums.
    blocks: usize,
    /// `[sequences, blocks, 4]` in float64.
    sums: Buffer<D>,
    /// `[sequences, blocks]`, in float64 and in 32 bits.
    ratios: Buffer<D>,
    positions: Buffer<D>,
    /// `[sequences, columns]`
    large: Buffer<D>,
    /// `[sequences, slots, 2]`: a magnitude, 0.
    ranks: Buffer<D>,
    /// `[sequences, bins]`
    bins: Buffer<D>,
    /// `[sequences, blocks, 2]` in float64.
    errors: Buffer<D>,
}

impl<D: Device> Profiles for Cuda<D> {
    fn profile(
        &self,
        x: &Tensor<D>,
        sequences: &[Rows],
        request: &ProfileRequest,
    ) -> Result<PendingProfile<D>> {
        let statistics = StatisticsRequest {
            top_k: request.top_k,
            abs_threshold: f32::INFINITY,
            rel_threshold: f32::INFINITY,
            moments: false,
        };
        let (call, statistics) = self.measure(x, sequences, &statistics, None)?;
        let number = sequences.len();
        let rows: Vec<u32> = sequences
            .iter()
            .map(|rows| Ok(int(rows.len())?.cast_unsigned()))
            .collect::<Result<_>>()?;
        let blocks = call.blocks as usize;
        let pending = PendingProfile {
            statistics,
            dtype: x.dtype,
            columns: x.columns,
            blocks,
            sums: self.buffer(number * blocks * 32)?,
            ratios: self.buffer(number * blocks * 8)?,
            positions: self.buffer(number * blocks * 4)?,
            large: self.buffer(number * x.columns * 4)?,
            ranks: self.list(&first_ranks(&rows, x.columns))?,
            bins: self.buffer(number * HISTOGRAM_BINS * 4)?,
            errors: self.buffer(number * blocks * 16)?,
            rows,
        };
        self.launch_tokens(&call, &pending)?;
        self.launch_ranks(&call, &pending)?;
        self.launch_errors(&call, &pending)?;
        Ok(pending)
    }

    fn read_profiles(&self, pending: PendingProfile<D>) -> Result<Vec<Profile>> {
        let number = pending.rows.len();
        let (blocks, columns) = (pending.blocks, pending.columns);
        let sums: Vec<[f64; 4]> = self.fetch(&pending.sums, number * blocks)?;
        let ratios: Vec<f64> = self.fetch(&pending.ratios, number * blocks)?;
        let positions: Vec<u32> = self.fetch(&pending.positions, number * blocks)?;
        let large: Vec<u32> = self.fetch(&pending.large, number * columns)?;
        let ranks: Vec<[u32; 2]> = self.fetch(&pending.ranks, number * SLOTS)?;
        let bins: Vec<u32> = self.fetch(&pending.bins, number * HISTOGRAM_BINS)?;
        let errors: Vec<[f64; 2]> = self.fetch(&pending.errors, number * blocks)?;
        let statistics = self.read_statistics(pending.statistics)?;
        let profiles = statistics.into_iter().enumerate().map(|(sequence, found)| {
            let of_blocks = sequence * blocks..(sequence + 1) * blocks;
            let rows = pending.rows[sequence] as usize;
            let count = rows * columns;
            let at = |slot: usize| {
                let [magnitude, _] = ranks[sequence * SLOTS + slot];
                f64::from(magnitude_value(magnitude, pending.dtype))
            };
            let mut quantiles = [0.0; QUANTILES.len()];
            for (index, quantile) in QUANTILES.iter().enumerate() {
                let (.., way) = quantile_ranks(*quantile, count);
                quantiles[index] = between(at(2 * index), at(2 * index + 1), way);
            }
            let [whole, clipped] = total(&errors[of_blocks.clone()]);
            let scale = |most: f64| (most / 127.0).powi(2);
            let clip = quantiles[CLIPPED_AT];
            let tokens = ratios[of_blocks.clone()]
                .iter()
                .zip(&positions[of_blocks.clone()]);
            Profile {
                rows,
                moments: CentralMoments::of_sums(count, 0.0, total(&sums[of_blocks])),
                max: found.max,
                top: found.top,
                median: found.median,
                quantiles,
                histogram: bins[sequence * HISTOGRAM_BINS..][..HISTOGRAM_BINS].to_vec(),
                token_ratio: tokens
                    .filter(|(ratio, _)| **ratio > 0.0)
                    .max_by(|a, b| a.0.total_cmp(b.0).then(b.1.cmp(a.1)))
                    .map(|(ratio, position)| (*ratio, *position as usize)),
                large: (0..)
                    .zip(large[sequence * columns..][..columns].iter().copied())
                    .filter(|(_, tokens)| *tokens > 0)
                    .collect(),
                int8_error: whole * scale(f64::from(found.max)),
                int8_clipped_error: (clip > 0.0).then(|| clipped * scale(clip)),
                non_finite: found.non_finite,
            }
        });
        Ok(profiles.collect())
    }
}

/// No bits found yet, and the ranks.
fn first_ranks(rows: &[u32], columns: usize) -> Vec<[u32; 2]> {
    let mut all = Vec::with_capacity(rows.len() * SLOTS);
    for rows in rows {
        // Statistics refuse sequences beyond 32 bits.
        let count = *rows as usize * columns;
        let ranks = QUANTILES.iter().flat_map(|quantile| {
            let (low, high, _) = quantile_ranks(*quantile, count);
            [low, high]
        });
        let ranks = ranks.chain([count.saturating_sub(1)]);
        all.extend(ranks.map(|rank| [0, rank as u32]));
    }
    all
}

/// What the blocks added up, in their order.
fn total<const N: usize>(parts: &[[f64; N]]) -> [f64; N] {
    let mut total = [0.0; N];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}

impl<D: Device> Cuda<D> {
    fn launch_tokens(&self, call: &Call<'_, D>, pending: &PendingProfile<D>) -> Result<()> {
        call.clear(&pending.large, pending.large.bytes())?;
        let rows = self.list(&pending.rows)?;
        call.launch(
            "profile_tokens",
            call.blocks,
            PROFILE_THREADS as u32,
            0,
            &[
                call.x,
                call.starts.address().into(),
                rows.address().into(),
                pending.sums.address().into(),
                pending.ratios.address().into(),
                pending.positions.address().into(),
                pending.large.address().into(),
                int(pending.columns)?.into(),
                (LARGE as f32).into(),
            ],
        )
    }

    /// The magnitudes at the ranks, and the bins.
    fn launch_ranks(&self, call: &Call<'_, D>, pending: &PendingProfile<D>) -> Result<()> {
        call.clear(&pending.bins, pending.bins.bytes())?;
        call.launch(
            "profile_bins",
            call.blocks,
            STATISTICS_THREADS as u32,
            0,
            &[
                call.x,
                call.starts.address().into(),
                call.counts.address().into(),
                call.histogram.address().into(),
                pending.bins.address().into(),
                call.bins_log2.cast_signed().into(),
            ],
        )?;
        let select = |histogram: &Buffer<D>, bins_log2: u32, own: bool| {
            self.launch(
                "profile_select",
                [SLOTS as u32, call.sequences],
                STATISTICS_THREADS as u32,
                &[
                    histogram.address().into(),
                    pending.ranks.address().into(),
                    bins_log2.cast_signed().into(),
                    i32::from(own).into(),
                ],
            )
        };
        select(&call.histogram, call.bins_log2, false)?;
        let fine_log2 = magnitude_bits(pending.dtype).saturating_sub(call.bins_log2);
        if fine_log2 == 0 {
            return Ok(());
        }
        let bytes = call.sequences as usize * SLOTS * (4 << fine_log2);
        let fine = self.buffer(bytes)?;
        call.clear(&fine, bytes)?;
        call.launch(
            "profile_fine",
            call.blocks,
            STATISTICS_THREADS as u32,
            0,
            &[
                call.x,
                call.starts.address().into(),
                call.counts.address().into(),
                pending.ranks.address().into(),
                fine.address().into(),
                int(SLOTS)?.into(),
                fine_log2.cast_signed().into(),
            ],
        )?;
        select(&fine, fine_log2, true)
    }

    fn launch_errors(&self, call: &Call<'_, D>, pending: &PendingProfile<D>) -> Result<()> {
        let ways = pending.rows.iter().map(|rows| {
            let count = *rows as usize * pending.columns;
            quantile_ranks(QUANTILES[CLIPPED_AT], count).2
        });
        let ways = self.list(&ways.collect::<Vec<f64>>())?;
        call.launch(
            "profile_errors",
            call.blocks,
            STATISTICS_THREADS as u32,
            0,
            &[
                call.x,
                call.starts.address().into(),
                call.counts.address().into(),
                pending.ranks.address().into(),
                ways.address().into(),
                pending.errors.address().into(),
                int(SLOTS)?.into(),
                int(2 * CLIPPED_AT)?.into(),
            ],
        )
    }
}
