//! Moving rows (`kernels/rows.cu`).
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{
    Cuda, Tensor,
    device::{Address, Device},
    tensors::{int, suffix, threads},
    vectors::Vector,
};
use crate::{backend::RowOperations, error::Result, model::dtype::DType};

pub(super) fn indices(rows: &[usize]) -> Result<Vec<u32>> {
    rows.iter()
        .map(|row| Ok(int(*row)?.cast_unsigned()))
        .collect()
}

impl<D: Device> RowOperations for Cuda<D> {
    fn gather_rows(&self, x: &Tensor<D>, rows: &[usize]) -> Result<Tensor<D>> {
        let list = self.list(&indices(rows)?)?;
        self.gather("gather_rows", x, list.address(), rows.len())
    }

    fn put_rows(&self, out: &mut Tensor<D>, first: usize, x: &Tensor<D>) -> Result<()> {
        debug_assert!(out.dtype == x.dtype && first + x.rows <= out.rows);
        let size = x.dtype.size();
        let to = out.buffer.address().offset(first * x.columns * size);
        self.device.copy(x.buffer.address(), to, x.len() * size)
    }

    fn gather_columns(&self, x: &Tensor<D>, columns: Range<usize>) -> Result<Tensor<D>> {
        self.columns_of(x.buffer.address(), (x.rows, x.columns), columns, x.dtype)
    }

    fn add_scaled(&self, out: &mut Tensor<D>, x: &Tensor<D>, factors: &Tensor<D>) -> Result<()> {
        debug_assert_eq!(out.dtype, x.dtype);
        let wide = self.in_type(factors, DType::Float32)?;
        let factors = wide.as_ref().unwrap_or(factors);
        self.launch(
            &format!("add_scaled_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                out.buffer.address().into(),
                x.buffer.address().into(),
                factors.buffer.address().into(),
                int(x.rows)?.into(),
                int(x.columns)?.into(),
            ],
        )
    }

    fn scale_rows(&self, x: &mut Tensor<D>, factors: &Vector<D>) -> Result<()> {
        self.scale_by(x, factors.address())
    }

    fn join_heads(&self, own: &Tensor<D>, shared: &Tensor<D>, heads: usize) -> Result<Tensor<D>> {
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

impl<D: Device> Cuda<D> {
    /// Some neighbouring columns of `[rows, all]` values.
    pub(super) fn columns_of(
        &self,
        values: Address,
        (rows, all): (usize, usize),
        columns: Range<usize>,
        dtype: DType,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(rows, columns.len(), dtype)?;
        self.launch(
            &format!("gather_columns_{}", suffix(dtype)),
            [int(rows)?.cast_unsigned(), 1],
            threads(columns.len()),
            &[
                values.into(),
                out.buffer.address().into(),
                int(rows)?.into(),
                int(all)?.into(),
                int(columns.start)?.into(),
                int(columns.len())?.into(),
            ],
        )?;
        Ok(out)
    }

    /// Multiplies row `i` by the `i`-th of these float32 factors.
    pub(super) fn scale_by(&self, x: &Tensor<D>, factors: Address) -> Result<()> {
        self.launch(
            &format!("scale_rows_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                x.buffer.address().into(),
                factors.into(),
                int(x.rows)?.into(),
                int(x.columns)?.into(),
            ],
        )
    }

    /// The `count` rows of a list on the device, by the kernel of this name.
    pub(super) fn gather(
        &self,
        kernel: &str,
        x: &Tensor<D>,
        list: Address,
        count: usize,
    ) -> Result<Tensor<D>> {
        let out = self.tensor(count, x.columns, x.dtype)?;
        self.launch(
            &format!("{kernel}_{}", suffix(x.dtype)),
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
}
