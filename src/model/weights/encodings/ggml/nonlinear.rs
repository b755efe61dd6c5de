//! Four-bit codes that stand for unevenly spaced numbers.
#![forbid(unsafe_code)]

use super::{blocks, float16};

/// Values of a block.
const BLOCK: usize = 32;
const HALF: usize = BLOCK / 2;

/// What the codes of IQ4_NL and IQ4_XS stand for.
#[rustfmt::skip]
const UNEVEN: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0,
    1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0,
];

/// E2M1, doubled: a sign, two exponent bits, one fraction bit. Code 8 is a zero without sign, as in
/// ggml's table of integers.
const DOUBLED: [f32; 16] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0,
];

/// Values of 16 bytes of nibbles: the low ones are the first half.
#[inline(always)]
fn looked_up(table: &[f32; 16], nibbles: &[u8], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(HALF);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(nibbles) {
        *low = scale * table[usize::from(byte & 15)];
        *high = scale * table[usize::from(byte >> 4)];
    }
}

/// IQ4_NL, 18 bytes: `d`, 16 bytes of nibbles; a value is `d UNEVEN[q]`.
pub(super) fn iq4_nl(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 18], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        looked_up(&UNEVEN, &block[2..], d, out);
    });
}

/// IQ4_XS, 136 bytes for 256 values: `d`, 2 bytes with the upper two bits of the scales of eight parts
/// of 32, 4 bytes with the lower four, 128 bytes of nibbles, 16 a part; a value is
/// `d (s - 32) UNEVEN[q]`. Both lists of bits begin with the lowest ones.
pub(super) fn iq4_xs(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 136], out: &mut [f32; 256]| {
        let d = float16([block[0], block[1]]);
        let upper = u16::from_le_bytes([block[2], block[3]]);
        let (lower, codes) = (&block[4..8], &block[8..]);
        for (part, out) in out.chunks_exact_mut(BLOCK).enumerate() {
            let low = lower[part / 2] >> (part % 2 * 4) & 15;
            let high = (upper >> (2 * part) & 3) as u8;
            let scale = d * f32::from((low | high << 4) as i8 - 32);
            looked_up(&UNEVEN, &codes[part * HALF..], scale, out);
        }
    });
}

/// MXFP4, 17 bytes: an exponent `e` (E8M0), 16 bytes of nibbles; a value is `2^(e - 128) DOUBLED[q]`.
pub(super) fn mxfp4(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 17], out: &mut [f32; BLOCK]| {
        let exponent = u32::from(block[0]);
        // The two smallest are subnormal.
        let bits = match exponent {
            0 | 1 => 0x0020_0000 << exponent,
            _ => (exponent - 1) << 23,
        };
        looked_up(&DOUBLED, &block[1..], f32::from_bits(bits), out);
    });
}
