//! Owned device memory.
#![forbid(unsafe_code)]

use std::{fmt, rc::Rc};

use super::device::{Address, Device};
use crate::error::Result;

/// Memory of a device, given back when dropped.
pub struct Buffer<D: Device> {
    device: Rc<D>,
    address: Address,
    bytes: usize,
}

impl<D: Device> Buffer<D> {
    /// Reserves memory, with arbitrary contents. Kernels read vectors of 16 bytes, so the last one
    /// is always whole.
    pub fn new(device: &Rc<D>, bytes: usize) -> Result<Self> {
        Ok(Self {
            device: Rc::clone(device),
            address: device.allocate(bytes.next_multiple_of(16).max(16))?,
            bytes,
        })
    }

    /// Reserves memory for these bytes and copies them there.
    pub fn with(device: &Rc<D>, bytes: &[u8]) -> Result<Self> {
        let buffer = Self::new(device, bytes.len())?;
        device.write(buffer.address, bytes)?;
        Ok(buffer)
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
