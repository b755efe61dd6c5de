//! Products of packed operands, a tile at a time: the door to the instructions of the processor.
//!
//! A tile is `rows` lines of one operand times `width` lines of the other: `out[r][c] = sum over p of
//! left[p][r] * right[p][c]`, the lines of both interleaved so that what belongs to one `p` is together.

#[cfg(target_arch = "x86_64")]
mod x86;

/// A set of instructions with which tiles are computed. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// 12 x 32 sums in 24 of 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 6 x 16 sums in 12 of 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// One operand: the value of line `r` at depth `p` is at `p * step + r`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) values: &'a [f32],
    pub(super) step: usize,
}

/// What the sums are added to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin<'a> {
    Zero,
    /// What is in the output.
    Output,
    /// A row, the same for all rows.
    Row(&'a [f32]),
}

/// A tile with its addresses.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Tile {
    depth: usize,
    left: *const f32,
    step: usize,
    right: *const f32,
    out: *mut f32,
    stride: usize,
    /// Rows that are stored.
    rows: usize,
    /// What is added, if not null.
    begin: *const f32,
    begin_stride: usize,
}

impl Kernel {
    /// The best that the processor has.
    pub(super) fn best() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Some(Self::Avx512);
            }
        }
        Self::without_avx512()
    }

    /// The best of those that need no AVX-512.
    pub(super) fn without_avx512() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Some(Self::Avx2);
            }
        }
        None
    }

    /// Lines of the right operand in a tile.
    pub(super) fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 32,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 16,
        }
    }

    /// Lines of the left operand in a tile at most.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => 12,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 6,
        }
    }

    /// Lines of the left operand that are read for `rows` of them: those too many must be there.
    pub(super) fn rows_read(self, rows: usize) -> usize {
        let grain = self.rows() / 3;
        rows.next_multiple_of(grain)
    }

    /// Computes the first `rows` rows of a tile, `depth` products a sum, into the first `width` columns of
    /// the output's rows, `stride` apart.
    ///
    /// # Panics
    /// If a slice is too short: a mistake in this crate, never in the input.
    #[inline]
    pub(super) fn multiply(
        self,
        (rows, depth): (usize, usize),
        left: Left<'_>,
        right: &[f32],
        (out, stride): (&mut [f32], usize),
        begin: Begin<'_>,
    ) {
        if rows == 0 {
            return;
        }
        let (width, read) = (self.width(), self.rows_read(rows));
        assert!(rows <= self.rows() && depth > 0, "no tile");
        assert!(
            (depth - 1) * left.step + read <= left.values.len(),
            "left operand too short"
        );
        assert!(depth * width <= right.len(), "right operand too short");
        assert!((rows - 1) * stride + width <= out.len(), "output too short");
        if let Begin::Row(row) = begin {
            assert!(width <= row.len(), "row too short");
        }
        #[cfg(target_arch = "x86_64")]
        {
            let out = out.as_mut_ptr();
            let (begin, begin_stride) = match begin {
                Begin::Zero => (std::ptr::null(), 0),
                Begin::Output => (out.cast_const(), stride),
                Begin::Row(row) => (row.as_ptr(), 0),
            };
            let tile = Tile {
                depth,
                left: left.values.as_ptr(),
                step: left.step,
                right: right.as_ptr(),
                out,
                stride,
                rows,
                begin,
                begin_stride,
            };
            // SAFETY: a kernel exists only where the processor has its instructions, and the assertions
            // above cover what is read and written.
            #[allow(unsafe_code)]
            unsafe {
                match (self, read) {
                    (Self::Avx512, 12) => x86::avx512::<12>(tile),
                    (Self::Avx512, 8) => x86::avx512::<8>(tile),
                    (Self::Avx512, _) => x86::avx512::<4>(tile),
                    (Self::Avx2, 6) => x86::avx2::<6>(tile),
                    (Self::Avx2, 4) => x86::avx2::<4>(tile),
                    (Self::Avx2, _) => x86::avx2::<2>(tile),
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (left, right, out, stride, begin);
            match self {}
        }
    }
}

/// Interleaves `rows` lines of `depth` values, `stride` apart: the value of line `r` at depth `p` goes to
/// `p * width + r`. Lines that are missing to `width` become zeros.
///
/// # Panics
/// As [`Kernel::multiply`].
pub(super) fn interleave(
    (values, stride): (&[f32], usize),
    (rows, depth): (usize, usize),
    out: &mut [f32],
    width: usize,
) {
    assert!(rows <= width && depth * width <= out.len(), "no room");
    if rows < width {
        for line in out[..depth * width].chunks_exact_mut(width) {
            line[rows..].fill(0.0);
        }
    }
    let squares = if cfg!(target_arch = "x86_64") {
        rows / 4 * 4
    } else {
        0
    };
    let even = if squares > 0 { depth / 4 * 4 } else { 0 };
    #[cfg(target_arch = "x86_64")]
    for first in (0..squares).step_by(4) {
        let line = |row: usize| &values[(first + row) * stride..][..depth];
        let lines = [0, 1, 2, 3].map(line);
        x86::interleave_four(lines, even / 4, &mut out[first..], width);
    }
    for row in 0..rows {
        let begin = if row < squares { even } else { 0 };
        let line = &values[row * stride..][begin..depth];
        let out = out[begin * width..].iter_mut().skip(row).step_by(width);
        for (out, value) in out.zip(line) {
            *out = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// Every number of rows, and lines further apart than they are wide, to the last bit.
    #[test]
    fn tiles_are_chains_of_fused_products() {
        let kernels = [Kernel::best(), Kernel::without_avx512()];
        for kernel in kernels.into_iter().flatten() {
            let width = kernel.width();
            for rows in 1..=kernel.rows() {
                for (depth, more) in [(1, 0), (5, 3), (64, 1)] {
                    let step = kernel.rows_read(rows) + more;
                    let (left, right) = (noise(depth * step, 1), noise(depth * width, 2));
                    let row = noise(width, 3);
                    let stride = width + more;
                    let before = noise((rows + 1) * stride, 4);
                    for begin in [Begin::Zero, Begin::Output, Begin::Row(&row)] {
                        let mut out = before.clone();
                        let operand = Left {
                            values: &left,
                            step,
                        };
                        let target = (&mut out[..], stride);
                        kernel.multiply((rows, depth), operand, &right, target, begin);
                        for (at, out) in out.iter().enumerate() {
                            let (r, c) = (at / stride, at % stride);
                            if r >= rows || c >= width {
                                assert_eq!(*out, before[at], "{kernel:?} {rows} {at}");
                                continue;
                            }
                            let sum = (0..depth).fold(0.0f32, |sum, p| {
                                left[p * step + r].mul_add(right[p * width + c], sum)
                            });
                            let truth = match begin {
                                Begin::Zero => sum,
                                Begin::Output => before[at] + sum,
                                Begin::Row(row) => row[c] + sum,
                            };
                            assert_eq!(*out, truth, "{kernel:?} {rows} {depth} {at}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn interleaves_every_size() {
        for width in [2, 6, 12, 32] {
            for rows in 0..=width {
                for depth in [1, 3, 4, 11] {
                    let stride = depth + 2;
                    let values = noise(rows * stride, 5);
                    let mut out = vec![f32::NAN; depth * width + 1];
                    interleave((&values, stride), (rows, depth), &mut out, width);
                    assert!(out.pop().is_some_and(f32::is_nan));
                    for (at, out) in out.iter().enumerate() {
                        let (p, r) = (at / width, at % width);
                        let truth = if r < rows {
                            values[r * stride + p]
                        } else {
                            0.0
                        };
                        assert_eq!(*out, truth);
                    }
                }
            }
        }
    }
}
