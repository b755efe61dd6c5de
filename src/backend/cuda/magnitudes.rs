//! Exact median, top-k and massive entries of |x|, mean and standard deviation of x (`kernels/statistics_*.cu`).
//!
//! Everything is decided on the device; a few hundred bytes per sequence, and the massive values, stay there until
//! they are read at the end of the run.
#![forbid(unsafe_code)]

use half::f16;

use super::{
    Cuda, Tensor,
    constants::{STATISTICS_ROUND, STATISTICS_STATIC_BYTES, STATISTICS_THREADS},
    device::{Address, Argument, Device},
    massive::Listed,
    memory::Buffer,
    tensors::{int, suffix},
};
use crate::{
    backend::{
        Elementwise, Entry, Magnitudes, Rows, Statistics, StatisticsRequest, magnitudes::moments,
    },
    error::{Error, Result},
    model::dtype::DType,
};

/// Room for candidates of one sequence: where more pass the absolute threshold, the sequence is read again.
const CANDIDATES: usize = 4096;

/// Index of an entry that is not there.
const NOWHERE: u32 = u32::MAX;

/// Statistics on the device, one for each sequence.
#[derive(Debug)]
pub struct Pending<D: Device> {
    sequences: usize,
    columns: usize,
    dtype: DType,
    request: StatisticsRequest,
    counts: Vec<u32>,
    /// `[sequences, 2]`: candidates, values not finite.
    counters: Buffer<D>,
    /// `[sequences, 2]`: the median's magnitude, 0.
    select: Buffer<D>,
    /// `[sequences, 2]` in float64: sums of the values and of their squares, if asked for.
    sums: Option<Buffer<D>>,
    /// `[sequences, top_k]` of (index, value).
    entries: Buffer<D>,
    /// Where values can be massive at all.
    massive: Option<Listed<D>>,
}

/// Values above the absolute threshold, before the median is known.
struct Candidates<D: Device> {
    /// `[sequences, capacity]` of (index, value).
    list: Buffer<D>,
    capacity: usize,
}

/// Bits of |x|.
pub(super) fn magnitude_bits(dtype: DType) -> u32 {
    match dtype {
        DType::Float32 => 31,
        DType::BFloat16 | DType::Float16 => 15,
    }
}

/// The largest magnitude of this type that is not above the threshold.
fn magnitude_of(threshold: f32, dtype: DType) -> u32 {
    let bits = threshold.to_bits();
    match dtype {
        DType::Float32 => bits,
        DType::BFloat16 => bits >> 16,
        DType::Float16 => {
            let nearest = f16::from_f32(threshold);
            let above = nearest.to_f32() > threshold;
            u32::from(nearest.to_bits()) - u32::from(above)
        }
    }
}

pub(super) fn magnitude_value(magnitude: u32, dtype: DType) -> f32 {
    match dtype {
        DType::Float32 => f32::from_bits(magnitude),
        DType::BFloat16 => f32::from_bits(magnitude << 16),
        DType::Float16 => f16::from_bits(magnitude as u16).to_f32(),
    }
}

/// What all kernels of one call get.
pub(super) struct Call<'c, D: Device> {
    cuda: &'c Cuda<D>,
    pub(super) x: Argument<'c>,
    suffix: &'static str,
    pub(super) sequences: u32,
    /// Blocks for each sequence.
    pub(super) blocks: u32,
    pub(super) starts: Buffer<D>,
    pub(super) counts: Buffer<D>,
    pub(super) bins_log2: u32,
    /// By the upper bits of |x|, of each sequence.
    pub(super) histogram: Buffer<D>,
    top: Buffer<D>,
    /// Of each block.
    sums: Option<Buffer<D>>,
    below: Buffer<D>,
}

