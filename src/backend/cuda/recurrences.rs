//! Recurrences over tokens.
#![forbid(unsafe_code)]

use super::{Cuda, Tensor, device::Device, memory::Buffer};
use crate::{
    backend::{DeltaRequest, Recurrences, Rows},
    error::{Error, Result},
};

impl<D: Device> Recurrences for Cuda<D> {
    fn delta_rule(
        &self,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &[Rows],
        _: &DeltaRequest<'_, Buffer<D>>,
    ) -> Result<Tensor<D>> {
        Err(Error::new("gated delta rule", "massact has no kernel for it").remedy("run on the CPU"))
    }
}
