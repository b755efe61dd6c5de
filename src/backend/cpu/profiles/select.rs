//! The second read of a profile: the values at some ranks, exactly.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{
    super::{magnitudes::magnitude_bits, simd::vectorise},
    BUCKETS, CHUNK, PER_OCTAVE, SHIFT,
};

/// Nothing is wanted of this bucket.
const NONE: u8 = u8::MAX;
/// Values whose buckets are found together, one after the other in loops that vectorise.
const BLOCK: usize = 256;
/// Buckets below the tail's with which a value is compared in one go: those of all quantiles, unless values lie
/// so far apart that two ranks beside each other have two buckets.
const AT_ONCE: usize = 6;
/// No value is in this bucket.
const NOWHERE: u16 = u16::MAX;

/// What the second read finds.
pub(super) struct Selected {
    /// The bits of the magnitudes at the ranks.
    found: BTreeMap<usize, u32>,
    /// The bits of the magnitudes that have the rank where the tail begins or a higher one, and a few
    /// below it.
    pub(super) tail: Vec<u32>,
}

impl Selected {
    /// The bits of the magnitude at a rank that was asked for, if a value has it.
    pub(super) fn at(&self, rank: usize) -> Option<u32> {
        self.found.get(&rank).copied()
    }
}

/// Of which buckets values are kept, and where.
struct Wanted {
    /// For each bucket the list of its values.
    slots: Vec<u8>,
    /// The buckets below the tail's, some at a time, filled up with [`NOWHERE`].
    below_tail: Vec<[u16; AT_ONCE]>,
    /// The first bucket of the tail.
    tail: u16,
}

/// The magnitudes at these ranks, counted from the smallest; the histogram is that of all values. A rank
/// that no value has is left out. `tail_rank` is one of them.
pub(super) fn at_ranks(
    values: &[f32],
    histogram: &[u32],
    mut ranks: Vec<usize>,
    tail_rank: usize,
    least: usize,
) -> Selected {
    ranks.sort_unstable();
    ranks.dedup();
    // For each bucket with a rank in it: which, how many values are below it, and its ranks.
    let mut buckets: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    let (mut bucket, mut below) = (0, 0);
    for rank in ranks.into_iter().filter(|rank| *rank < values.len()) {
        loop {
            // Whole octaves at a time where that is possible.
            let octave = &histogram[bucket..(bucket + PER_OCTAVE).min(BUCKETS)];
            let all = octave.iter().sum::<u32>() as usize;
            let (count, step) = match rank >= below + all {
                true => (all, octave.len()),
                false => (histogram[bucket] as usize, 1),
            };
            if rank < below + count {
                break;
            }
            below += count;
            bucket += step;
        }
        match buckets.last_mut() {
            Some((last, _, ranks)) if *last == bucket => ranks.push(rank),
            _ => buckets.push((bucket, below, vec![rank])),
        }
    }
    let of_tail = |ranks: &[usize]| ranks.iter().any(|rank| *rank >= tail_rank);
    let first_of_tail = buckets.iter().position(|(_, _, ranks)| of_tail(ranks));
    let first_of_tail = first_of_tail.unwrap_or(buckets.len());
    let wanted = Wanted::new(&buckets, first_of_tail);
    let counts = buckets
        .iter()
        .map(|(bucket, ..)| histogram[*bucket] as usize);
    let below_tail = buckets
        .get(first_of_tail)
        .map_or(values.len(), |tail| tail.1);
    let room: Vec<usize> = counts.chain([values.len() - below_tail]).collect();
    let mut inside = wanted.collect(values, &room, least);
    let tail = inside[first_of_tail..].concat();
    let mut found = BTreeMap::new();
    for ((_, below, ranks), inside) in buckets.iter().zip(&mut inside) {
        for rank in ranks {
            found.insert(*rank, *inside.select_nth_unstable(rank - below).1);
        }
    }
    Selected { found, tail }
}

impl Wanted {
    fn new(buckets: &[(usize, usize, Vec<usize>)], first_of_tail: usize) -> Self {
        let tail = buckets.get(first_of_tail).map_or(BUCKETS, |tail| tail.0);
        let mut slots = vec![NONE; BUCKETS];
        slots[tail..].fill(buckets.len() as u8);
        for (slot, (bucket, ..)) in (0u8..).zip(buckets) {
            slots[*bucket] = slot;
        }
        let below_tail = buckets[..first_of_tail].chunks(AT_ONCE).map(|buckets| {
            let mut group = [NOWHERE; AT_ONCE];
            for (place, (bucket, ..)) in group.iter_mut().zip(buckets) {
                *place = *bucket as u16;
            }
            group
        });
        Self {
            slots,
            below_tail: below_tail.collect(),
            tail: tail as u16,
        }
    }

    /// The wanted values of each slot, in their order. No slot has more of them than there is room.
    fn collect(&self, values: &[f32], room: &[usize], least: usize) -> Vec<Vec<u32>> {
        let empty = || room.iter().copied().map(Vec::with_capacity).collect();
        values
            .par_chunks(CHUNK)
            .with_min_len(least)
            .fold(empty, |mut inside: Vec<Vec<u32>>, chunk| {
                let (blocks, rest) = chunk.as_chunks::<BLOCK>();
                vectorise(
                    #[inline(always)]
                    || {
                        for block in blocks {
                            let hits = self.hits(block);
                            for (part, hits) in hits.as_chunks::<8>().0.iter().enumerate() {
                                // A bit a value, which few have.
                                let mut hits = u64::from_le_bytes(*hits);
                                while hits != 0 {
                                    let place = part * 8 + hits.trailing_zeros() as usize / 8;
                                    self.keep(&block[place..=place], &mut inside);
                                    hits &= hits - 1;
                                }
                            }
                        }
                    },
                );
                self.keep(rest, &mut inside);
                inside
            })
            .reduce(empty, |mut mine, theirs| {
                for (mine, theirs) in mine.iter_mut().zip(theirs) {
                    mine.extend(theirs);
                }
                mine
            })
    }

    /// Whether a value is wanted, a byte each. Loops that do one thing are what vectorises.
    #[inline(always)]
    fn hits(&self, block: &[f32; BLOCK]) -> [u8; BLOCK] {
        let (mut buckets, mut hits) = ([0; BLOCK], [0; BLOCK]);
        for (bucket, value) in buckets.iter_mut().zip(block) {
            *bucket = (magnitude_bits(*value) >> SHIFT) as u16;
        }
        for (hit, bucket) in hits.iter_mut().zip(&buckets) {
            *hit = u8::from(*bucket >= self.tail);
        }
        for group in &self.below_tail {
            for (hit, bucket) in hits.iter_mut().zip(&buckets) {
                let mut inside = false;
                for wanted in group {
                    inside |= bucket == wanted;
                }
                *hit |= u8::from(inside);
            }
        }
        hits
    }

    #[inline(always)]
    fn keep(&self, values: &[f32], inside: &mut [Vec<u32>]) {
        for value in values {
            let bits = magnitude_bits(*value);
            let slot = self.slots[(bits >> SHIFT) as usize];
            if slot != NONE {
                inside[slot as usize].push(bits);
            }
        }
    }
}
