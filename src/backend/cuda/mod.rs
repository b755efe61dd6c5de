//! The CUDA backend: host code that launches the kernels of `kernels/`.
//!
//! It is generic over the [`Device`] it runs on, so that the emulator of the tests executes this
//! very code without a card. Every call only starts work; what brings numbers to the host waits.
//!
//! Each trait of the backend is implemented in its file, with the launches of its kernels.
mod attention;
mod cells;
mod compression;
mod constants;
mod convolutions;
mod decoders;
mod device;
pub mod driver;
mod elementwise;
mod experts;
mod inner_products;
mod key_choice;
mod magnitudes;
mod massive;
mod memory;
mod norms;
mod packed;
mod products;
mod profiles;
mod recurrences;
mod resident;
mod rotations;
mod row_scaling;
mod rows;
mod stored;
mod streams;
mod tensors;
mod uploads;
mod vectors;
mod vocabulary;

pub use device::{
    Address, Argument, Boxes, Device, Launch, Limits, Operand, Product, Source, Swizzle, TensorMap,
};
pub use experts::Visitors;
pub use key_choice::KeyMask;
pub use magnitudes::Pending;
pub use memory::Buffer;
pub use products::Matrix;
pub use profiles::PendingProfile;
pub use tensors::Tensor;
pub use vectors::Vector;

use std::rc::Rc;

use self::resident::Resident;

use super::Precision;

/// A card, or what behaves like one.
#[derive(Debug)]
pub struct Cuda<D: Device> {
    device: Rc<D>,
    precision: Precision,
    rotations: rotations::Kept<D>,
    resident: Resident<D>,
    learned: vectors::Learned<D>,
    massive: massive::Massive<D>,
    uploads: uploads::Uploads<D>,
    /// Entries of the vocabulary that the head takes at a time, at most.
    vocabulary_piece: usize,
}

impl<D: Device> Cuda<D> {
    /// A backend that computes in these types on this device.
    pub fn new(device: D, precision: impl Into<Precision>) -> Self {
        Self::sharing(Rc::new(device), precision)
    }

    /// As [`Cuda::new`], on a device that others use too.
    pub fn sharing(device: Rc<D>, precision: impl Into<Precision>) -> Self {
        Self {
            device,
            precision: precision.into(),
            rotations: rotations::Kept::default(),
            resident: Resident::default(),
            learned: vectors::Learned::default(),
            massive: massive::Massive::default(),
            uploads: uploads::Uploads::default(),
            vocabulary_piece: 16_384,
        }
    }

    /// With room for so many bytes of weights. The checkpoint must outlive this backend, which knows a
    /// weight by its place in memory.
    #[must_use]
    pub fn keeping_weights(self, bytes: usize) -> Self {
        self.resident.keep(bytes);
        self
    }

    /// What it runs on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The device's memory that was free when it was opened.
    pub fn memory_bytes(&self) -> usize {
        self.device.limits().memory_bytes
    }

    /// With another most of vocabulary entries at a time.
    #[must_use]
    pub fn with_vocabulary_piece(mut self, entries: usize) -> Self {
        self.vocabulary_piece = entries.max(256);
        self
    }
}
