//! Packed weights on the device (`kernels/packed.cuh`): the bytes go up as they are in the file, and a
//! kernel decodes them there, so that a copy shrinks with the format.
//!
//! Projections that are parts of one stored matrix share its bytes while any of them still needs them.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::HashMap,
    mem::offset_of,
    rc::{Rc, Weak},
    sync::Arc,
};

use super::{
    Cuda,
    constants::{PACKED_BYTES, PACKED_FACTOR_OFFSET, PACKED_NUMBERS, PACKED_PARTS},
    device::{Address, Argument, Device, Source},
    memory::Buffer,
    tensors::{int, suffix, threads},
};
use crate::{
    error::{Error, Result},
    model::{
        dtype::DType,
        weights::{Encoding, PackedMatrix, Stored},
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

/// What the kernel of an encoding is told beside the parts and the shape of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Kernel {
    /// `decode_<name>_<type of the result>`
    name: &'static str,
    numbers: [i32; PACKED_NUMBERS],
    factor: f32,
}

impl Kernel {
    /// The kernel of an encoding; none where the host decodes it.
    fn of(encoding: &Encoding) -> Result<Option<Self>> {
        let mut kernel = Self {
            name: "",
            numbers: [0; PACKED_NUMBERS],
            factor: 1.0,
        };
        match encoding {
            Encoding::Mxfp4(own) => {
                kernel.name = "mxfp4";
                kernel.numbers[0] = int(own.blocks())?;
            }
            // The host adds what an adapter adds, and decodes what has no kernel.
            Encoding::Adapted(_) | Encoding::Ggml(_) => return Ok(None),
        }
        Ok(Some(kernel))
    }
}

/// How a weight is decoded, once its bytes are there.
#[derive(Debug)]
pub(super) struct Decoding {
    kernel: Kernel,
    by_input: bool,
    outputs: usize,
    inputs: usize,
    /// `first`, `size`, `stride` and `skipped` of the arguments.
    rows: [i32; 4],
}

/// The bytes of one stored matrix, or their copies that are under way.
#[derive(Debug)]
pub(super) struct Parts<D: Device> {
    device: Rc<D>,
    state: RefCell<State<D>>,
}

#[derive(Debug)]
enum State<D: Device> {
    Coming(Vec<(Buffer<D>, D::Copying)>),
    There(Vec<Buffer<D>>),
    /// A copy failed.
    Lost,
}

impl<D: Device> Drop for Parts<D> {
    fn drop(&mut self) {
        // The memory may be given back only once the copies are done.
        if let State::Coming(parts) = self.state.replace(State::Lost) {
            for (buffer, copying) in parts {
                let _ = self.device.await_copy(copying);
                drop(buffer);
            }
        }
    }
}

impl<D: Device> Parts<D> {
    /// Waits for the bytes, and says where they are.
    fn ready(&self) -> Result<[Address; PACKED_PARTS]> {
        let mut state = self.state.borrow_mut();
        if let State::Coming(parts) = std::mem::replace(&mut *state, State::Lost) {
            let mut there = Vec::with_capacity(parts.len());
            for (buffer, copying) in parts {
                self.device.await_copy(copying)?;
                there.push(buffer);
            }
            *state = State::There(there);
        }
        let State::There(buffers) = &*state else {
            return Err(Error::new(
                "a weight on the device",
                "its copy failed earlier",
            ));
        };
        let mut places = [Address::NULL; PACKED_PARTS];
        for (place, buffer) in places.iter_mut().zip(buffers) {
            *place = buffer.address();
        }
        Ok(places)
    }
}

/// The bytes that are on the device or on their way there, by where they lie in memory.
pub(super) type Uploads<D> = RefCell<HashMap<usize, Weak<Parts<D>>>>;

/// What of a part belongs to matrix `index` of `count`: an equal share, but the whole of what all use.
fn share(part: &Stored, index: usize, count: usize) -> &[u8] {
    let bytes = part.bytes();
    if part.shape().first() == Some(&count) {
        let size = bytes.len() / count;
        &bytes[index * size..(index + 1) * size]
    } else {
        bytes
    }
}

impl<D: Device> Cuda<D> {
    /// Starts copying the bytes of a packed weight to the device; none where the host has to decode it.
    pub(super) fn bring_packed(
        &self,
        matrix: &PackedMatrix<'_>,
    ) -> Result<Option<(Rc<Parts<D>>, Decoding)>> {
        let encoding = matrix.tensor().encoding();
        let rows = matrix.rows();
        let Some(kernel) = Kernel::of(encoding)? else {
            return Ok(None);
        };
        let decoding = Decoding {
            kernel,
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
        let parts: Vec<(&Stored, &[u8])> = encoding
            .parts()
            .into_iter()
            .map(|part| match count {
                0 | 1 => (part, part.bytes()),
                _ => (part, share(part, matrix.index(), count)),
            })
            .collect();
        let key = parts.first().map_or(0, |(_, codes)| codes.as_ptr().addr());
        if let Some(known) = self.uploads.borrow().get(&key).and_then(Weak::upgrade) {
            return Ok(Some((known, decoding)));
        }
        let mut coming = Vec::with_capacity(parts.len());
        for (part, bytes) in parts {
            let source = match part.file() {
                Some(file) => {
                    let (file, start) = file.place_of(bytes);
                    Source::File {
                        file: Arc::clone(file),
                        start,
                        bytes: bytes.len(),
                    }
                }
                None => Source::Bytes(bytes.to_vec()),
            };
            let buffer = self.buffer(bytes.len())?;
            let copying = self.device.start_write(buffer.address(), source)?;
            coming.push((buffer, copying));
        }
        let parts = Rc::new(Parts {
            device: Rc::clone(&self.device),
            state: RefCell::new(State::Coming(coming)),
        });
        let mut uploads = self.uploads.borrow_mut();
        uploads.retain(|_, parts| parts.strong_count() > 0);
        uploads.insert(key, Rc::downgrade(&parts));
        Ok(Some((parts, decoding)))
    }

    /// The values of a packed weight in this type: `[outputs, inputs]`, or the other way round where its
    /// encoding goes by inputs.
    pub(super) fn decoded(
        &self,
        parts: &Parts<D>,
        decoding: &Decoding,
        dtype: DType,
    ) -> Result<Buffer<D>> {
        let Decoding {
            kernel,
            by_input,
            outputs,
            inputs,
            rows: [first, size, stride, skipped],
        } = *decoding;
        let places = parts.ready()?;
        let out = self.buffer(outputs * inputs * dtype.size())?;
        let arguments = Arguments {
            parts: places,
            out: out.address(),
            outputs: int(outputs)?,
            inputs: int(inputs)?,
            first,
            size,
            stride,
            skipped,
            numbers: kernel.numbers,
            factor: kernel.factor,
        };
        let (lines, length) = if by_input {
            (inputs, outputs)
        } else {
            (outputs, inputs)
        };
        self.launch(
            &format!("decode_{}_{}", kernel.name, suffix(dtype)),
            [int(lines)?.cast_unsigned(), 1],
            threads(length),
            &[Argument::of(&arguments)],
        )?;
        Ok(out)
    }
}