impl<D: Device> Magnitudes for Cuda<D> {
    fn statistics(
        &self,
        x: &Tensor<D>,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Pending<D>> {
        Ok(self.measure(x, sequences, request, None)?.1)
    }

    fn add_statistics(
        &self,
        x: &mut Tensor<D>,
        other: &Tensor<D>,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Pending<D>> {
        // Two blocks must not write one vector.
        if !x.columns.is_multiple_of(16 / x.dtype.size()) {
            self.add(x, other)?;
            return self.statistics(x, sequences, request);
        }
        Ok(self.measure(x, sequences, request, Some(other))?.1)
    }

    fn list_bytes(&self, rows: usize, columns: usize, request: &StatisticsRequest) -> usize {
        self.massive.bytes(rows, columns, request)
    }

    fn read_statistics(&self, pending: Pending<D>) -> Result<Vec<Statistics>> {
        let keep = pending.request.top_k.max(1);
        let counters: Vec<[u32; 2]> = self.fetch(&pending.counters, pending.sequences)?;
        let select: Vec<[u32; 2]> = self.fetch(&pending.select, pending.sequences)?;
        let sums: Vec<[f64; 2]> = match &pending.sums {
            Some(sums) => self.fetch(sums, pending.sequences)?,
            None => Vec::new(),
        };
        let entries: Vec<[u32; 2]> = self.fetch(&pending.entries, pending.sequences * keep)?;
        let entry = |[index, bits]: [u32; 2]| Entry {
            position: index as usize / pending.columns,
            dimension: index as usize % pending.columns,
            value: f32::from_bits(bits),
        };
        (0..pending.sequences)
            .map(|sequence| {
                let [_, non_finite] = counters[sequence];
                let median = magnitude_value(select[sequence][0], pending.dtype);
                let request = &pending.request;
                let mut massive = match &pending.massive {
                    Some(listed) => self.bring_massive(listed, sequence)?,
                    None => Vec::new(),
                };
                massive.sort_unstable();
                let top = &entries[sequence * keep..(sequence + 1) * keep];
                let top = top.iter().take_while(|[index, _]| *index != NOWHERE);
                let top: Vec<Entry> = top.copied().map(entry).collect();
                let count = pending.counts[sequence] as usize;
                debug_assert_eq!(top.len(), keep.min(count));
                Ok(Statistics {
                    max: top.first().map_or(0.0, |entry| entry.value.abs()),
                    median,
                    top: top.into_iter().take(request.top_k).collect(),
                    massive: massive.into_iter().map(entry).collect(),
                    moments: sums.get(sequence).map(|sums| moments(count, *sums)),
                    non_finite: non_finite as usize,
                })
            })
            .collect()
    }
}

impl<D: Device> Cuda<D> {
    /// Statistics of `x`, to which `added` is added first, and what they were made from.
    pub(super) fn measure<'c>(
        &'c self,
        x: &'c Tensor<D>,
        sequences: &[Rows],
        request: &StatisticsRequest,
        added: Option<&Tensor<D>>,
    ) -> Result<(Call<'c, D>, Pending<D>)> {
        let starts: Vec<u64> = sequences
            .iter()
            .map(|rows| (rows.start * x.columns) as u64)
            .collect();
        let counts: Vec<u32> = sequences
            .iter()
            .map(|rows| count(rows.len() * x.columns))
            .collect::<Result<_>>()?;
        let largest = counts.iter().copied().max().unwrap_or(0) as usize;
        let number = sequences.len();
        let limits = self.device.limits();
        let bins_log2 = if limits.shared_bytes >= (4 << 15) + STATISTICS_STATIC_BYTES as u32 {
            15
        } else {
            14
        };
        let tiles = (largest * x.dtype.size())
            .div_ceil(16 * STATISTICS_THREADS)
            .max(1);
        // A multiprocessor has memory for one block's bins: one more block than there are multiprocessors would
        // take as long as all of them.
        let share = (limits.multiprocessors as usize / number.max(1)).max(1);
        let blocks = tiles.min(share) as u32;
        let sums = |sums: usize| {
            let wanted = request.moments.then(|| self.buffer(sums * 16));
            wanted.transpose()
        };
        let call = Call {
            cuda: self,
            x: x.buffer.address().into(),
            suffix: suffix(x.dtype),
            sequences: int(number)?.cast_unsigned(),
            blocks,
            starts: self.list(&starts)?,
            counts: self.list(&counts)?,
            bins_log2,
            histogram: self.buffer(number * (4 << bins_log2))?,
            top: self.buffer(number * blocks as usize * STATISTICS_ROUND * 8)?,
            sums: sums(number * blocks as usize)?,
            below: self.buffer(number * 8)?,
        };
        let keep = request.top_k.max(1);
        let rows = sequences.iter().map(|rows| rows.len()).sum();
        let massive = self.room_for_massive(call.sequences, (rows, x.columns), request)?;
        let pending = Pending {
            sequences: number,
            columns: x.columns,
            dtype: x.dtype,
            request: *request,
            counts,
            counters: self.buffer(number * 8)?,
            select: self.buffer(number * 8)?,
            sums: sums(number)?,
            entries: self.buffer(number * keep * 8)?,
            massive,
        };
        let capacity = CANDIDATES.min(largest);
        let candidates = pending.massive.as_ref().map(|_| {
            Ok(Candidates {
                list: self.buffer(number * capacity * 8)?,
                capacity,
            })
        });
        let candidates = candidates.transpose()?;
        call.clear(&pending.counters, number * 8)?;
        let first = Round::first(&pending, call.sums.as_ref(), candidates.as_ref());
        match added {
            Some(other) => call.read_added(first, other)?,
            None => call.read(first)?,
        }
        call.median(x.dtype, &pending.select)?;
        call.merge(&pending, 0)?;
        if let (Some(candidates), Some(massive)) = (&candidates, &pending.massive) {
            call.collect(&pending, candidates, massive)?;
        }
        let scratch = self.buffer(number * 8)?;
        for offset in (STATISTICS_ROUND..keep).step_by(STATISTICS_ROUND) {
            call.read(Round::later(&pending, offset, &scratch))?;
            call.merge(&pending, offset)?;
        }
        Ok((call, pending))
    }
}

/// Values are counted and numbered in 32 bits, of which one number means none.
fn count(values: usize) -> Result<u32> {
    u32::try_from(values)
        .ok()
        .filter(|count| *count < NOWHERE)
        .ok_or_else(|| {
            Error::new(
                "statistics",
                format!("a sequence of {values} values is beyond 2^32"),
            )
            .remedy("use a shorter --context-length")
        })
}

/// Which entries a read looks for.
struct Round {
    keep: usize,
    below: bool,
    counters: Address,
    sums: Option<Address>,
    list: Option<Address>,
    list_above: u32,
    capacity: usize,
}

impl Round {
    fn first<D: Device>(
        pending: &Pending<D>,
        sums: Option<&Buffer<D>>,
        candidates: Option<&Candidates<D>>,
    ) -> Self {
        Self {
            keep: pending.request.top_k.clamp(1, STATISTICS_ROUND),
            below: false,
            counters: pending.counters.address(),
            sums: sums.map(Buffer::address),
            list: candidates.map(|candidates| candidates.list.address()),
            list_above: magnitude_of(pending.request.abs_threshold, pending.dtype),
            capacity: candidates.map_or(0, |candidates| candidates.capacity),
        }
    }

