//! The second read of a profile: the values at some ranks, exactly.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{super::magnitudes::magnitude_bits, BUCKETS, CHUNK, SHIFT};

/// No rank is in this bucket.
const NONE: u8 = u8::MAX;

/// The bits of the magnitudes at these ranks, counted from the smallest; the histogram is that of all
/// values. A rank that no value has is left out.
pub(super) fn at_ranks(
    values: &[f32],
    histogram: &[u32],
    mut ranks: Vec<usize>,
) -> BTreeMap<usize, u32> {
    ranks.sort_unstable();
    ranks.dedup();
    // For each bucket with a rank in it, how many values are below it, and its ranks.
    let mut buckets: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut slots = vec![NONE; BUCKETS];
    let (mut bucket, mut below) = (0, 0);
    for rank in ranks.into_iter().filter(|rank| *rank < values.len()) {
        while rank >= below + histogram[bucket] as usize {
            below += histogram[bucket] as usize;
            bucket += 1;
        }
        if slots[bucket] == NONE {
            slots[bucket] = buckets.len() as u8;
            buckets.push((below, Vec::new()));
        }
        if let Some((_, ranks)) = buckets.last_mut() {
            ranks.push(rank);
        }
    }
    let empty = || vec![Vec::new(); buckets.len()];
    let mut inside: Vec<Vec<u32>> = values
        .par_chunks(CHUNK)
        .fold(empty, |mut inside: Vec<Vec<u32>>, chunk| {
            for value in chunk {
                let bits = magnitude_bits(*value);
                let slot = slots[(bits >> SHIFT) as usize];
                if slot != NONE {
                    inside[slot as usize].push(bits);
                }
            }
            inside
        })
        .reduce(empty, |mut mine, theirs| {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                mine.extend(theirs);
            }
            mine
        });
    let mut found = BTreeMap::new();
    for ((below, ranks), inside) in buckets.iter().zip(&mut inside) {
        for rank in ranks {
            found.insert(*rank, *inside.select_nth_unstable(rank - below).1);
        }
    }
    found
}
