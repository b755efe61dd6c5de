//! Which products one algorithm serves.

use std::fmt;

use crate::{
    backend::cuda::device::{Address, Operand, Product},
    model::dtype::DType,
};

/// Addresses are not known to be aligned to more.
const MOST_ALIGNED: u64 = 256;

/// What an algorithm is chosen for. A mixture's experts have another number of rows every time, so
/// that it is rounded up; the algorithm takes fewer rows as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) right_transposed: bool,
    pub(super) left: Layout,
    pub(super) right: Layout,
    pub(super) out: Layout,
    /// The bias's alignment.
    pub(super) bias: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    pub(super) dtype: DType,
    pub(super) stride: usize,
    pub(super) alignment: u32,
}

impl Layout {
    fn of(operand: Operand) -> Self {
        Self {
            dtype: operand.dtype,
            stride: operand.stride,
            alignment: alignment(operand.address),
        }
    }
}

/// What the address is a multiple of.
fn alignment(Address(address): Address) -> u32 {
    1 << address.trailing_zeros().min(MOST_ALIGNED.trailing_zeros())
}

/// Not below, and by less than a quarter above.
pub(super) fn rounded_rows(rows: usize) -> usize {
    rows.next_multiple_of((rows.next_power_of_two() / 8).max(16))
}

impl Shape {
    pub(super) fn of(product: &Product, rows: usize) -> Self {
        Self {
            m: rows,
            n: product.n,
            k: product.k,
            right_transposed: product.right_transposed,
            left: Layout::of(product.left),
            right: Layout::of(product.right),
            out: Layout::of(product.out),
            bias: product.bias.map(alignment),
        }
    }
}

impl fmt::Display for Shape {
    /// All that an algorithm depends on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { m, n, k, .. } = self;
        let order = if self.right_transposed { "kn" } else { "nk" };
        write!(f, "{m} x {n} x {k} {order}")?;
        for layout in [&self.left, &self.right, &self.out] {
            let Layout {
                dtype,
                stride,
                alignment,
            } = layout;
            write!(f, ", {dtype} {stride} @{alignment}")?;
        }
        match self.bias {
            Some(alignment) => write!(f, ", bias @{alignment}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_plans_serve_any_number_of_rows() {
        let mut plans = std::collections::BTreeSet::new();
        for rows in 1..=16_384 {
            let rounded = rounded_rows(rows);
            assert!(
                rounded >= rows && (rounded < rows + 16 || rounded * 4 < rows * 5),
                "{rows}"
            );
            plans.insert(rounded);
        }
        assert!(plans.len() <= 64, "{}", plans.len());
        // What micro-batches have.
        for rows in [256, 2048, 4096, 9728, 16_384] {
            assert_eq!(
                rounded_rows(rows),
                rows.next_multiple_of(rows.next_power_of_two() / 8)
            );
        }
        assert_eq!(alignment(Address(768)), 256);
        assert_eq!(alignment(Address(772)), 4);
    }

    /// Shapes that differ in anything have other names.
    #[test]
    fn names_of_shapes() {
        let operand = |address, dtype| Operand {
            address: Address(address),
            dtype,
            stride: 4096,
        };
        let product = Product {
            m: 8000,
            n: 4096,
            k: 4096,
            left: operand(256, DType::BFloat16),
            right: operand(256, DType::BFloat16),
            right_transposed: false,
            out: operand(256, DType::Float32),
            bias: None,
        };
        let name = |change: &dyn Fn(&mut Product)| {
            let mut other = product;
            change(&mut other);
            Shape::of(&other, rounded_rows(other.m)).to_string()
        };
        assert_eq!(
            name(&|_| ()),
            "8192 x 4096 x 4096 nk, bfloat16 4096 @256, bfloat16 4096 @256, float32 4096 @256"
        );
        let changes: [&dyn Fn(&mut Product); 10] = [
            &|_| (),
            &|product| product.m = 16,
            &|product| product.n = 16,
            &|product| product.k = 16,
            &|product| product.right_transposed = true,
            &|product| product.left.dtype = DType::Float16,
            &|product| product.right.stride = 8192,
            &|product| product.out.address = Address(16),
            &|product| product.bias = Some(Address(256)),
            &|product| product.bias = Some(Address(16)),
        ];
        let names: std::collections::BTreeSet<_> = changes.map(name).into();
        assert_eq!(names.len(), changes.len());
    }
}
