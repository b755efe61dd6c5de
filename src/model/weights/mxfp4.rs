//! MXFP4: four-bit floats in blocks of 32 with a shared power of two (OCP Microscaling Formats
//! 1.0, sections 5.3 and 6.3).
#![forbid(unsafe_code)]

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a block; the low half of a byte holds the earlier value.
pub(crate) const BLOCK_BYTES: usize = BLOCK / 2;

/// E2M1: a sign, two exponent bits, one fraction bit.
const E2M1: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

/// Decodes blocks with their E8M0 scales (`2^(byte - 127)`) into `out`.
pub(crate) fn decode(blocks: &[u8], scales: &[u8], out: &mut Vec<f32>) {
    for (block, scale) in blocks.chunks_exact(BLOCK_BYTES).zip(scales) {
        let scale = (f64::from(*scale) - 127.0).exp2() as f32;
        for byte in block {
            for code in [byte & 15, byte >> 4] {
                out.push(E2M1[usize::from(code)] * scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_half_first_and_scaled() {
        let mut block = [0u8; BLOCK_BYTES];
        block[0] = 0x72;
        block[15] = 0xF9;
        let mut out = Vec::new();
        decode(&block, &[128], &mut out);
        assert_eq!(out.len(), BLOCK);
        assert_eq!((out[0], out[1]), (2.0, 12.0));
        assert_eq!((out[30], out[31]), (-1.0, -12.0));
    }
}
