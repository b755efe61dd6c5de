//! Moving rows (`kernels/rows.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::{Address, Device},
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
        let list = self.list(&indices(rows)?)?;
        self.gather_listed(x, list.address(), rows.len())
    }

    /// The `count` rows of a list on the device.
    pub(super) fn gather_listed(
        &self,
        x: &Tensor<D>,
        list: Address,
        count: usize,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(count, x.columns, x.dtype)?;
        self.launch(
            &format!("gather_rows_{}", suffix(x.dtype)),
            [int(count)?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                x.buffer.address().into(),
                out.buffer.address().into(),
                list.into(),
                int(count)?.into(),
                int(x.columns)?.into(),
            ],
        )?;
        Ok(out)
    }

    /// Adds row `i` of `x` times the `i`-th factor to the `i`-th row of the list, or to row `i` where
    /// there is none; list and factors are on the device.
    pub(super) fn scatter_add(
        &self,
        out: &Tensor<D>,
        x: &Tensor<D>,
        list: Address,
        factors: Address,
    ) -> Result<()> {
        debug_assert_eq!(out.dtype, x.dtype);
        self.launch(
            &format!("add_rows_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                out.buffer.address().into(),
                x.buffer.address().into(),
                list.into(),
                factors.into(),
                int(x.rows)?.into(),
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