    /// Only more of the largest entries; what else it finds goes to `scratch`.
    fn later<D: Device>(pending: &Pending<D>, offset: usize, scratch: &Buffer<D>) -> Self {
        Self {
            keep: (pending.request.top_k - offset).min(STATISTICS_ROUND),
            below: true,
            counters: scratch.address(),
            sums: None,
            list: None,
            list_above: magnitude_of(f32::INFINITY, pending.dtype),
            capacity: 0,
        }
    }
}

impl<D: Device> Call<'_, D> {
    pub(super) fn clear(&self, buffer: &Buffer<D>, bytes: usize) -> Result<()> {
        self.cuda.device.clear(buffer.address(), bytes)
    }

    pub(super) fn launch(
        &self,
        kernel: &str,
        blocks: u32,
        threads: u32,
        shared: u32,
        arguments: &[Argument<'_>],
    ) -> Result<()> {
        let kernel = format!("{kernel}_{}", self.suffix);
        self.cuda.launch_with(
            &kernel,
            [blocks, self.sequences],
            threads,
            shared,
            arguments,
        )
    }

    /// Kernel `statistics_read`.
    fn read(&self, round: Round) -> Result<()> {
        let below = round.below.then(|| self.below.address());
        let sequences = [self.starts.address(), self.counts.address()].map(Argument::from);
        let [starts, counts] = sequences;
        let what = [self.x, starts, counts, below.into()];
        self.launch_read("statistics_read", round, what)
    }

    /// Kernel `statistics_read_added`.
    fn read_added(&self, round: Round, other: &Tensor<D>) -> Result<()> {
        let sequences = [self.starts.address(), self.counts.address()].map(Argument::from);
        let [starts, counts] = sequences;
        let what = [self.x, other.buffer.address().into(), starts, counts];
        self.launch_read("statistics_read_added", round, what)
    }

    fn launch_read(
        &self,
        kernel: &str,
        round: Round,
        [a, b, c, d]: [Argument<'_>; 4],
    ) -> Result<()> {
        self.clear(&self.histogram, self.histogram.bytes())?;
        self.launch(
            kernel,
            self.blocks,
            STATISTICS_THREADS as u32,
            4 << self.bins_log2,
            &[
                a,
                b,
                c,
                d,
                self.histogram.address().into(),
                self.top.address().into(),
                round.sums.into(),
                round.list.into(),
                round.counters.into(),
                self.bins_log2.cast_signed().into(),
                int(round.keep)?.into(),
                round.list_above.into(),
                int(round.capacity)?.into(),
            ],
        )
    }

    /// The median's magnitude into `select`.
    fn median(&self, dtype: DType, select: &Buffer<D>) -> Result<()> {
        self.rank(&self.histogram, self.bins_log2, true, select)?;
        let fine_log2 = magnitude_bits(dtype).saturating_sub(self.bins_log2);
        if fine_log2 == 0 {
            return Ok(());
        }
        let bytes = self.sequences as usize * (4 << fine_log2);
        let fine = self.cuda.buffer(bytes)?;
        self.clear(&fine, bytes)?;
        self.launch(
            "statistics_fine",
            self.blocks,
            STATISTICS_THREADS as u32,
            0,
            &[
                self.x,
                self.starts.address().into(),
                self.counts.address().into(),
                select.address().into(),
                fine.address().into(),
                fine_log2.cast_signed().into(),
            ],
        )?;
        self.rank(&fine, fine_log2, false, select)
    }

    fn rank(
        &self,
        bins: &Buffer<D>,
        bins_log2: u32,
        first: bool,
        select: &Buffer<D>,
    ) -> Result<()> {
        self.cuda.launch(
            "statistics_rank",
            [1, self.sequences],
            STATISTICS_THREADS as u32,
            &[
                bins.address().into(),
                self.counts.address().into(),
                select.address().into(),
                bins_log2.cast_signed().into(),
                i32::from(first).into(),
            ],
        )
    }

    /// The entries `offset..` of the top list.
    fn merge(&self, pending: &Pending<D>, offset: usize) -> Result<()> {
        let stride = pending.request.top_k.max(1);
        // Later rounds leave the blocks' sums, of which the first one made the total, as they are.
        let total = pending.sums.as_ref().filter(|_| offset == 0);
        self.launch(
            "statistics_top",
            1,
            32,
            0,
            &[
                self.x,
                self.starts.address().into(),
                self.top.address().into(),
                self.sums.as_ref().map(Buffer::address).into(),
                total.map(Buffer::address).into(),
                pending.entries.address().into(),
                self.below.address().into(),
                self.blocks.cast_signed().into(),
                int((stride - offset).min(STATISTICS_ROUND))?.into(),
                int(offset)?.into(),
                int(stride)?.into(),
            ],
        )
    }

    /// Kernel `statistics_collect`.
    fn collect(
        &self,
        pending: &Pending<D>,
        candidates: &Candidates<D>,
        massive: &Listed<D>,
    ) -> Result<()> {
        let (entries, taken, owner, room) = massive.target();
        self.launch(
            "statistics_collect",
            self.blocks,
            STATISTICS_THREADS as u32,
            0,
            &[
                self.x,
                self.starts.address().into(),
                self.counts.address().into(),
                pending.select.address().into(),
                candidates.list.address().into(),
                pending.counters.address().into(),
                entries.into(),
                taken.into(),
                owner.into(),
                room.into(),
                pending.request.abs_threshold.into(),
                pending.request.rel_threshold.into(),
                int(candidates.capacity)?.into(),
            ],
        )
    }
}
