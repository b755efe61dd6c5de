//! The innermost loops on x86: a tile of sums that stays in registers.
//!
//! Arrays of accumulators become registers because every loop over them has a constant count. A fused
//! multiply-add for every product, in the order of the inputs: all instruction sets give the same bits.

use std::arch::x86_64::{
    __m128, __m256, __m512, _MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps, _mm256_add_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::Tile;

/// Defines the sums of `R` rows in `VECTORS` vectors for one instruction set.
macro_rules! sums {
    ($name:ident, $features:literal, $vector:ty, $width:literal, $vectors:literal,
     $zero:ident, $load:ident, $store:ident, $all:ident, $add:ident, $fused:ident) => {
        /// # Safety
        /// The processor must have the features, and the tile's addresses must be valid for `R` rows.
        #[target_feature(enable = $features)]
        #[allow(unsafe_code)]
        pub(super) unsafe fn $name<const R: usize>(tile: Tile) {
            let mut sums: [[$vector; $vectors]; R] = [[$zero(); $vectors]; R];
            let (mut left, mut right) = (tile.left, tile.right);
            // SAFETY: the caller's promise, here and below.
            unsafe {
                for _ in 0..tile.depth {
                    let mut outputs = [$zero(); $vectors];
                    for (index, outputs) in outputs.iter_mut().enumerate() {
                        *outputs = $load(right.add($width * index));
                    }
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let value = $all(*left.add(row));
                        for (sum, outputs) in sums.iter_mut().zip(outputs) {
                            *sum = $fused(value, outputs, *sum);
                        }
                    }
                    left = left.add(tile.step);
                    right = right.add($width * $vectors);
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    if row < tile.rows {
                        let out = tile.out.add(row * tile.stride);
                        for (index, sum) in sums.into_iter().enumerate() {
                            let out = out.add($width * index);
                            let sum = if tile.begin.is_null() {
                                sum
                            } else {
                                let begin =
                                    tile.begin.add(row * tile.begin_stride + $width * index);
                                $add($load(begin), sum)
                            };
                            $store(out, sum);
                        }
                    }
                }
            }
        }
    };
}

sums!(
    avx512,
    "avx512f",
    __m512,
    16,
    2,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    _mm512_fmadd_ps
);
sums!(
    avx2,
    "avx2,fma",
    __m256,
    8,
    2,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_add_ps,
    _mm256_fmadd_ps
);

/// Interleaves four lines, `squares` times four values of each.
///
/// # Panics
/// As the caller.
pub(super) fn interleave_four(lines: [&[f32]; 4], squares: usize, out: &mut [f32], width: usize) {
    if squares == 0 {
        return;
    }
    for line in lines {
        assert!(4 * squares <= line.len(), "line too short");
    }
    assert!((4 * squares - 1) * width + 4 <= out.len(), "no room");
    for first in (0..4 * squares).step_by(4) {
        // SAFETY: the assertions above cover the four values of each line and of each place.
        #[allow(unsafe_code)]
        unsafe {
            let [mut a, mut b, mut c, mut d]: [__m128; 4] =
                lines.map(|line| _mm_loadu_ps(line.as_ptr().add(first)));
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            let out = out.as_mut_ptr().add(first * width);
            _mm_storeu_ps(out, a);
            _mm_storeu_ps(out.add(width), b);
            _mm_storeu_ps(out.add(2 * width), c);
            _mm_storeu_ps(out.add(3 * width), d);
        }
    }
}
