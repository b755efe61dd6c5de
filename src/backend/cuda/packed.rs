//! Packed weights on the device (`kernels/packed.cuh`): the bytes go up as they are in the file, and a
//! kernel decodes them there, so that a copy shrinks with the format.
#![forbid(unsafe_code)]

use std::{mem::offset_of, rc::Rc};

use super::{
    Cuda,
    constants::{PACKED_BYTES, PACKED_FACTOR_OFFSET, PACKED_NUMBERS, PACKED_PARTS},
    decoders::Decoder,
    device::{Address, Argument, Device},
    memory::Buffer,
    tensors::{int, suffix, threads},
    uploads::Upload,
};
use crate::{
    error::Result,
    model::{
        dtype::DType,
        weights::{PackedMatrix, Stored},
    },
};

/// `PackedArguments`, which says what each is.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Arguments {
    parts: [Address; PACKED_PARTS],
    out: Address,
    outputs: i32,
    inputs: i32,
    first: i32,
    size: i32,
    stride: i32,
    skipped: i32,
    numbers: [i32; PACKED_NUMBERS],
    factor: f32,
}

const _: () = assert!(size_of::<Arguments>() == PACKED_BYTES);
const _: () = assert!(offset_of!(Arguments, factor) == PACKED_FACTOR_OFFSET);

/// How a weight is decoded, once its bytes are there.
#[derive(Debug)]
pub(super) struct Decoding {
    kernel: String,
    numbers: [i32; PACKED_NUMBERS],
    factor: f32,
    by_input: bool,
    outputs: usize,
    inputs: usize,
    /// `first`, `size`, `stride` and `skipped` of the arguments.
    rows: [i32; 4],
}

/// What of a part belongs to matrix `index` of a stack of `count`: all parts are stacks of as many.
fn share(part: &Stored, index: usize, count: usize) -> &[u8] {
    let bytes = part.bytes();
    let size = bytes.len() / count;
    &bytes[index * size..(index + 1) * size]
}

impl<D: Device> Cuda<D> {
    /// Starts copying the bytes of a packed weight to the device; none where the host has to decode it.
    pub(super) fn bring_packed(
        &self,
        matrix: &PackedMatrix<'_>,
    ) -> Result<Option<(Rc<Upload<D>>, Decoding)>> {
        let encoding = matrix.tensor().encoding();
        let Some(decoder) = Decoder::of(encoding)? else {
            return Ok(None);
        };
        let rows = matrix.rows();
        let decoding = Decoding {
            kernel: decoder.kernel,
            numbers: decoder.numbers,
            factor: decoder.factor,
            by_input: encoding.by_input(),
            outputs: matrix.out_features,
            inputs: matrix.in_features,
            rows: [
                int(rows.first)?,
                int(rows.size)?,
                int(rows.stride)?,
                int(rows.skipped)?,
            ],
        };
        let shape = matrix.tensor().shape();
        let count: usize = shape[..shape.len() - 2].iter().product();
        let parts = decoder
            .parts
            .map(|part| part.map(|part| (part, share(part, matrix.index(), count.max(1)))));
        Ok(Some((self.upload(parts)?, decoding)))
    }

    /// The values of a packed weight in this type: `[outputs, inputs]`, or the other way round where its
    /// encoding goes by inputs.
    pub(super) fn decoded(
        &self,
        upload: &Upload<D>,
        decoding: &Decoding,
        dtype: DType,
    ) -> Result<Buffer<D>> {
        let &Decoding {
            by_input,
            outputs,
            inputs,
            rows: [first, size, stride, skipped],
            ..
        } = decoding;
        let parts = upload.ready()?;
        let out = self.buffer(outputs * inputs * dtype.size())?;
        let arguments = Arguments {
            parts,
            out: out.address(),
            outputs: int(outputs)?,
            inputs: int(inputs)?,
            first,
            size,
            stride,
            skipped,
            numbers: decoding.numbers,
            factor: decoding.factor,
        };
        let (lines, length) = if by_input {
            (inputs, outputs)
        } else {
            (outputs, inputs)
        };
        self.launch(
            &format!("decode_{}_{}", decoding.kernel, suffix(dtype)),
            [int(lines)?.cast_unsigned(), 1],
            threads(length),
            &[Argument::of(&arguments)],
        )?;
        Ok(out)
    }
}
