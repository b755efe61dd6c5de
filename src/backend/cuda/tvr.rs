//! Target variance rescaling of stored values (`kernels/tvr.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda,
    device::Device,
    memory::Buffer,
    tensor::{int, suffix},
};
use crate::{
    error::Result,
    model::{dtype::DType, weights::Elements},
};

/// Values whose moments a block takes.
const CHUNK: usize = 1 << 16;
/// Threads of such a block.
const THREADS: u32 = 512;

/// Values of a checkpoint in device memory, as they are stored.
#[derive(Debug)]
pub struct StoredValues<D: Device> {
    buffer: Buffer<D>,
    dtype: DType,
    count: usize,
}

/// The moments of up to 65,536 neighbouring values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkMoments {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub squares: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl<D: Device> Cuda<D> {
    /// Copies stored values to the device.
    pub fn store(&self, elements: Elements<'_>) -> Result<StoredValues<D>> {
        Ok(StoredValues {
            buffer: Buffer::with(&self.device, elements.bytes)?,
            dtype: elements.dtype,
            count: elements.len(),
        })
    }

    /// Copies them back; `out` has their size.
    pub fn read_stored(&self, values: &StoredValues<D>, out: &mut [u8]) -> Result<()> {
        self.device.read(values.buffer.address(), out)
    }

    /// Moments of every 65,536 values, the last of what remains.
    pub fn chunk_moments(&self, values: &StoredValues<D>) -> Result<Vec<ChunkMoments>> {
        let chunks = values.count.div_ceil(CHUNK);
        let out = Buffer::new(&self.device, chunks * size_of::<[f64; 4]>())?;
        self.launch(
            &format!("tvr_moments_{}", suffix(values.dtype)),
            [int(chunks)?.cast_unsigned(), 1],
            THREADS,
            &[
                values.buffer.address().into(),
                out.address().into(),
                (values.count as u64).into(),
            ],
        )?;
        let found: Vec<[f64; 4]> = self.fetch(&out, chunks)?;
        let moments = found.into_iter();
        Ok(moments
            .map(|[mean, squares, min, max]| ChunkMoments {
                mean,
                squares,
                min,
                max,
            })
            .collect())
    }

    /// `(x - mean) / std * target + mean` in float64, in place, rounded once to the stored type.
    pub fn rescale(
        &self,
        values: &mut StoredValues<D>,
        mean: f64,
        std: f64,
        target: f64,
    ) -> Result<()> {
        let per_vector = 16 / values.dtype.size();
        self.launch(
            &format!("tvr_rescale_{}", suffix(values.dtype)),
            [self.blocks(values.count.div_ceil(per_vector)), 1],
            256,
            &[
                values.buffer.address().into(),
                (values.count as u64).into(),
                mean.to_bits().into(),
                std.to_bits().into(),
                target.to_bits().into(),
            ],
        )
    }
}
