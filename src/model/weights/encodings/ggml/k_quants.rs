//! K-quants: super-blocks of 256 values whose parts of 16 or 32 have scales of their own, stored in few
//! bits and multiplied by a float16 `d` (and `dmin`) of the whole.
//!
//! In what follows a part has the values `16 k..` or `32 k..`. Two-bit codes lie so that byte `i` of 32
//! has the codes of the values `i`, `32 + i`, `64 + i` and `96 + i`, from its lowest bits up; the next 32
//! bytes have those of the other 128 values.
#![forbid(unsafe_code)]

use super::{blocks, float16};

/// Values of a super-block.
const BLOCK: usize = 256;

/// Q2_K, 84 bytes: 16 bytes with a scale `s` (low nibble) and a minimum `m` (high) of each part of 16,
/// 64 bytes of two-bit codes `q`, `d`, `dmin`; a value is `(d s) q - dmin m`.
pub(super) fn q2(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 84], out: &mut [f32; BLOCK]| {
        let (scales, codes) = (&block[..16], &block[16..80]);
        let d = float16([block[80], block[81]]);
        let dmin = float16([block[82], block[83]]);
        for (part, out) in out.chunks_exact_mut(16).enumerate() {
            let scale = d * f32::from(scales[part] & 15);
            let minimum = dmin * f32::from(scales[part] >> 4);
            let (codes, shift) = two_bits(codes, part);
            for (value, code) in out.iter_mut().zip(codes) {
                *value = scale * f32::from(code >> shift & 3) - minimum;
            }
        }
    });
}

/// The 16 bytes that hold the two-bit codes of a part, and by how much they are shifted there.
#[inline(always)]
fn two_bits(codes: &[u8], part: usize) -> (&[u8], usize) {
    let first = part / 8 * 32 + part % 2 * 16;
    (&codes[first..first + 16], part % 8 / 2 * 2)
}

/// Q3_K, 110 bytes: 32 bytes of third bits, 64 bytes of two-bit codes, 12 bytes with 16 scales `s` of six
/// bits, `d`; a value is `d (s - 32) (q - 4)`, where bit `k` of byte `i` is the third of the code `q` of
/// value `32 k + i`. Scale `k` has its lower four bits in byte `k` (low nibble) or `k - 8` (high), its
/// upper two in byte `8 + k % 4`, shifted by `k / 4` twos.
pub(super) fn q3(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 110], out: &mut [f32; BLOCK]| {
        let (high, codes, scales) = (&block[..32], &block[32..96], &block[96..108]);
        let d = float16([block[108], block[109]]);
        for (part, out) in out.chunks_exact_mut(16).enumerate() {
            let low = scales[part % 8] >> (part / 8 * 4) & 15;
            let upper = scales[8 + part % 4] >> (part / 4 * 2) & 3;
            let scale = d * f32::from((low | upper << 4) as i8 - 32);
            let (codes, shift) = two_bits(codes, part);
            let high = &high[part % 2 * 16..];
            let bit = part / 2;
            for ((value, code), high) in out.iter_mut().zip(codes).zip(high) {
                let code = (code >> shift & 3) | (high >> bit & 1) << 2;
                *value = scale * f32::from(code as i8 - 4);
            }
        }
    });
}

/// Scale and minimum of part `part` of eight, six bits each, in 12 bytes: of the first four parts the
/// lower six bits of bytes `part` and `4 + part`; of the others the nibbles of byte `4 + part`, and above
/// them the upper two bits of bytes `part - 4` and `part`.
#[inline(always)]
fn scale_and_minimum(bytes: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        (bytes[part] & 63, bytes[part + 4] & 63)
    } else {
        let both = bytes[part + 4];
        (
            both & 15 | bytes[part - 4] >> 6 << 4,
            both >> 4 | bytes[part] >> 6 << 4,
        )
    }
}

/// Q4_K, 144 bytes: `d`, `dmin`, 12 bytes with scale `s` and minimum `m` of eight parts of 32, 128 bytes
/// of nibbles `q`; a value is `(d s) q - dmin m`. Of 32 bytes the low nibbles are one part, the high
/// ones the next.
pub(super) fn q4(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 144], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        let dmin = float16([block[2], block[3]]);
        let (scales, codes) = (&block[4..16], &block[16..]);
        for (part, out) in out.chunks_exact_mut(32).enumerate() {
            let (scale, minimum) = scale_and_minimum(scales, part);
            let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
            let codes = &codes[part / 2 * 32..];
            let shift = part % 2 * 4;
            for (value, code) in out.iter_mut().zip(codes) {
                *value = scale * f32::from(code >> shift & 15) - minimum;
            }
        }
    });
}

/// Q5_K, 176 bytes: as Q4_K, with 32 bytes of fifth bits before the nibbles: bit `k` of byte `i` is that
/// of value `32 k + i`.
pub(super) fn q5(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 176], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        let dmin = float16([block[2], block[3]]);
        let (scales, high, codes) = (&block[4..16], &block[16..48], &block[48..]);
        for (part, out) in out.chunks_exact_mut(32).enumerate() {
            let (scale, minimum) = scale_and_minimum(scales, part);
            let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
            let codes = &codes[part / 2 * 32..];
            let shift = part % 2 * 4;
            for ((value, code), high) in out.iter_mut().zip(codes).zip(high) {
                let code = (code >> shift & 15) | (high >> part & 1) << 4;
                *value = scale * f32::from(code) - minimum;
            }
        }
    });
}

/// Q6_K, 210 bytes: 128 bytes of nibbles, 64 bytes of upper two bits, 16 signed scales `s` of parts of
/// 16, `d`; a value is `(d s) (q - 32)`. Each half of 128 values has 64 bytes of nibbles, the low ones
/// of its first 64 values, the high ones of the others; the upper bits lie as other two-bit codes do.
pub(super) fn q6(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 210], out: &mut [f32; BLOCK]| {
        let (nibbles, upper, scales) = (&block[..128], &block[128..192], &block[192..208]);
        let d = float16([block[208], block[209]]);
        for (part, out) in out.chunks_exact_mut(16).enumerate() {
            let scale = d * f32::from(scales[part] as i8);
            let (upper, shift) = two_bits(upper, part);
            let (half, inside) = (part / 8, part % 8);
            let nibbles = &nibbles[half * 64 + inside % 4 * 16..];
            let nibble = inside / 4 * 4;
            for ((value, low), upper) in out.iter_mut().zip(nibbles).zip(upper) {
                let code = (low >> nibble & 15) | (upper >> shift & 3) << 4;
                *value = scale * f32::from(code as i8 - 32);
            }
        }
    });
}
