//! Matrix product: a checked door to the `gemm` crate.

use std::{marker::PhantomData, ops::Range};

use gemm::Parallelism;
use rayon::prelude::*;

use crate::interrupt;

/// A matrix inside a slice: element `(r, c)` is at `r * row_stride + c * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    pub(super) values: &'a [f32],
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl Operand<'_> {
    /// What begins at a row.
    fn row(self, index: usize) -> Self {
        Self {
            values: &self.values[index * self.row_stride..],
            ..self
        }
    }

    /// What begins at a column.
    fn column(self, index: usize) -> Self {
        Self {
            values: &self.values[index * self.column_stride..],
            ..self
        }
    }
}

/// Sizes of `[m, k] x [k, n]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// Where a product goes: row-major, element `(r, c)` at `r * row_stride + c`.
#[derive(Debug)]
pub(super) struct Output<'a> {
    pub(super) values: &'a mut [f32],
    pub(super) row_stride: usize,
    /// Whether the product is added to what is there.
    pub(super) accumulate: bool,
}

/// Tasks begin at multiples of this, the side of the largest micro-kernel's tile (AVX-512), so that
/// only the last task of a row or column has a ragged edge.
const GRAIN: usize = 64;

/// Least columns of a task: fewer would spend a noticeable part of it on packing.
const LEAST: usize = 3 * GRAIN;

/// Tasks a thread, so that a thread that is held up does not hold up the others.
const TASKS: usize = 4;

/// Multiply-adds of a task at most, but for rounding to whole grains: about 0.1 s of one core, the
/// time within which an interrupt is noticed.
const MOST_WORK: usize = 5_000_000_000;

/// The product on the calling thread.
///
/// # Panics
/// If an operand is too short for its strides: a mistake in this crate, never in the input.
pub(super) fn multiply(shape: Shape, out: Output<'_>, left: Operand<'_>, right: Operand<'_>) {
    if let Some(target) = prepare(shape, out, left, right) {
        // SAFETY: `prepare` has checked the operands, and the whole target is this product's.
        #[allow(unsafe_code)]
        unsafe {
            target.receive(shape, left, right);
        }
    }
}

/// The product on all threads.
///
/// The `gemm` crate can share one product among threads, but packs its left operand on one of
/// them; independent tasks pack what they need themselves, and finish without waiting for each
/// other. Once an interrupt is requested, the tasks that have not begun are left out: the caller
/// checks.
///
/// # Panics
/// As [`multiply`].
pub(super) fn multiply_on_all_threads(
    shape: Shape,
    out: Output<'_>,
    left: Operand<'_>,
    right: Operand<'_>,
) {
    let Some(target) = prepare(shape, out, left, right) else {
        return;
    };
    let (down, across) = task_counts(shape, rayon::current_num_threads());
    (0..across * down)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|task| {
            if interrupt::requested() {
                return;
            }
            // Tasks with the same columns follow each other: their part of the weight is shared.
            let rows = side(shape.m, down, task % down);
            let columns = side(shape.n, across, task / down);
            let (row, column) = (rows.start, columns.start);
            let part = Shape {
                m: rows.len(),
                n: columns.len(),
                k: shape.k,
            };
            // SAFETY: the part lies inside the shape that `prepare` has checked, and no two parts
            // have an element in common.
            #[allow(unsafe_code)]
            unsafe {
                let part_of_target = target.part(row, column);
                part_of_target.receive(part, left.row(row), right.column(column));
            }
        });
}

/// How often rows and columns are divided. The columns first: a part of the weight is then packed by
/// one task only.
fn task_counts(shape: Shape, threads: usize) -> (usize, usize) {
    let wanted = if threads == 1 { 1 } else { TASKS * threads };
    let by_work = (shape.m * shape.n)
        .saturating_mul(shape.k)
        .div_ceil(MOST_WORK);
    let tasks = wanted.max(by_work).next_multiple_of(threads);
    let across = tasks.min(shape.n / LEAST).max(1);
    // As many as are still wanted, or as there are grains.
    let down = tasks.div_ceil(across).min(shape.m.div_ceil(GRAIN));
    (down, across)
}

/// Part `index` of `parts` of a side, whole grains shared out evenly.
fn side(length: usize, parts: usize, index: usize) -> Range<usize> {
    let grains = length.div_ceil(GRAIN);
    let edge = |index: usize| (grains * index / parts * GRAIN).min(length);
    edge(index)..edge(index + 1)
}

