//! Weights that stay on the device: an experiment that walks through the model several times brings
//! them there once.
//!
//! The first ones stay, until the room is used up; the rest is brought again in every walk. To replace
//! what is there would gain nothing, since the walks meet all weights in the same order. Where memory
//! runs out, weights that stayed make room.
//!
//! Packed weights stay as they are packed, and are decoded in every walk: that takes as long as writing
//! them, and several times as many stay.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use super::{Cuda, Matrix, device::Device, uploads::Upload};
use crate::{
    error::Result,
    model::weights::{MatrixView, PackedMatrix},
};

/// Where a stored weight lies in memory, its sizes and strides, and which of its outputs; no sizes for the
/// bytes of a packed one. The checkpoint outlives the backend's use of it, so that no other weight comes to
/// lie there.
type Key = (usize, [usize; 7]);

fn key(view: &MatrixView<'_>) -> Key {
    let sizes = [
        view.out_features,
        view.in_features,
        view.out_stride,
        view.in_stride,
        0,
        0,
        0,
    ];
    (view.elements.bytes.as_ptr().addr(), sizes)
}

/// Of one that the host decodes.
fn packed_key(matrix: &PackedMatrix<'_>) -> Key {
    let rows = matrix.rows();
    let sizes = [
        matrix.out_features,
        matrix.in_features,
        rows.first,
        rows.size,
        rows.stride,
        rows.skipped,
        matrix.index(),
    ];
    let codes = matrix.tensor().encoding().parts();
    let place = codes
        .first()
        .map_or(0, |codes| codes.bytes().as_ptr().addr());
    (place, sizes)
}

/// What stays of a weight.
#[derive(Debug)]
enum Kept<D: Device> {
    Matrix(Matrix<D>),
    Packed(Rc<Upload<D>>),
}

impl<D: Device> Kept<D> {
    fn bytes(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.bytes(),
            Self::Packed(upload) => upload.bytes(),
        }
    }

    /// Whether anybody but the list of those that stay has it.
    fn is_in_use(&self) -> bool {
        match self {
            Self::Matrix(matrix) => matrix.is_in_use(),
            Self::Packed(upload) => Rc::strong_count(upload) > 1,
        }
    }
}

/// The weights that stay.
#[derive(Debug)]
pub(super) struct Resident<D: Device> {
    weights: RefCell<HashMap<Key, Kept<D>>>,
    /// The first that came first.
    order: RefCell<Vec<Key>>,
    bytes: Cell<usize>,
    most: Cell<usize>,
}

impl<D: Device> Default for Resident<D> {
    /// Nothing stays.
    fn default() -> Self {
        Self {
            weights: RefCell::default(),
            order: RefCell::default(),
            bytes: Cell::new(0),
            most: Cell::new(0),
        }
    }
}

impl<D: Device> Resident<D> {
    /// Changes what may stay; what is too much goes.
    pub(super) fn keep(&self, most: usize) {
        self.most.set(most);
        self.give_up(self.bytes.get().saturating_sub(most));
    }

    /// Gives up so many bytes of weights that nobody is using, those that came last first, and keeps
    /// no more from now on than are left. Whether there were any.
    pub(super) fn evict(&self, bytes: usize) -> bool {
        let found = self.give_up(bytes);
        if found {
            self.most.set(self.bytes.get());
        }
        found
    }

    fn give_up(&self, bytes: usize) -> bool {
        let mut weights = self.weights.borrow_mut();
        let (mut order, mut freed) = (self.order.borrow_mut(), 0);
        for index in (0..order.len()).rev() {
            if freed >= bytes {
                break;
            }
            let unused = weights.get(&order[index]).is_some_and(|w| !w.is_in_use());
            if unused && let Some(weight) = weights.remove(&order.remove(index)) {
                freed += weight.bytes();
            }
        }
        self.bytes.set(self.bytes.get() - freed);
        freed > 0
    }

    fn find(&self, key: &Key) -> Option<Matrix<D>> {
        match self.weights.borrow().get(key)? {
            Kept::Matrix(matrix) => Some(matrix.clone()),
            Kept::Packed(_) => None,
        }
    }

    /// Keeps a weight if there is room.
    fn add(&self, key: Key, weight: Kept<D>) {
        let bytes = self.bytes.get() + weight.bytes();
        if bytes <= self.most.get() && !self.weights.borrow().contains_key(&key) {
            self.bytes.set(bytes);
            self.weights.borrow_mut().insert(key, weight);
            self.order.borrow_mut().push(key);
        }
    }
}

impl<D: Device> Cuda<D> {
    /// A weight that is on the device already, or is brought there.
    pub(super) fn resident_matrix(&self, view: MatrixView<'_>) -> Result<Matrix<D>> {
        self.resident(key(&view), || self.bring(view))
    }

    /// The same for several as one.
    pub(super) fn resident_joined(&self, views: &[MatrixView<'_>]) -> Result<Matrix<D>> {
        let (place, mut sizes) = key(&views[0]);
        sizes[0] = views.iter().map(|view| view.out_features).sum();
        sizes[4] = views.len();
        self.resident((place, sizes), || self.bring_all(views))
    }

    /// The same for one that is packed.
    pub(super) fn resident_packed(&self, matrix: &PackedMatrix<'_>) -> Result<Matrix<D>> {
        let Some((upload, decoding)) = self.bring_packed(matrix)? else {
            return self.resident(packed_key(matrix), || self.bring(matrix.assemble().view()));
        };
        let key = (upload.place(), [0; 7]);
        self.resident.add(key, Kept::Packed(Rc::clone(&upload)));
        Ok(self.packed(matrix, upload, decoding))
    }

    fn resident(&self, key: Key, bring: impl FnOnce() -> Result<Matrix<D>>) -> Result<Matrix<D>> {
        if let Some(matrix) = self.resident.find(&key) {
            return Ok(matrix);
        }
        let matrix = bring()?;
        self.resident.add(key, Kept::Matrix(matrix.clone()));
        Ok(matrix)
    }
}
