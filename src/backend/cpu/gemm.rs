//! Matrix product: a checked door to the `gemm` crate.

use gemm::Parallelism;

/// A matrix inside a slice: element `(r, c)` is at `r * row_stride + c * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

/// Sizes of `[m, k] x [k, n]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// `out = left right`, or `out += left right`; `out` has unit column stride.
///
/// # Panics
/// If an operand is too short for its strides: a mistake in this crate, never in the input.
pub(super) fn multiply(
    shape: Shape,
    out: &mut [f32],
    out_stride: usize,
    accumulate: bool,
    left: Operand<'_>,
    right: Operand<'_>,
    threads: usize,
) {
    let Shape { m, n, k } = shape;
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * out_stride + n <= out.len(), "output too short");
    assert!(out_stride >= n || m == 1, "output rows overlap");
    if k == 0 {
        if !accumulate {
            for row in out.chunks_mut(out_stride).take(m) {
                row[..n].fill(0.0);
            }
        }
        return;
    }
    for (operand, rows, columns) in [(left, m, k), (right, k, n)] {
        let last = (rows - 1) * operand.row_stride + (columns - 1) * operand.column_stride;
        assert!(last < operand.values.len(), "operand too short");
    }
    let parallelism = match threads {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    // SAFETY: the assertions above keep every element that the strides reach inside its slice;
    // `out` is borrowed mutably and so overlaps neither operand, and its rows do not overlap.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_and_accumulating() {
        let left: Vec<f32> = (0..6).map(|v| v as f32).collect(); // [2, 3]
        let right: Vec<f32> = (0..12).map(|v| v as f32).collect(); // [4, 3], used transposed
        let mut out = vec![-1.0; 2 * 5];
        let shape = Shape { m: 2, n: 4, k: 3 };
        let left = Operand {
            values: &left,
            row_stride: 3,
            column_stride: 1,
        };
        let right = Operand {
            values: &right,
            row_stride: 1,
            column_stride: 3,
        };
        multiply(shape, &mut out, 5, false, left, right, 1);
        assert_eq!(
            out,
            [5.0, 14.0, 23.0, 32.0, -1.0, 14.0, 50.0, 86.0, 122.0, -1.0]
        );
        multiply(shape, &mut out, 5, true, left, right, 2);
        assert_eq!(out[..4], [10.0, 28.0, 46.0, 64.0]);
    }

    #[test]
    #[should_panic(expected = "operand too short")]
    fn refuses_short_operands() {
        let values = [0.0; 3];
        let operand = Operand {
            values: &values,
            row_stride: 2,
            column_stride: 1,
        };
        multiply(
            Shape { m: 2, n: 2, k: 2 },
            &mut [0.0; 4],
            2,
            false,
            operand,
            operand,
            1,
        );
    }
}
