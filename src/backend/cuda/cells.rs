//! Single values (`kernels/cells.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::Device,
    tensors::{int, suffix},
};
use crate::{
    backend::{Cells, Change},
    error::Result,
};

impl<D: Device> Cells for Cuda<D> {
    fn values_at(&self, x: &Tensor<D>, cells: &[(usize, usize)]) -> Result<Vec<f32>> {
        let indices: Vec<u64> = cells
            .iter()
            .map(|(row, dimension)| (row * x.columns + dimension) as u64)
            .collect();
        if indices.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.list(&indices)?;
        let values = self.list(&vec![0f32; indices.len()])?;
        self.launch(
            &format!("values_at_{}", suffix(x.dtype)),
            [self.blocks(indices.len()), 1],
            256,
            &[
                x.buffer.address().into(),
                places.address().into(),
                values.address().into(),
                int(indices.len())?.into(),
            ],
        )?;
        self.fetch(&values, indices.len())
    }

    fn overwrite(&self, x: &mut Tensor<D>, cells: &[(usize, usize, Change)]) -> Result<()> {
        if cells.is_empty() {
            return Ok(());
        }
        let index = |cell: &(usize, usize, Change)| (cell.0 * x.columns + cell.1) as u64;
        let indices: Vec<u64> = cells.iter().map(index).collect();
        let (operands, scaled): (Vec<f32>, Vec<u8>) = cells
            .iter()
            .map(|(_, _, change)| match change {
                Change::Set(value) => (*value, 0),
                Change::Scale(factor) => (*factor, 1),
            })
            .unzip();
        let places = self.list(&indices)?;
        let (operands, scaled) = (self.list(&operands)?, self.list(&scaled)?);
        self.launch(
            &format!("overwrite_{}", suffix(x.dtype)),
            [self.blocks(indices.len()), 1],
            256,
            &[
                x.buffer.address().into(),
                places.address().into(),
                operands.address().into(),
                scaled.address().into(),
                int(indices.len())?.into(),
            ],
        )
    }
}
