//! The types that a GGUF file stores values in, by their numbers in ggml.h.
#![forbid(unsafe_code)]

use super::{k_quants, nonlinear, small, ternary};

/// A type: so many values lie together in a block of so many bytes.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// In ggml's words, as `Q4_K`.
    pub name: &'static str,
    /// Number in the file.
    pub code: u32,
    /// Values of a block.
    pub values: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// How whole blocks become values; none for what massact does not read.
    pub(super) decode: Option<Decode>,
}

/// From whole blocks to their values.
pub(super) type Decode = fn(&[u8], &mut [f32]);

const fn kind(
    code: u32,
    name: &'static str,
    values: usize,
    bytes: usize,
    decode: Option<Decode>,
) -> Kind {
    Kind {
        name,
        code,
        values,
        bytes,
        decode,
    }
}

/// All types, those that are not read for their names.
#[rustfmt::skip]
const KINDS: &[Kind] = &[
    kind(0, "F32", 1, 4, Some(small::f32)),
    kind(1, "F16", 1, 2, Some(small::f16)),
    kind(2, "Q4_0", 32, 18, Some(small::q4_0)),
    kind(3, "Q4_1", 32, 20, Some(small::q4_1)),
    kind(6, "Q5_0", 32, 22, Some(small::q5_0)),
    kind(7, "Q5_1", 32, 24, Some(small::q5_1)),
    kind(8, "Q8_0", 32, 34, Some(small::q8_0)),
    kind(9, "Q8_1", 32, 36, None),
    kind(10, "Q2_K", 256, 84, Some(k_quants::q2)),
    kind(11, "Q3_K", 256, 110, Some(k_quants::q3)),
    kind(12, "Q4_K", 256, 144, Some(k_quants::q4)),
    kind(13, "Q5_K", 256, 176, Some(k_quants::q5)),
    kind(14, "Q6_K", 256, 210, Some(k_quants::q6)),
    kind(15, "Q8_K", 256, 292, None),
    kind(16, "IQ2_XXS", 256, 66, None),
    kind(17, "IQ2_XS", 256, 74, None),
    kind(18, "IQ3_XXS", 256, 98, None),
    kind(19, "IQ1_S", 256, 50, None),
    kind(20, "IQ4_NL", 32, 18, Some(nonlinear::iq4_nl)),
    kind(21, "IQ3_S", 256, 110, None),
    kind(22, "IQ2_S", 256, 82, None),
    kind(23, "IQ4_XS", 256, 136, Some(nonlinear::iq4_xs)),
    kind(24, "I8", 1, 1, None),
    kind(25, "I16", 1, 2, None),
    kind(26, "I32", 1, 4, None),
    kind(27, "I64", 1, 8, None),
    kind(28, "F64", 1, 8, None),
    kind(29, "IQ1_M", 256, 56, None),
    kind(30, "BF16", 1, 2, Some(small::bf16)),
    kind(34, "TQ1_0", 256, 54, Some(ternary::tq1_0)),
    kind(35, "TQ2_0", 256, 66, Some(ternary::tq2_0)),
    kind(39, "MXFP4", 32, 17, Some(nonlinear::mxfp4)),
    kind(40, "NVFP4", 64, 36, None),
];

impl Kind {
    /// The type of this number; none if there is none.
    pub fn of(code: u32) -> Option<Self> {
        KINDS.iter().find(|kind| kind.code == code).copied()
    }

    /// Whether massact decodes it.
    pub fn is_read(&self) -> bool {
        self.decode.is_some()
    }

    /// The types that massact decodes, for a message.
    pub fn read() -> String {
        let read = KINDS.iter().filter(|kind| kind.is_read());
        let names: Vec<&str> = read.map(|kind| kind.name).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_there_once() {
        for (index, kind) in KINDS.iter().enumerate() {
            let before = &KINDS[..index];
            assert!(before.iter().all(|one| one.code < kind.code), "{kind:?}");
            assert!(before.iter().all(|one| one.name != kind.name), "{kind:?}");
            assert_eq!(Kind::of(kind.code).map(|found| found.name), Some(kind.name));
        }
        assert!(Kind::of(4).is_none());
    }
}
