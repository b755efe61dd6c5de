//! Which positions of which sequence each block works on.
#![forbid(unsafe_code)]

use super::super::{Buffer, Cuda, Device, tensors::int};
use crate::{backend::Rows, error::Result};

/// The tiles of a launch on the device: `AttentionTile` of `kernels/attention/arguments.cuh`.
pub(in super::super) struct Tiles<D: Device> {
    /// `[count]` records of four integers.
    pub buffer: Buffer<D>,
    /// How many.
    pub count: u32,
}

impl<D: Device> Tiles<D> {
    /// Cuts every sequence into tiles of `size` positions. Those with the most `work`, given their
    /// first position and the sequence's length, come first, so that the last blocks to finish are
    /// short ones.
    pub(in super::super) fn new(
        cuda: &Cuda<D>,
        sequences: &[Rows],
        size: usize,
        work: impl Fn(usize, usize) -> usize,
    ) -> Result<Self> {
        let mut tiles = Vec::new();
        for (index, rows) in sequences.iter().enumerate() {
            for first in (0..rows.len()).step_by(size) {
                let record = [int(rows.start)?, int(rows.len())?, int(first)?, int(index)?];
                tiles.push((work(first, rows.len()), record));
            }
        }
        tiles.sort_by_key(|(work, _)| std::cmp::Reverse(*work));
        let records: Vec<[i32; 4]> = tiles.into_iter().map(|(_, record)| record).collect();
        Ok(Self {
            buffer: cuda.list(&records)?,
            count: records.len() as u32,
        })
    }
}
