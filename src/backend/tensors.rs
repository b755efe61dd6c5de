//! Tensors on a device, and how values come there and back.
#![forbid(unsafe_code)]

use super::Precision;
use crate::error::Result;

/// A device that holds tensors: the types that all operations share, and how values come and go.
pub trait Tensors {
    /// A matrix of activations on the device.
    type Tensor;
    /// A weight matrix on the device, possibly borrowed from the checkpoint.
    type Matrix<'w>;
    /// A float32 vector on the device.
    type Vector;
    /// Which rows visit which expert of a mixture; may be on the device.
    type Visitors;
    /// Which keys each query sees; may be on the device.
    type KeyMask;
    /// Statistics that may still be on the device.
    type Pending;
    /// Profiles that may still be on the device.
    type PendingProfile;
    /// The types that it computes in.
    fn precision(&self) -> Precision;
    /// The types that its tensors have in memory.
    fn held(&self) -> Precision {
        self.precision()
    }
    /// Rows (tokens) that a layer processes efficiently at once, where a token has `width` values
    /// in a layer, all its tensors taken together.
    fn micro_batch_rows(&self, width: usize) -> usize;
    /// Waits until everything asked for so far is done.
    fn synchronise(&self) -> Result<()>;
    /// Keeps up to so many bytes of weights on the device from now on, for the next walk through the
    /// model; they make room where memory runs out. Where weights are read in place nothing is kept.
    fn keep_weights(&self, bytes: usize);
    /// Whether weights come beside the computation, so that those of the next layer should be asked
    /// for before this one computes.
    fn loads_ahead(&self) -> bool;

    /// Puts `rows x columns` values on the device, as a residual stream.
    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Self::Tensor>;
    /// Copies a tensor to the host.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// Width of a tensor.
    fn columns(&self, x: &Self::Tensor) -> usize;
    /// The same values in rows of another width.
    fn in_rows_of(&self, x: Self::Tensor, columns: usize) -> Self::Tensor;
    /// Makes a bias or norm vector usable.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector>;
    /// The same of one that a model has learned, with a name that says all about it, the model among it: it may be
    /// asked for again in every walk.
    fn learned(&self, _name: String, values: Vec<f32>) -> Result<Self::Vector> {
        self.vector(values)
    }
    /// A residual stream of zeros, as large as `x`.
    fn zeros(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// A tensor of its own with the same values.
    fn duplicate(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
}
