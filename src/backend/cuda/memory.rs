//! Owned device memory.
#![forbid(unsafe_code)]

use std::{fmt, rc::Rc};

use super::device::{Address, Device};
use crate::error::Result;

/// Enough rows to fill a large card in every product.
const MOST_ROWS: usize = 16_384;
/// Below this a card is idle most of the time; such a model should not run on it.
const FEWEST_ROWS: usize = 256;

/// Rows that pass through a layer together: as many as a quarter of the device's memory holds with
/// `width` float32 values each, in whole multiples of the fewest; the rest is for weights, residual
/// streams and the workspace.
pub(super) fn micro_batch_rows(memory_bytes: usize, width: usize) -> usize {
    let rows = memory_bytes / 4 / (width.max(1) * size_of::<f32>());
    (rows / FEWEST_ROWS * FEWEST_ROWS).clamp(FEWEST_ROWS, MOST_ROWS)
}

/// Memory of a device, given back when dropped.
pub struct Buffer<D: Device> {
    device: Rc<D>,
    address: Address,
    bytes: usize,
}

impl<D: Device> Buffer<D> {
    /// Reserves memory, with arbitrary contents. Kernels read vectors of 16 bytes, so the last one
    /// is always whole.
    pub(super) fn new(device: &Rc<D>, bytes: usize) -> Result<Self> {
        Ok(Self {
            device: Rc::clone(device),
            address: device.allocate(bytes.next_multiple_of(16).max(16))?,
            bytes,
        })
    }

    /// Its start.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The size that was asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<D: Device> Drop for Buffer<D> {
    fn drop(&mut self) {
        self.device.release(self.address);
    }
}

impl<D: Device> fmt::Debug for Buffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({:#x}, {} bytes)", self.address.0, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_fit_the_card() {
        // Llama-2-7B on 80 and 8 GB, GPT-2 on 8 GB, something enormous.
        assert_eq!(micro_batch_rows(80 << 30, 54_784), MOST_ROWS);
        assert_eq!(micro_batch_rows(8 << 30, 54_784), 9728);
        assert_eq!(micro_batch_rows(8 << 30, 9_216), MOST_ROWS);
        assert_eq!(micro_batch_rows(8 << 30, 1 << 30), FEWEST_ROWS);
    }
}
