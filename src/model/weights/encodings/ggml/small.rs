//! Floats, and blocks of 32 values with one scale, a float16 `d`, and in some a smallest value `m`.
//!
//! In a block the low nibbles of the 16 bytes are the values 0 to 15, the high ones 16 to 31. All
//! numbers are little-endian.
#![forbid(unsafe_code)]

use half::slice::HalfFloatSliceExt;

use super::{blocks, float16};

/// Values of a block.
const BLOCK: usize = 32;
const HALF: usize = BLOCK / 2;

/// float32.
pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 4], out: &mut [f32; 1]| {
        out[0] = f32::from_le_bytes(*block);
    });
}

/// float16.
pub(super) fn f16(bytes: &[u8], out: &mut [f32]) {
    // The slice conversion uses the processor's half-precision instructions.
    match bytemuck::try_cast_slice::<u8, half::f16>(bytes) {
        Ok(values) => values.convert_to_f32_slice(out),
        Err(_) => blocks(bytes, out, |block: &[u8; 2], out: &mut [f32; 1]| {
            out[0] = float16(*block);
        }),
    }
}

/// bfloat16: the upper half of a float32.
pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 2], out: &mut [f32; 1]| {
        out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
    });
}

/// Q4_0, 18 bytes: `d`, 16 bytes of nibbles `q`; a value is `d (q - 8)`.
pub(super) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 18], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        for (index, byte) in block[2..].iter().enumerate() {
            out[index] = d * f32::from((byte & 15) as i8 - 8);
            out[index + HALF] = d * f32::from((byte >> 4) as i8 - 8);
        }
    });
}

/// Q4_1, 20 bytes: `d`, `m`, 16 bytes of nibbles `q`; a value is `d q + m`.
pub(super) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 20], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        let m = float16([block[2], block[3]]);
        for (index, byte) in block[4..].iter().enumerate() {
            out[index] = d * f32::from(byte & 15) + m;
            out[index + HALF] = d * f32::from(byte >> 4) + m;
        }
    });
}

/// The codes of five bits: nibbles, and bit `i` of `high` as the fifth of code `i`.
#[inline(always)]
fn five_bits(high: [u8; 4], nibbles: &[u8]) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (index, byte) in nibbles.iter().enumerate() {
        codes[index] = byte & 15;
        codes[index + HALF] = byte >> 4;
    }
    for (index, code) in codes.iter_mut().enumerate() {
        *code |= (high[index / 8] >> (index % 8) & 1) << 4;
    }
    codes
}

/// Q5_0, 22 bytes: `d`, 4 bytes with the fifth bits, 16 bytes of nibbles; a value is `d (q - 16)`.
pub(super) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 22], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        let codes = five_bits([block[2], block[3], block[4], block[5]], &block[6..]);
        for (value, code) in out.iter_mut().zip(codes) {
            *value = d * f32::from(code as i8 - 16);
        }
    });
}

/// Q5_1, 24 bytes: `d`, `m`, 4 bytes with the fifth bits, 16 bytes of nibbles; a value is `d q + m`.
pub(super) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 24], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        let m = float16([block[2], block[3]]);
        let codes = five_bits([block[4], block[5], block[6], block[7]], &block[8..]);
        for (value, code) in out.iter_mut().zip(codes) {
            *value = d * f32::from(code) + m;
        }
    });
}

/// Q8_0, 34 bytes: `d`, 32 signed bytes `q`; a value is `d q`.
pub(super) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    blocks(bytes, out, |block: &[u8; 34], out: &mut [f32; BLOCK]| {
        let d = float16([block[0], block[1]]);
        for (value, code) in out.iter_mut().zip(&block[2..]) {
            *value = d * f32::from(*code as i8);
        }
    });
}
