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
    /// `AttentionSection` of each sequence, if the tiles are in this order.
    pub sections: Option<Buffer<D>>,
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
            sections: None,
        })
    }

    /// The same, sequence by sequence: those with the most work first, and of each the tiles with the most. So many
    /// heads of a sequence of some length are computed at a time.
    pub(in super::super) fn by_sequence(
        cuda: &Cuda<D>,
        sequences: &[Rows],
        size: usize,
        work: impl Fn(usize, usize) -> usize,
        heads: impl Fn(usize) -> usize,
    ) -> Result<Self> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(sequences[*index].len()));
        let (mut records, mut sections) = (Vec::new(), vec![[0; 3]; sequences.len()]);
        for index in order {
            let (rows, length) = (&sequences[index], sequences[index].len());
            let mut firsts: Vec<usize> = (0..length).step_by(size).collect();
            firsts.sort_by_key(|first| std::cmp::Reverse(work(*first, length)));
            sections[index] = [int(records.len())?, int(firsts.len())?, int(heads(length))?];
            for first in firsts {
                records.push([int(rows.start)?, int(length)?, int(first)?, int(index)?]);
            }
        }
        Ok(Self {
            buffer: cuda.list(&records)?,
            count: records.len() as u32,
            sections: Some(cuda.list(&sections)?),
        })
    }
}
