//! Ternary numbers: -1, 0 or 1 times a float16 `d`, for 256 of them.
#![forbid(unsafe_code)]

use super::{blocks, float16};

/// Values of a block.
const BLOCK: usize = 256;

/// TQ2_0, 66 bytes: 64 bytes of two-bit codes `q`, `d`; a value is `d (q - 1)`. Byte `i` of 32 has the
/// codes of the values `i`, `32 + i`, `64 + i` and `96 + i`, from its lowest bits up.
pub(super) fn tq2_0(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 66], out: &mut [f32; BLOCK]| {
        let d = float16([block[64], block[65]]);
        for (part, out) in out.chunks_exact_mut(32).enumerate() {
            let codes = &block[part / 4 * 32..part / 4 * 32 + 32];
            let shift = part % 4 * 2;
            for (value, code) in out.iter_mut().zip(codes) {
                *value = d * f32::from((code >> shift & 3) as i8 - 1);
            }
        }
    });
}

/// TQ1_0, 54 bytes: 48 bytes of five ternary digits, 4 bytes of four, `d`. A byte is a fraction of 256
/// whose ternary digits are the codes: digit `n` of byte `b` is `(b 3^n mod 256) 3 / 256`, rounded down.
/// The digits `n` of the first 32 bytes are the values `32 n..`, those of the next 16 bytes the values
/// `160 + 16 n..`, those of the last four the values `240 + 4 n..`; a value is `d (q - 1)`.
pub(super) fn tq1_0(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 54], out: &mut [f32; BLOCK]| {
        let d = float16([block[52], block[53]]);
        let (first, rest) = out.split_at_mut(160);
        let (second, third) = rest.split_at_mut(80);
        digits(&block[..32], d, first);
        digits(&block[32..48], d, second);
        digits(&block[48..52], d, third);
    });
}

#[inline(always)]
fn digits(bytes: &[u8], d: f32, out: &mut [f32]) {
    let mut power = 1u8;
    for out in out.chunks_exact_mut(bytes.len()) {
        for (value, byte) in out.iter_mut().zip(bytes) {
            let digit = ((u16::from(byte.wrapping_mul(power)) * 3) >> 8) as i8;
            *value = d * f32::from(digit - 1);
        }
        power = power.wrapping_mul(3);
    }
}
