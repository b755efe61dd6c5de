//! Products of packed operands, a tile at a time: the door to the instructions of the processor.
//!
//! A tile is `rows` lines of one operand times `width` lines of the other: `out[r][c] = sum over p of
//! left[p][r] * right[p][c]`, the lines of both interleaved so that what belongs to one `p` is together.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::hint::black_box;

use super::simd::vectorise;

/// Sums that wait for no other: enough for two units of four cycles.
const CHAINS: usize = 12;

/// A set of instructions with which tiles are computed. Those in float32 give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// 12 x 32 sums in 24 of 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 6 x 16 sums in 12 of 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// As [`Kernel::Avx512`], of pairs of bfloat16, each in the place of a float32: half as many steps,
    /// each of two products, which are added up in float32.
    #[cfg(target_arch = "x86_64")]
    Pairs,
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

    /// Products of bfloat16, where the processor has them.
    pub(super) fn of_bfloat16() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
                return Some(Self::Pairs);
            }
        }
        None
    }

    /// Runs `rounds` rounds of fused multiply-adds on registers; says how many operations these were.
    pub(super) fn fused_multiply_adds(self, rounds: usize) -> usize {
        let (factor, term) = (black_box(0.5), black_box(1.0));
        #[allow(unsafe_code)]
        let (sum, width): (f32, usize) = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                // SAFETY: a kernel exists only where the processor has its instructions.
                let sum = unsafe { x86::chains256(rounds, factor, term) };
                (sum, 8)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Pairs => {
                // SAFETY: the same.
                let sum = unsafe { x86::chains512(rounds, factor, term) };
                (sum, 16)
            }
        };
        black_box(sum);
        2 * CHAINS * rounds * width
    }

    /// Values in the place of a float32.
    pub(super) fn packed(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx2 => 1,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs => 2,
        }
    }

    /// Lines of the right operand in a tile.
    pub(super) fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Pairs => 32,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 16,
        }
    }

    /// Lines of the left operand in a tile at most.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Pairs => 12,
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
                    (Self::Pairs, 12) => x86::pairs::<12>(tile),
                    (Self::Pairs, 8) => x86::pairs::<8>(tile),
                    (Self::Pairs, _) => x86::pairs::<4>(tile),
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

/// Two values as bfloat16, the nearest, ties to even, in the place of one: the first in its lower half.
#[inline(always)]
fn pair_of(first: f32, second: f32) -> f32 {
    f32::from_bits(half_of(first) >> 16 | (half_of(second) & 0xffff_0000))
}

/// The nearest bfloat16 in the upper half of the bits.
#[inline(always)]
fn half_of(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    // A number that is none must not become infinite.
    if value.is_nan() {
        bits | 0x0040_0000
    } else {
        rounded
    }
}

/// Pairs of neighbours; the last value of an odd count has zero beside it.
pub(super) fn pair_neighbours(values: &[f32], out: &mut [f32]) {
    let (pairs, rest) = values.as_chunks::<2>();
    vectorise(
        #[inline(always)]
        || {
            for (out, [first, second]) in out.iter_mut().zip(pairs) {
                *out = pair_of(*first, *second);
            }
        },
    );
    if let [last] = rest {
        out[pairs.len()] = pair_of(*last, 0.0);
    }
}

/// Pairs of the values of two lines, into the first.
pub(super) fn pair_lines(first: &mut [f32], second: &[f32]) {
    vectorise(
        #[inline(always)]
        || {
            for (first, second) in first.iter_mut().zip(second) {
                *first = pair_of(*first, *second);
            }
        },
    );
}

/// Interleaves `rows` lines of `depth` values or more: the value of line `r` at depth `p` goes to
/// `p * width + r`. Lines that are missing to `width` become zeros.
///
/// # Panics
/// As [`Kernel::multiply`].
pub(super) fn interleave<'a>(
    line: impl Fn(usize) -> &'a [f32],
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
    transpose(line, (rows, depth), out, width);
}

