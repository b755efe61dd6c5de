//! Moving rows (`kernels/rows.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::Device,
    tensor::{int, suffix, threads},
};
use crate::error::Result;

fn indices(rows: &[usize]) -> Result<Vec<u32>> {
    rows.iter()
        .map(|row| Ok(int(*row)?.cast_unsigned()))
        .collect()
}

impl<D: Device> Cuda<D> {
    pub(super) fn gather(&self, x: &Tensor<D>, rows: &[usize]) -> Result<Tensor<D>> {
        let out = self.tensor(rows.len(), x.columns, x.dtype)?;
        let list = self.list(&indices(rows)?)?;
        self.launch(
            &format!("gather_rows_{}", suffix(x.dtype)),
            [int(rows.len())?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                x.buffer.address().into(),
                out.buffer.address().into(),
                list.address().into(),
                int(rows.len())?.into(),
                int(x.columns)?.into(),
            ],
        )?;
        Ok(out)
    }

    pub(super) fn scatter_add(
        &self,
        out: &Tensor<D>,
        x: &Tensor<D>,
        rows: &[usize],
        factors: &[f32],
    ) -> Result<()> {
        debug_assert_eq!(out.dtype, x.dtype);
        let (list, factors) = (self.list(&indices(rows)?)?, self.list(factors)?);
        self.launch(
            &format!("add_rows_{}", suffix(x.dtype)),
            [int(rows.len())?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                out.buffer.address().into(),
                x.buffer.address().into(),
                list.address().into(),
                factors.address().into(),
                int(rows.len())?.into(),
                int(x.columns)?.into(),
            ],
        )
    }

    pub(super) fn join(
        &self,
        own: &Tensor<D>,
        shared: &Tensor<D>,
        heads: usize,
    ) -> Result<Tensor<D>> {
        let columns = own.columns + heads * shared.columns;
        let out = self.tensor(own.rows, columns, own.dtype)?;
        self.launch(
            &format!("join_heads_{}", suffix(own.dtype)),
            [int(own.rows)?.cast_unsigned(), 1],
            threads(columns),
            &[
                own.buffer.address().into(),
                shared.buffer.address().into(),
                out.buffer.address().into(),
                int(own.rows)?.into(),
                int(heads)?.into(),
                int(own.columns / heads)?.into(),
                int(shared.columns)?.into(),
            ],
        )?;
        Ok(out)
    }
}
