//! Weights that stay on the device: an experiment that walks through the model several times brings
//! them there once.
//!
//! What comes first stays, until the room is used up; the rest is brought anew in every walk. To
//! replace what is there would gain nothing, since the walks meet all weights in the same order.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::{Cuda, Matrix, device::Device};
use crate::{error::Result, model::weights::MatrixView};

/// Where a stored weight lies in memory, its sizes and strides. The checkpoint outlives the backend's
/// use of it, so that no other weight comes to lie there.
type Key = (usize, [usize; 4]);

fn key(view: &MatrixView<'_>) -> Key {
    let sizes = [
        view.out_features,
        view.in_features,
        view.out_stride,
        view.in_stride,
    ];
    (view.elements.bytes.as_ptr().addr(), sizes)
}

/// The weights that stay.
#[derive(Debug)]
pub(super) struct Resident<D: Device> {
    matrices: RefCell<HashMap<Key, Matrix<D>>>,
    bytes: Cell<usize>,
    most: usize,
}

impl<D: Device> Default for Resident<D> {
    /// Nothing stays.
    fn default() -> Self {
        Self::new(0)
    }
}

impl<D: Device> Resident<D> {
    /// With room for `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            matrices: RefCell::default(),
            bytes: Cell::new(0),
            most,
        }
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }
}

impl<D: Device> Cuda<D> {
    /// A weight that is on the device already, or is brought there.
    pub(super) fn resident_matrix(&self, view: MatrixView<'_>) -> Result<Matrix<D>> {
        let key = key(&view);
        if let Some(matrix) = self.resident.matrices.borrow().get(&key) {
            return Ok(matrix.clone());
        }
        let matrix = self.upload_matrix(view)?;
        let bytes = self.resident.bytes.get() + matrix.bytes();
        if bytes <= self.resident.most {
            self.resident.bytes.set(bytes);
            self.resident
                .matrices
                .borrow_mut()
                .insert(key, matrix.clone());
        }
        Ok(matrix)
    }
}
