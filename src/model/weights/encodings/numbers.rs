//! Small number formats, as tables of float32.
#![forbid(unsafe_code)]

/// FP8 E4M3 as networks use it ("fn"): no infinity, NaN where all of exponent and fraction is set.
pub(super) static E4M3: [f32; 256] = eight_bits(4, true);
/// FP8 E5M2: as IEEE 754, with infinities.
pub(super) static E5M2: [f32; 256] = eight_bits(5, false);

/// E2M1: a sign, two exponent bits, one fraction bit.
pub(super) static E2M1: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

/// E8M0: a power of two, `2^(byte - 127)`; 255 is NaN.
#[inline(always)]
pub(super) fn e8m0(byte: u8) -> f32 {
    match byte {
        // The only one below float32's smallest normal number.
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(byte) << 23),
    }
}

const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// All floats of a sign, `exponent` bits and a fraction in what is left of eight bits.
const fn eight_bits(exponent: i32, finite: bool) -> [f32; 256] {
    let fraction_bits = 7 - exponent;
    let bias = (1 << (exponent - 1)) - 1;
    let largest = (1 << exponent) - 1;
    let mut table = [0.0; 256];
    let mut byte = 0;
    while byte < 256 {
        let power = ((byte as i32) & 127) >> fraction_bits;
        let fraction = (byte as i32) & ((1 << fraction_bits) - 1);
        let part = fraction as f32 * power_of_two(-fraction_bits);
        let size = if power == 0 {
            part * power_of_two(1 - bias)
        } else if power < largest || finite && byte & 127 != 127 {
            (1.0 + part) * power_of_two(power - bias)
        } else if finite || fraction != 0 {
            f32::NAN
        } else {
            f32::INFINITY
        };
        table[byte] = if byte < 128 { size } else { -size };
        byte += 1;
    }
    table
}

/// Code `index` of a dense stream of `bits`-bit codes in little-endian 32-bit words, the lowest bits
/// first; the stream's words are `first`, `first + stride` and so on. A code may lie across two words.
#[inline(always)]
pub(super) fn code(bytes: &[u8], first: usize, stride: usize, index: usize, bits: usize) -> u32 {
    let (word, shift) = (index * bits / 32, index * bits % 32);
    let mut code = load(bytes, first + word * stride) >> shift;
    if shift + bits > 32 {
        code |= load(bytes, first + (word + 1) * stride) << (32 - shift);
    }
    code & mask(bits)
}

/// The same of one stream alone, whose words follow each other: then it is one of bytes.
#[inline(always)]
pub(super) fn code_of_row(row: &[u8], index: usize, bits: usize) -> u32 {
    let (byte, shift) = (index * bits / 8, index * bits % 8);
    let next = row.get(byte + 1).copied().unwrap_or_default();
    u32::from(u16::from_le_bytes([row[byte], next])) >> shift & mask(bits)
}

/// Values of four bits from `first` on, two a byte: `table[code] * scale`.
#[inline(always)]
pub(super) fn halves(
    bytes: &[u8],
    first: usize,
    order: Halves,
    table: &[f32; 16],
    scale: f32,
    out: &mut [f32],
) {
    let both = |byte: u8| {
        let [low, high] = [byte & 15, byte >> 4].map(|code| table[usize::from(code)] * scale);
        match order {
            Halves::LowFirst => [low, high],
            Halves::HighFirst => [high, low],
        }
    };
    let mut bytes = &bytes[first / 2..];
    let mut rest = out;
    if first % 2 == 1
        && let [value, others @ ..] = rest
    {
        *value = both(bytes[0])[1];
        (bytes, rest) = (&bytes[1..], others);
    }
    let (pairs, last) = rest.as_chunks_mut::<2>();
    for (pair, &byte) in pairs.iter_mut().zip(bytes) {
        *pair = both(byte);
    }
    if let [value] = last {
        *value = both(bytes[pairs.len()])[0];
    }
}

/// Which half of a byte is the earlier value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halves {
    LowFirst,
    HighFirst,
}

/// As many ones as a code has bits.
#[inline(always)]
pub(super) fn mask(bits: usize) -> u32 {
    (1 << bits) - 1
}

/// Word `index` of little-endian 32-bit words.
#[inline(always)]
pub(super) fn load(bytes: &[u8], index: usize) -> u32 {
    let at = index * 4;
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_eight_bits() {
        for (byte, value) in [
            (0x00, 0.0),
            (0x01, 0.001_953_125),
            (0x07, 0.013_671_875),
            (0x08, 0.015_625),
            (0x38, 1.0),
            (0x7E, 448.0),
            (0xFE, -448.0),
            (0xB9, -1.125),
        ] {
            assert_eq!(E4M3[byte], value, "{byte:#x}");
        }
        assert!(E4M3[0x7F].is_nan() && E4M3[0xFF].is_nan());
        assert!(E4M3[0x80] == 0.0 && E4M3[0x80].is_sign_negative());
        for (byte, value) in [
            (0x01, 1.0 / 65_536.0),
            (0x3C, 1.0),
            (0x7B, 57344.0),
            (0x7C, f32::INFINITY),
            (0xFC, f32::NEG_INFINITY),
        ] {
            assert_eq!(E5M2[byte], value, "{byte:#x}");
        }
        assert!(E5M2[0x7D].is_nan());
        assert_eq!((e8m0(0), e8m0(127), e8m0(130)), (2f32.powi(-127), 1.0, 8.0));
        assert!(e8m0(255).is_nan());
    }

    #[test]
    fn halves_of_bytes_from_any_place() {
        let table: [f32; 16] = std::array::from_fn(|code| code as f32);
        let bytes = [0x21, 0x43, 0x65];
        let of = |first, count, order| {
            let mut out = vec![0.0; count];
            halves(&bytes, first, order, &table, 2.0, &mut out);
            out
        };
        assert_eq!(of(0, 5, Halves::LowFirst), [2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(of(1, 4, Halves::LowFirst), [4.0, 6.0, 8.0, 10.0]);
        assert_eq!(of(1, 3, Halves::HighFirst), [2.0, 8.0, 6.0]);
        assert_eq!(of(5, 1, Halves::HighFirst), [10.0]);
        assert!(of(3, 0, Halves::LowFirst).is_empty());
    }

    #[test]
    fn codes_may_lie_across_words() {
        // 32 codes of three bits in three words, two streams side by side.
        let mut words = [0u32; 6];
        for index in 0..32usize {
            for bit in 0..3 {
                let at = 3 * index + bit;
                words[at / 32 * 2 + 1] |= ((index as u32 * 5 % 8) >> bit & 1) << (at % 32);
            }
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for index in 0..32 {
            assert_eq!(code(&bytes, 1, 2, index, 3), index as u32 * 5 % 8);
            assert_eq!(code(&bytes, 0, 2, index, 3), 0);
            let own: Vec<u8> = bytes.chunks(8).flat_map(|two| two[4..].to_vec()).collect();
            assert_eq!(code_of_row(&own, index, 3), index as u32 * 5 % 8);
        }
    }
}
