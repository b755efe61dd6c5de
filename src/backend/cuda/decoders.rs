//! Which kernel decodes an encoding, and what it is told (`kernels/packed_*.cu` say what each number
//! means).
#![forbid(unsafe_code)]

use super::{
    constants::{
        NUMBER_BFLOAT16, NUMBER_E4M3, NUMBER_E8M0, NUMBER_FLOAT16, NUMBER_FLOAT32, NUMBER_INT8,
        ORDER_KEPT, ORDER_PARTED, ORDER_ROTARY, PACKED_NUMBERS, PACKED_PARTS, ZEROS_INT8,
        ZEROS_MIDDLE, ZEROS_PACKED,
    },
    tensors::int,
};
use crate::{
    error::Result,
    model::{
        dtype::DType,
        weights::{
            Absmax, Awq, Blockwise, Byte, EightBits, Encoding, Ggml, Global, Gptq, Grid,
            GridNumber, IntRows, RowOrder, RowZeros, Stored,
        },
    },
};

/// A kernel, and what it is told beside the shape of the result.
#[derive(Debug)]
pub(super) struct Decoder<'e> {
    /// `decode_<kernel>_<type of the result>`
    pub(super) kernel: String,
    /// Each at its place, the codes first.
    pub(super) parts: [Option<&'e Stored>; PACKED_PARTS],
    pub(super) numbers: [i32; PACKED_NUMBERS],
    pub(super) factor: f32,
}

impl<'e> Decoder<'e> {
    fn new<const PARTS: usize, const NUMBERS: usize>(
        kernel: impl Into<String>,
        parts: [Option<&'e Stored>; PARTS],
        numbers: [usize; NUMBERS],
    ) -> Result<Self> {
        let mut decoder = Self {
            kernel: kernel.into(),
            parts: [None; PACKED_PARTS],
            numbers: [0; PACKED_NUMBERS],
            factor: 1.0,
        };
        decoder.parts[..PARTS].copy_from_slice(&parts);
        for (own, number) in decoder.numbers.iter_mut().zip(numbers) {
            *own = int(number)?;
        }
        Ok(decoder)
    }

    /// That of an encoding; none where the host has to decode.
    pub(super) fn of(encoding: &'e Encoding) -> Result<Option<Self>> {
        let decoder = match encoding {
            Encoding::Awq(own) => awq(own),
            Encoding::Blockwise(own) => blockwise(own),
            Encoding::EightBits(own) => eight_bits(own),
            Encoding::Ggml(own) => ggml(own),
            Encoding::Gptq(own) => gptq(own),
            Encoding::IntRows(own) => integer_rows(own),
            Encoding::Mxfp4(own) => {
                let [codes, scales] = own.both();
                Self::new("mxfp4", [Some(codes), Some(scales)], [own.blocks()])
            }
            Encoding::Nvfp4(own) => Self::new(
                "nvfp4",
                [&own.codes, &own.scales.stored, &own.global].map(Some),
                [own.scales.columns, usize::from(own.does == Global::Divides)],
            ),
            Encoding::Random(own) => {
                let mut decoder = Self::new("random", [], [own.seed as usize])?;
                decoder.factor = own.spread;
                Ok(decoder)
            }
            // Blocks of ggml are decoded by the host.
            // The host adds what an adapter adds, and takes away what an experiment does.
            Encoding::Adapted(_) | Encoding::Zeroed(_) => return Ok(None),
        };
        decoder.map(Some)
    }
}

/// Type, rows and columns of a block, columns of the grid.
fn grid(grid: &Grid) -> [usize; 4] {
    let number = match grid.number {
        GridNumber::Float32 => NUMBER_FLOAT32,
        GridNumber::BFloat16 => NUMBER_BFLOAT16,
        GridNumber::Float16 => NUMBER_FLOAT16,
        GridNumber::E4M3 => NUMBER_E4M3,
        GridNumber::E8M0 => NUMBER_E8M0,
        GridNumber::Int8 => NUMBER_INT8,
    };
    [number, grid.block_rows, grid.block_columns, grid.columns]
}

fn floats(stored: &Stored) -> usize {
    match stored.elements().map(|elements| elements.dtype) {
        Some(DType::BFloat16) => NUMBER_BFLOAT16,
        Some(DType::Float16) => NUMBER_FLOAT16,
        Some(DType::Float32) | None => NUMBER_FLOAT32,
    }
}

fn eight_bits(own: &EightBits) -> Result<Decoder<'_>> {
    let kernel = match own.byte {
        Byte::E4M3 => "e4m3",
        Byte::E5M2 => "e5m2",
        Byte::Int8 => "int8",
    };
    let zeros = own.zeros.as_ref().map(|zeros| &zeros.stored);
    let [number, rows, columns, all] = grid(&own.scales);
    let mut decoder = Decoder::new(
        kernel,
        [Some(&own.codes), Some(&own.scales.stored), zeros],
        [number, rows, columns, all, own.inputs],
    )?;
    decoder.factor = own.divisor;
    Ok(decoder)
}

