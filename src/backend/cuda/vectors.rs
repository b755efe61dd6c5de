//! Biases, the vectors of norms, and their like on the device.
//!
//! Those that a model has learned stay there under their names: every walk through the model asks for
//! them again, and all of them together are smaller than one weight.
#![forbid(unsafe_code)]

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    Cuda,
    device::{Address, Device},
    memory::Buffer,
};
use crate::{error::Result, model::dtype::DType};

/// A float32 vector.
#[derive(Debug)]
pub struct Vector<D: Device>(Rc<Values<D>>);

// Not derived: a device need not be copied for its buffers to be shared.
impl<D: Device> Clone for Vector<D> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Values<D: Device> {
    buffer: Buffer<D>,
    /// The same in another type, once a product has asked for it.
    rounded: RefCell<Option<(DType, Buffer<D>)>>,
}

impl<D: Device> Vector<D> {
    /// Its first value, in float32.
    pub fn address(&self) -> Address {
        self.0.buffer.address()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.buffer.bytes() / size_of::<f32>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings it to the host.
    pub(super) fn read(&self, cuda: &Cuda<D>) -> Result<Vec<f32>> {
        cuda.fetch(&self.0.buffer, self.len())
    }

    /// Its first value, in this type.
    pub(super) fn rounded(&self, cuda: &Cuda<D>, dtype: DType) -> Result<Address> {
        if dtype == DType::Float32 {
            return Ok(self.address());
        }
        let mut rounded = self.0.rounded.borrow_mut();
        if let Some((_, buffer)) = rounded.as_ref().filter(|(known, _)| *known == dtype) {
            return Ok(buffer.address());
        }
        let buffer = cuda.converted(&self.0.buffer, self.len(), DType::Float32, dtype)?;
        let address = buffer.address();
        *rounded = Some((dtype, buffer));
        Ok(address)
    }
}

/// The vectors that stay, by name.
pub(super) type Learned<D> = RefCell<HashMap<String, Vector<D>>>;

impl<D: Device> Cuda<D> {
    /// A vector of these values.
    pub(super) fn vector_of(&self, values: &[f32]) -> Result<Vector<D>> {
        Ok(Vector(Rc::new(Values {
            buffer: self.list(values)?,
            rounded: RefCell::default(),
        })))
    }

    /// The one of this name, which has these values.
    pub(super) fn learned_vector(&self, name: String, values: &[f32]) -> Result<Vector<D>> {
        if let Some(known) = self.learned.borrow().get(&name) {
            return Ok(known.clone());
        }
        let vector = self.vector_of(values)?;
        self.learned.borrow_mut().insert(name, vector.clone());
        Ok(vector)
    }
}
