//! Recurrences over tokens on a card.
#![forbid(unsafe_code)]

use super::{Cuda, Tensor, device::Device, memory::Buffer};
use crate::{
    backend::{DeltaRequest, Recurrences, Rows, SelectiveScanRequest, StateSpaceRequest},
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

    fn state_space(
        &self,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &[Rows],
        _: &StateSpaceRequest<'_, Buffer<D>>,
    ) -> Result<Tensor<D>> {
        Err(not_there("a state space layer"))
    }

    fn selective_scan(
        &self,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: &[Rows],
        _: &SelectiveScanRequest<'_, Buffer<D>>,
    ) -> Result<Tensor<D>> {
        Err(not_there("a selective scan"))
    }
}

fn not_there(what: &str) -> Error {
    Error::new(what, "massact computes it on the CPU only").remedy("use --device cpu")
}
