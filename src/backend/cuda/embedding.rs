//! Rows of an embedding table (`kernels/embedding.cu`).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    Cuda, Tensor,
    device::Device,
    memory::Buffer,
    tensor::{int, suffix, threads},
};
use crate::{error::Result, model::weights::Elements};

impl<D: Device> Cuda<D> {
    /// Only the rows that occur go to the device, each once and as stored: a text has far fewer
    /// different tokens than tokens.
    pub(super) fn embed_rows(
        &self,
        table: Elements<'_>,
        width: usize,
        rows: &[usize],
        factor: f32,
    ) -> Result<Tensor<D>> {
        let mut listed: BTreeMap<usize, u32> = rows.iter().map(|row| (*row, 0)).collect();
        let mut bytes = Vec::with_capacity(listed.len() * width * table.dtype.size());
        for (place, (row, listed)) in listed.iter_mut().enumerate() {
            *listed = int(place)?.cast_unsigned();
            bytes.extend_from_slice(table.slice(row * width, (row + 1) * width).bytes);
        }
        let indices: Vec<u32> = rows.iter().map(|row| listed[row]).collect();
        let (stored, indices) = (Buffer::with(&self.device, &bytes)?, self.list(&indices)?);
        let out = self.tensor(rows.len(), width, self.precision.residual())?;
        self.launch(
            &format!("embed_{}_{}", suffix(table.dtype), suffix(out.dtype)),
            [int(rows.len())?.cast_unsigned(), 1],
            threads(width),
            &[
                stored.address().into(),
                out.buffer.address().into(),
                indices.address().into(),
                int(rows.len())?.into(),
                int(width)?.into(),
                factor.into(),
            ],
        )?;
        Ok(out)
    }
}