/// As [`interleave`], and what lies between the lines of the output stays.
pub(super) fn transpose<'a>(
    line: impl Fn(usize) -> &'a [f32],
    (rows, depth): (usize, usize),
    out: &mut [f32],
    width: usize,
) {
    if rows == 0 || depth == 0 {
        return;
    }
    assert!((depth - 1) * width + rows <= out.len(), "no room");
    let squares = if cfg!(target_arch = "x86_64") {
        rows / 4 * 4
    } else {
        0
    };
    let even = if squares > 0 { depth / 4 * 4 } else { 0 };
    #[cfg(target_arch = "x86_64")]
    for first in (0..squares).step_by(4) {
        let lines = |first: usize| [0, 1, 2, 3].map(|row| &line(first + row)[..depth]);
        let ahead = (first + 8 <= squares).then(|| lines(first + 4));
        x86::interleave_four(lines(first), ahead, even / 4, &mut out[first..], width);
    }
    for row in 0..rows {
        let begin = if row < squares { even } else { 0 };
        if begin == depth {
            continue;
        }
        let line = &line(row)[begin..depth];
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

    /// Sums of pairs, the values of which bfloat16 holds.
    #[test]
    fn pairs_are_added_up_in_float32() {
        let Some(kernel) = Kernel::of_bfloat16() else {
            return;
        };
        let (depth, width) = (40, kernel.width());
        for rows in 1..=kernel.rows() {
            let step = kernel.rows_read(rows);
            let (low, high) = (
                noise(depth * (step + width), 1),
                noise(depth * (step + width), 2),
            );
            let words = Vec::from_iter(low.iter().zip(&high).map(|pair| pair_of(*pair.0, *pair.1)));
            let (left, right) = words.split_at(depth * step);
            let mut out = vec![f32::NAN; rows * width];
            let operand = Left { values: left, step };
            let target = (&mut out[..], width);
            kernel.multiply((rows, depth), operand, right, target, Begin::Zero);
            let value = |word: f32| {
                let bits = word.to_bits();
                [bits << 16, bits & 0xffff_0000].map(|bits| f64::from(f32::from_bits(bits)))
            };
            for (at, out) in out.iter().enumerate() {
                let (r, c) = (at / width, at % width);
                let truth: f64 = (0..depth)
                    .flat_map(|p| {
                        let (a, b) = (value(left[p * step + r]), value(right[p * width + c]));
                        [a[0] * b[0], a[1] * b[1]]
                    })
                    .sum();
                assert!(
                    (f64::from(*out) - truth).abs() < 1e-5,
                    "{rows} {at}: {out} {truth}"
                );
            }
        }
    }

    #[test]
    fn halves_are_the_nearest() {
        let mut values = noise(3000, 6);
        values.extend([
            0.0,
            -0.0,
            f32::INFINITY,
            f32::MAX,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
        ]);
        for value in values {
            let truth = half::bf16::from_f32(value).to_bits();
            let word = pair_of(value, -value).to_bits();
            assert_eq!(
                (word as u16, (word >> 16) as u16),
                (truth, truth ^ 0x8000),
                "{value}"
            );
        }
        let word = pair_of(f32::NAN, f32::from_bits(0x7f80_0001)).to_bits();
        let halves = [word as u16, (word >> 16) as u16].map(half::bf16::from_bits);
        assert!(halves.into_iter().all(half::bf16::is_nan));
    }

    #[test]
    fn interleaves_every_size() {
        for width in [2, 6, 12, 32] {
            for rows in 0..=width {
                for depth in [1, 3, 4, 11] {
                    let stride = depth + 2;
                    let values = noise(rows * stride, 5);
                    let line = |row: usize| &values[row * stride..][..depth];
                    let mut out = vec![f32::NAN; depth * width + 1];
                    transpose(line, (rows, depth), &mut out, width);
                    let kept = |(at, value): (usize, &f32)| at % width < rows || value.is_nan();
                    assert!(out.iter().enumerate().all(kept));
                    interleave(line, (rows, depth), &mut out, width);
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