/// Checks the operands. `None` when there is nothing to multiply.
fn prepare<'a>(
    shape: Shape,
    out: Output<'a>,
    left: Operand<'_>,
    right: Operand<'_>,
) -> Option<Target<'a>> {
    let Shape { m, n, k } = shape;
    if m == 0 || n == 0 {
        return None;
    }
    let (values, row_stride) = (out.values, out.row_stride);
    assert!((m - 1) * row_stride + n <= values.len(), "output too short");
    assert!(row_stride >= n || m == 1, "output rows overlap");
    if k == 0 {
        if !out.accumulate {
            for row in values.chunks_mut(row_stride).take(m) {
                row[..n].fill(0.0);
            }
        }
        return None;
    }
    for (operand, rows, columns) in [(left, m, k), (right, k, n)] {
        let last = (rows - 1) * operand.row_stride + (columns - 1) * operand.column_stride;
        assert!(last < operand.values.len(), "operand too short");
    }
    Some(Target {
        start: values.as_mut_ptr(),
        row_stride,
        accumulate: out.accumulate,
        borrow: PhantomData,
    })
}

/// An output of which several tasks may write different parts at once.
#[derive(Clone, Copy)]
struct Target<'a> {
    start: *mut f32,
    row_stride: usize,
    accumulate: bool,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: a target only hands its address on; writing through it is unsafe and has its own terms.
#[allow(unsafe_code)]
unsafe impl Send for Target<'_> {}
// SAFETY: likewise.
#[allow(unsafe_code)]
unsafe impl Sync for Target<'_> {}

impl Target<'_> {
    /// What begins at an element.
    ///
    /// # Safety
    /// The element must be inside the output.
    #[allow(unsafe_code)]
    unsafe fn part(self, row: usize, column: usize) -> Self {
        Self {
            // SAFETY: the caller's promise.
            start: unsafe { self.start.add(row * self.row_stride + column) },
            ..self
        }
    }

    /// Computes a product into the target's first rows and columns.
    ///
    /// # Safety
    /// The shape must fit the operands and the output, and no one else may use that part of the
    /// output meanwhile.
    #[allow(unsafe_code)]
    unsafe fn receive(self, shape: Shape, left: Operand<'_>, right: Operand<'_>) {
        // SAFETY: the caller's promise.
        unsafe {
            gemm::gemm(
                shape.m,
                shape.n,
                shape.k,
                self.start,
                1,
                self.row_stride as isize,
                self.accumulate,
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
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn out(values: &mut [f32], row_stride: usize, accumulate: bool) -> Output<'_> {
        Output {
            values,
            row_stride,
            accumulate,
        }
    }

    #[test]
    fn strided_and_accumulating() {
        let left: Vec<f32> = (0..6).map(|v| v as f32).collect(); // [2, 3]
        let right: Vec<f32> = (0..12).map(|v| v as f32).collect(); // [4, 3], used transposed
        let mut values = vec![-1.0; 2 * 5];
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
        multiply(shape, out(&mut values, 5, false), left, right);
        assert_eq!(
            values,
            [5.0, 14.0, 23.0, 32.0, -1.0, 14.0, 50.0, 86.0, 122.0, -1.0]
        );
        multiply_on_all_threads(shape, out(&mut values, 5, true), left, right);
        assert_eq!(values[..4], [10.0, 28.0, 46.0, 64.0]);
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
        let shape = Shape { m: 2, n: 2, k: 2 };
        multiply(shape, out(&mut [0.0; 4], 2, false), operand, operand);
    }

    proptest! {
        // Values are small whole numbers, so that every order of summation gives the same.
        #[test]
        fn tasks_make_one_product(m in 1usize..900, n in 1usize..900, k in 1usize..5) {
            let noise = |count: usize| -> Vec<f32> {
                (0..count).map(|i| (i * 7919 % 13) as f32 - 6.0).collect()
            };
            let (left, right) = (noise(m * k), noise(n * k));
            let left = Operand { values: &left, row_stride: k, column_stride: 1 };
            let right = Operand { values: &right, row_stride: 1, column_stride: k };
            let stride = n + 3;
            let mut together = vec![f32::NAN; m * stride];
            let mut alone = together.clone();
            let shape = Shape { m, n, k };
            multiply_on_all_threads(shape, out(&mut together, stride, false), left, right);
            multiply(shape, out(&mut alone, stride, false), left, right);
            // Equal numbers, if not equal bits: a zero's sign depends on the micro-kernel.
            let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
            prop_assert!(together.iter().zip(&alone).all(same));
        }

        #[test]
        fn tasks_are_bounded(m in 1usize..5000, n in 1usize..30000, k in 1usize..20000, threads in 1usize..200) {
            let shape = Shape { m, n, k };
            let (down, across) = task_counts(shape, threads);
            let mut work = k;
            for (length, parts) in [(m, down), (n, across)] {
                let (mut end, mut longest) = (0, 0);
                for index in 0..parts {
                    let side = side(length, parts, index);
                    prop_assert!(side.start == end && !side.is_empty());
                    (end, longest) = (side.end, longest.max(side.len()));
                }
                prop_assert_eq!(end, length);
                work *= longest;
            }
            prop_assert!(work <= 3 * MOST_WORK || down * GRAIN >= m && across * 2 * LEAST > n);
        }
    }
}
