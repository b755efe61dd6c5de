//! The innermost loops on x86: a tile of sums that stays in registers.
//!
//! Arrays of accumulators become registers because every loop over them has a constant count. A fused
//! multiply-add for every product, in the order of the inputs: all float32 kernels give the same bits.

use std::arch::x86_64::{
    __m128, __m256, __m512, __m512bh, _MM_HINT_T0, _MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_prefetch,
    _mm_storeu_ps, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::{CHAINS, Tile};

/// How many steps ahead the right operand is fetched.
const AHEAD: usize = 24;

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
            // SAFETY: the caller's promise, here and below. What is fetched ahead is only a hint.
            unsafe {
                // Rows of a wide output are far apart, and needed when the sums are ready.
                for row in 0..R {
                    let out = tile.out.wrapping_add(row * tile.stride);
                    for index in 0..$vectors {
                        _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add($width * index).cast());
                    }
                }
                for _ in 0..tile.depth {
                    // Panels of a large weight come from far, and a stream of loads ends with each page.
                    // Addresses beyond the last panel are only hints.
                    let ahead = right.wrapping_add(AHEAD * $width * $vectors);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    if $width == 16 {
                        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add($width).cast());
                    }
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

sums!(
    pairs,
    "avx512f,avx512bf16",
    __m512,
    16,
    2,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_add_ps,
    add_pair
);

/// Adds the two products of each lane's pair of bfloat16.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn add_pair(value: __m512, outputs: __m512, sum: __m512) -> __m512 {
    // SAFETY: both are 64 bytes without invalid values.
    #[allow(unsafe_code)]
    let [value, outputs] =
        [value, outputs].map(|words| unsafe { std::mem::transmute::<__m512, __m512bh>(words) });
    _mm512_dpbf16_ps(sum, value, outputs)
}

/// Defines chains of fused multiply-adds on registers, [`CHAINS`] vectors of them.
macro_rules! chains {
    ($name:ident, $features:literal, $all:ident, $fused:ident, $store:ident, $width:literal) => {
        /// # Safety
        /// The processor must have the features.
        #[target_feature(enable = $features)]
        #[allow(unsafe_code)]
        pub(super) unsafe fn $name(rounds: usize, factor: f32, term: f32) -> f32 {
            let (factor, term) = ($all(factor), $all(term));
            let mut sums = [term; CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $fused(*sum, factor, term);
                }
            }
            let mut lanes = [0.0; CHAINS * $width];
            for (lanes, sum) in lanes.chunks_exact_mut($width).zip(sums) {
                // SAFETY: there is room for a vector.
                unsafe { $store(lanes.as_mut_ptr(), sum) };
            }
            lanes.iter().sum()
        }
    };
}

chains!(
    chains512,
    "avx512f",
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps,
    16
);
chains!(
    chains256,
    "avx2,fma",
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps,
    8
);

/// Values of a line of a cache.
const LINE: usize = 16;

/// Interleaves four lines, `squares` times four values of each, and fetches those that come next.
///
/// # Panics
/// As the caller.
pub(super) fn interleave_four(
    lines: [&[f32]; 4],
    ahead: Option<[&[f32]; 4]>,
    squares: usize,
    out: &mut [f32],
    width: usize,
) {
    if squares == 0 {
        return;
    }
    for line in lines {
        assert!(4 * squares <= line.len(), "line too short");
    }
    assert!((4 * squares - 1) * width + 4 <= out.len(), "no room");
    for first in (0..4 * squares).step_by(4) {
        if let Some(ahead) = ahead.filter(|_| first % LINE == 0) {
            for line in ahead {
                // SAFETY: a hint, which reads nothing.
                #[allow(unsafe_code)]
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().wrapping_add(first).cast());
                }
            }
        }
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
