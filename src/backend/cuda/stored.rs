//! Moments of stored tensors, and rescaling (`kernels/stored.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda,
    constants::{MOMENTS_CHUNK, MOMENTS_THREADS},
    device::Device,
    memory::Buffer,
    tensors::{int, suffix},
};
use crate::{
    backend::{Moments, Rescaling, StoredTensors, stored::CHUNK},
    error::Result,
    interrupt,
    model::{dtype::DType, weights::Elements},
};

/// Bytes that a card gets at once when it measures. Whole chunks: a multiple of their size in every type.
const PIECE: usize = 64 << 20;

const _: () = assert!(MOMENTS_CHUNK == CHUNK);

/// Values of a checkpoint in device memory, as they are stored.
struct Values<D: Device> {
    buffer: Buffer<D>,
    dtype: DType,
    count: usize,
}

impl<D: Device> StoredTensors for Cuda<D> {
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>> {
        let dtype = elements.dtype;
        let mut all = Vec::with_capacity(elements.len().div_ceil(CHUNK));
        for bytes in elements.bytes.chunks(PIECE) {
            interrupt::check()?;
            let values = self.values(Elements { dtype, bytes })?;
            if let Some(change) = change {
                self.rescale_values(&values, change)?;
            }
            all.extend(self.moments_of_values(&values)?);
        }
        Ok(all)
    }

    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()> {
        let values = self.values(elements)?;
        self.rescale_values(&values, change)?;
        self.device.read(values.buffer.address(), out)
    }
}

impl<D: Device> Cuda<D> {
    /// Copies stored values to the device.
    fn values(&self, elements: Elements<'_>) -> Result<Values<D>> {
        Ok(Values {
            buffer: self.stored(elements.bytes)?,
            dtype: elements.dtype,
            count: elements.len(),
        })
    }

    /// Of every chunk, the last of what remains.
    fn moments_of_values(&self, values: &Values<D>) -> Result<Vec<Moments>> {
        let chunks = values.count.div_ceil(CHUNK);
        let out = self.buffer(chunks * size_of::<[f64; 4]>())?;
        self.launch(
            &format!("moments_{}", suffix(values.dtype)),
            [int(chunks)?.cast_unsigned(), 1],
            MOMENTS_THREADS as u32,
            &[
                values.buffer.address().into(),
                out.address().into(),
                (values.count as u64).into(),
            ],
        )?;
        let found: Vec<[f64; 4]> = self.fetch(&out, chunks)?;
        let starts = (0..values.count).step_by(CHUNK);
        Ok(starts
            .zip(found)
            .map(|(start, [mean, squares, min, max])| Moments {
                count: CHUNK.min(values.count - start),
                mean,
                squares,
                min,
                max,
            })
            .collect())
    }

    /// In place, in float64, rounded once to the stored type.
    fn rescale_values(&self, values: &Values<D>, change: Rescaling) -> Result<()> {
        let per_vector = 16 / values.dtype.size();
        self.launch(
            &format!("rescale_{}", suffix(values.dtype)),
            [self.blocks(values.count.div_ceil(per_vector)), 1],
            256,
            &[
                values.buffer.address().into(),
                (values.count as u64).into(),
                change.mean.to_bits().into(),
                change.std.to_bits().into(),
                change.target.to_bits().into(),
            ],
        )
    }
}
