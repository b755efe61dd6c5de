//! Products of rows with each other (`kernels/inner_products.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::Device,
    tensors::{int, suffix},
};
use crate::{backend::InnerProducts, error::Result};

/// Warps of a block, each of which has a part of a row at a time.
const WARPS: u32 = 8;

impl<D: Device> InnerProducts for Cuda<D> {
    fn inner_products(&self, a: &Tensor<D>, b: &Tensor<D>, parts: usize) -> Result<Vec<f64>> {
        debug_assert_eq!(a.dtype, b.dtype);
        let count = a.rows * parts;
        if count == 0 {
            return Ok(Vec::new());
        }
        let products = self.list(&vec![0f64; count])?;
        self.launch(
            &format!("inner_products_{}", suffix(a.dtype)),
            [int(count)?.cast_unsigned().div_ceil(WARPS), 1],
            32 * WARPS,
            &[
                a.buffer.address().into(),
                b.buffer.address().into(),
                products.address().into(),
                int(count)?.into(),
                int(a.columns / parts)?.into(),
            ],
        )?;
        self.fetch(&products, count)
    }
}
