//! The distribution of a tensor's values.
#![forbid(unsafe_code)]

use super::{Cuda, Tensor, device::Device};
use crate::{
    backend::{Profile, ProfileRequest, Profiles, Rows, Tensors, cpu::profile_of},
    error::Result,
};

impl<D: Device> Profiles for Cuda<D> {
    fn profile(
        &self,
        x: &Tensor<D>,
        sequences: &[Rows],
        request: &ProfileRequest,
    ) -> Result<Vec<Profile>> {
        let values = self.download(x)?;
        let of = |rows: &Rows| {
            let values = &values[rows.start * x.columns..rows.end * x.columns];
            profile_of(values, x.columns, request)
        };
        Ok(sequences.iter().map(of).collect())
    }

    fn read_profiles(&self, pending: Vec<Profile>) -> Result<Vec<Profile>> {
        Ok(pending)
    }
}
