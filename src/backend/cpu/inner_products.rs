//! Products of rows with each other.
#![forbid(unsafe_code)]

use rayon::prelude::*;

use super::{Cpu, Tensor, simd::vectorise};
use crate::{backend::InnerProducts, error::Result};

/// Sums side by side.
const LANES: usize = 8;

impl InnerProducts for Cpu {
    fn inner_products(&self, a: &Tensor, b: &Tensor, parts: usize) -> Result<Vec<f64>> {
        let width = (a.columns / parts.max(1)).max(1);
        let mut products = vec![0.0; a.rows * parts];
        products
            .par_chunks_mut(parts.max(1))
            .enumerate()
            .for_each(|(row, products)| {
                vectorise(
                    #[inline(always)]
                    || {
                        let pairs = a.row(row).chunks(width).zip(b.row(row).chunks(width));
                        for (product, (a, b)) in products.iter_mut().zip(pairs) {
                            *product = dot(a, b);
                        }
                    },
                );
            });
        Ok(products)
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Tensors;

    #[test]
    fn of_parts_of_rows() {
        let cpu = Cpu::new();
        let upload = |values: &[f32]| cpu.upload(2, 4, values.to_vec()).expect("uploads");
        let a = upload(&[1.0, 2.0, 3.0, 4.0, 0.5, -1.0, 0.0, 1.0]);
        let b = upload(&[1.0, 1.0, -1.0, 1.0, 2.0, 2.0, 9.0, 3.0]);
        let halves = cpu.inner_products(&a, &b, 2).expect("products");
        assert_eq!(halves, [3.0, 1.0, -1.0, 3.0]);
        assert_eq!(
            cpu.inner_products(&a, &a, 1).expect("squares"),
            [30.0, 2.25]
        );
    }
}