fn integer_rows(own: &IntRows) -> Result<Decoder<'_>> {
    let (kind, zeros) = match &own.zeros {
        RowZeros::Middle => (ZEROS_MIDDLE, None),
        RowZeros::Packed(stored) => (ZEROS_PACKED, Some(stored)),
        RowZeros::Int8(grid) => (ZEROS_INT8, Some(&grid.stored)),
    };
    let [number, rows, columns, all] = grid(&own.scales);
    Decoder::new(
        "integer_rows",
        [
            Some(&own.words),
            Some(&own.scales.stored),
            zeros,
            own.groups.as_ref(),
        ],
        [number, rows, columns, all, own.bits, own.row_words, kind],
    )
}

fn gptq(own: &Gptq) -> Result<Decoder<'_>> {
    Decoder::new(
        "gptq",
        [
            Some(&own.words),
            Some(&own.zeros),
            Some(&own.scales),
            own.groups.as_ref(),
        ],
        [
            own.bits,
            own.group,
            own.zero_offset as usize,
            own.outputs,
            floats(&own.scales),
        ],
    )
}

fn awq(own: &Awq) -> Result<Decoder<'_>> {
    Decoder::new(
        "awq",
        [Some(&own.words), own.zeros.as_ref(), Some(&own.scales)],
        [own.group, own.outputs, floats(&own.scales)],
    )
}

fn blockwise(own: &Blockwise) -> Result<Decoder<'_>> {
    // The kernel counts blocks in 32 bits.
    int(own.codes.bytes().len() * 2 / own.block)?;
    let (scales, scales_table, scales_scales, block, offset) = match &own.absmax {
        Absmax::Plain(scales) => (scales, None, None, 0, 0.0),
        Absmax::Nested {
            codes,
            table,
            absmax,
            block,
            offset,
        } => (codes, Some(table), Some(absmax), *block, *offset),
    };
    let mut decoder = Decoder::new(
        "table",
        [
            Some(&own.codes),
            Some(&own.table),
            Some(scales),
            scales_table,
            scales_scales,
        ],
        [own.inputs, own.block, block],
    )?;
    decoder.factor = offset;
    Ok(decoder)
}

fn ggml(own: &Ggml) -> Result<Decoder<'_>> {
    let (order, head_rows, heads) = match own.order() {
        RowOrder::Kept => (ORDER_KEPT, 0, 0),
        RowOrder::Rotary { head_rows } => (ORDER_ROTARY, head_rows, 0),
        RowOrder::Parted { heads, head_rows } => (ORDER_PARTED, head_rows, heads),
    };
    Decoder::new(
        format!("ggml_{}", own.kind().name.to_ascii_lowercase()),
        [Some(own.rows())],
        [own.row_bytes(), order, head_rows, heads],
    )
}
