//! Where weights are measured and rescaled: on the CPU, or on a card. Both compute the same bits.
#![forbid(unsafe_code)]

use std::fmt::Debug;

use rayon::prelude::*;

use super::{
    moments::{self, CHUNK, Moments},
    rescale::{Rescaling, store},
};
use crate::{
    backend::{
        cpu::Cpu,
        cuda::{Cuda, Device},
    },
    error::Result,
    interrupt,
    model::weights::Elements,
};

/// Bytes that a card gets at once when it measures.
const PIECE: usize = 64 << 20;

/// What TVR computes of a stored tensor.
pub trait Arithmetic: Debug {
    /// Moments of every 65,536 values, the last of what remains; of the values that rescaling would
    /// store, if one is given.
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>>;

    /// Stores the rescaled values in `out`, which has the size of the elements.
    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()>;
}

impl Arithmetic for Cpu {
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>> {
        moments::of_chunks(elements, |values| {
            if let Some(change) = change {
                change.apply(values, elements.dtype);
            }
        })
    }

    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()> {
        let (dtype, size) = (elements.dtype, elements.dtype.size());
        out.par_chunks_mut(CHUNK * size)
            .zip(elements.bytes.par_chunks(CHUNK * size))
            .for_each_init(
                || vec![0.0f32; CHUNK],
                |values, (out, bytes)| {
                    let values = &mut values[..bytes.len() / size];
                    Elements { dtype, bytes }.write_f32(values);
                    change.apply(values, dtype);
                    store(values, dtype, out);
                },
            );
        Ok(())
    }
}

impl<D: Device + Debug> Arithmetic for Cuda<D> {
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>> {
        let dtype = elements.dtype;
        let mut all = Vec::with_capacity(elements.len().div_ceil(CHUNK));
        // Whole chunks: a piece is a multiple of their size in every type.
        for bytes in elements.bytes.chunks(PIECE) {
            interrupt::check()?;
            let piece = Elements { dtype, bytes };
            let mut values = self.store(piece)?;
            if let Some(change) = change {
                Cuda::rescale(self, &mut values, change.mean, change.std, change.target)?;
            }
            let found = self.chunk_moments(&values)?;
            let mut left = piece.len();
            all.extend(found.into_iter().map(|found| {
                let count = left.min(CHUNK);
                left -= count;
                Moments::of_chunk(count, found)
            }));
        }
        Ok(all)
    }

    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()> {
        let mut values = self.store(elements)?;
        Cuda::rescale(self, &mut values, change.mean, change.std, change.target)?;
        self.read_stored(&values, out)
    }
}
