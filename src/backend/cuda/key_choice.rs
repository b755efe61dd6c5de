//! Which keys a query sees, where an indexer chooses them (`kernels/key_choice.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    constants::KEY_CHOICE_THREADS,
    device::Device,
    tensors::{int, suffix},
};
use crate::{
    backend::{self, KeyChoice, Rows},
    error::Result,
    model::dtype::DType,
};

/// A choice of keys on the device.
#[derive(Debug)]
pub struct KeyMask<D: Device> {
    /// `[rows, words]` of 32 bits, in the place of numbers.
    pub(super) bits: Tensor<D>,
}

impl<D: Device> KeyMask<D> {
    /// Brings it to the host.
    pub(super) fn on_host(&self, cuda: &Cuda<D>) -> Result<backend::KeyMask> {
        Ok(backend::KeyMask {
            words: self.bits.columns,
            bits: cuda.fetch(&self.bits.buffer, self.bits.len())?,
        })
    }
}

impl<D: Device> KeyChoice for Cuda<D> {
    fn choose_keys(
        &self,
        q: &Tensor<D>,
        k: &Tensor<D>,
        weights: &Tensor<D>,
        sequences: &[Rows],
        (keys, rate): (&[Rows], usize),
        most: usize,
    ) -> Result<KeyMask<D>> {
        let words = backend::KeyMask::words_for(keys);
        let bits = self.tensor(q.rows, words, DType::Float32)?;
        for (rows, keys) in sequences.iter().zip(keys) {
            let blocks = self.blocks(256 * rows.len()) as usize;
            let blocks = blocks.min(rows.len());
            let scores = self.buffer(blocks * keys.len().max(1) * size_of::<u32>())?;
            let from = |x: &Tensor<D>, rows: &Rows| {
                let start = rows.start * x.columns * x.dtype.size();
                x.buffer.address().offset(start)
            };
            self.launch(
                &format!("choose_keys_{}", suffix(q.dtype)),
                [int(blocks)?.cast_unsigned(), 1],
                KEY_CHOICE_THREADS as u32,
                &[
                    from(q, rows).into(),
                    from(k, keys).into(),
                    from(weights, rows).into(),
                    scores.address().into(),
                    from(&bits, rows).into(),
                    int(rows.len())?.into(),
                    int(keys.len())?.into(),
                    int(rate)?.into(),
                    int(weights.columns)?.into(),
                    int(k.columns)?.into(),
                    int(words)?.into(),
                    int(most)?.into(),
                ],
            )?;
        }
        Ok(KeyMask { bits })
    }

    fn gather_choices(&self, mask: &KeyMask<D>, rows: &[usize]) -> Result<KeyMask<D>> {
        // As they are: copies of numbers are copies of bits.
        let bits = backend::RowOperations::gather_rows(self, &mask.bits, rows)?;
        Ok(KeyMask { bits })
    }
}
