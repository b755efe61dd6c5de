//! What the CUDA backend needs of a device. Two things offer it: a card through NVIDIA's driver,
//! and the emulator of the tests, which runs the same kernels on the CPU.
//!
//! Everything happens in the order of the calls, and nothing but [`Device::read`] waits for it. Only
//! copies that [`Device::start_write`] starts happen beside the rest, until [`Device::await_copy`].
#![forbid(unsafe_code)]

use std::{ffi::c_void, fmt::Debug, fs::File, io, marker::PhantomData, sync::Arc};

use crate::{error::Result, model::dtype::DType};

/// A place in device memory; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// No memory: what a kernel gets for an optional argument that is not there.
    pub const NULL: Self = Self(0);

    /// `bytes` further.
    #[must_use]
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// What a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processors that run blocks side by side.
    pub multiprocessors: u32,
    /// Compute capability: which kernels it runs.
    pub capability: (u32, u32),
    /// Shared memory that one block may ask for.
    pub shared_bytes: u32,
    /// Device memory.
    pub memory_bytes: usize,
    /// The second-level cache.
    pub cache_bytes: usize,
}

/// An argument of a kernel. The parameter has the same type: `T*`, `int`, `unsigned`, `float`,
/// `unsigned long long`, or a struct.
#[derive(Debug, Clone, Copy)]
pub struct Argument<'a>(Value<'a>);

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    /// The value in the first bytes; host and device are little-endian.
    Number { letter: char, bits: u64 },
    Struct {
        place: *const c_void,
        bytes: usize,
        borrowed: PhantomData<&'a ()>,
    },
}

impl<'a> Argument<'a> {
    /// A struct by value, which has the same layout in the kernel: `#[repr(C)]`, and its size and
    /// offsets are asserted on both sides.
    pub fn of<T: Copy>(value: &'a T) -> Self {
        Self(Value::Struct {
            place: (&raw const *value).cast(),
            bytes: size_of::<T>(),
            borrowed: PhantomData,
        })
    }

    fn number(letter: char, bits: u64) -> Self {
        Self(Value::Number { letter, bits })
    }

    /// What the kernel's parameter must be: `p`, `i`, `u`, `f` or `l`, in the order above, or a struct's
    /// size in brackets.
    pub fn signature(&self) -> String {
        match self.0 {
            Value::Number { letter, .. } => letter.to_string(),
            Value::Struct { bytes, .. } => format!("[{bytes}]"),
        }
    }

    /// The address, if it is a pointer.
    pub fn pointer(&self) -> Option<Address> {
        match self.0 {
            Value::Number { letter: 'p', bits } => Some(Address(bits)),
            _ => None,
        }
    }

    /// Where the value lies, as `cuLaunchKernel` wants it.
    pub fn slot(&self) -> *mut c_void {
        match &self.0 {
            Value::Number { bits, .. } => (&raw const *bits).cast_mut().cast(),
            Value::Struct { place, .. } => place.cast_mut(),
        }
    }
}

impl From<Address> for Argument<'_> {
    fn from(address: Address) -> Self {
        Self::number('p', address.0)
    }
}

impl From<Option<Address>> for Argument<'_> {
    fn from(address: Option<Address>) -> Self {
        address.unwrap_or(Address::NULL).into()
    }
}

impl From<i32> for Argument<'_> {
    fn from(value: i32) -> Self {
        Self::number('i', u64::from(value.cast_unsigned()))
    }
}

impl From<u32> for Argument<'_> {
    fn from(value: u32) -> Self {
        Self::number('u', u64::from(value))
    }
}

impl From<f32> for Argument<'_> {
    fn from(value: f32) -> Self {
        Self::number('f', u64::from(value.to_bits()))
    }
}

impl From<u64> for Argument<'_> {
    fn from(bits: u64) -> Self {
        Self::number('l', bits)
    }
}

/// How the 16-byte units of a box's rows trade places in shared memory, so that rows below each other lie in
/// different banks: by this many bytes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swizzle {
    /// Rows as they are.
    None,
    /// Rows of 32 bytes.
    Bytes32,
    /// Rows of 64 bytes.
    Bytes64,
    /// Rows of 128 bytes.
    Bytes128,
}

/// A tensor of 16-bit numbers, and the boxes of it that a kernel copies to shared memory. The innermost
/// axis comes first, its elements lie side by side.
#[derive(Debug, Clone, Copy)]
pub struct Boxes<'a> {
    /// First element, at a multiple of 16 bytes.
    pub address: Address,
    /// [`DType::BFloat16`] or [`DType::Float16`].
    pub dtype: DType,
    /// Elements of each axis, two to four.
    pub sizes: &'a [usize],
    /// Bytes from one index to the next, of all axes but the first; multiples of 16.
    pub strides: &'a [usize],
    /// Elements of a box along each axis, at most 256.
    pub box_sizes: &'a [usize],
    /// How it lies in shared memory.
    pub swizzle: Swizzle,
}

/// [`Boxes`] as the device encodes them: `TensorMap` of `kernels/ptx_hopper.cuh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct TensorMap(pub [u64; 16]);

/// A kernel by name, and how many threads of it.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Its name in `kernels/`.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// A row-major matrix in device memory.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    /// First element.
    pub address: Address,
    /// Element type.
    pub dtype: DType,
    /// Elements from one row to the next.
    pub stride: usize,
}

/// `out [m, n] = left [m, k] x right^T + bias`, summed in float32.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// `[m, k]`.
    pub left: Operand,
    /// `[n, k]`; `[k, n]` if `right_transposed`. Of the same type as `left`.
    pub right: Operand,
    /// Stored as `[k, n]`, as GPT-2's `Conv1D` is.
    pub right_transposed: bool,
    /// `[m, n]`, of the type of `left` or float32.
    pub out: Operand,
    /// `[n]`, of the type of `out`, added to every row.
    pub bias: Option<Address>,
}

/// Where bytes come from that are copied beside the other work.
#[derive(Debug)]
pub enum Source {
    /// Memory.
    Bytes(Vec<u8>),
    /// A part of a file.
    File {
        /// Open.
        file: Arc<File>,
        /// Where the part begins.
        start: u64,
        /// Its length.
        bytes: usize,
    },
}

impl Source {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { bytes, .. } => *bytes,
        }
    }

    /// Those from `offset` on.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => {
                out.copy_from_slice(&bytes[offset..offset + out.len()]);
                Ok(())
            }
            Self::File { file, start, .. } => read_at(file, start + offset as u64, out),
        }
    }
}

#[cfg(unix)]
fn read_at(file: &File, start: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

#[cfg(windows)]
fn read_at(file: &File, mut start: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, start)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                start += read as u64;
                out = &mut out[read..];
            }
        }
    }
    Ok(())
}

/// A device with memory, kernels and a matrix product.
pub trait Device: Debug {
    /// A copy that happens beside the other work.
    type Copying: Debug;

    /// What it has.
    fn limits(&self) -> Limits;

    /// Reserves memory, with arbitrary contents, aligned to 256 bytes.
    fn allocate(&self, bytes: usize) -> Result<Address>;
    /// Gives memory back once everything called so far is done with it.
    fn release(&self, address: Address);

    /// Copies from the host; `bytes` may be reused at once.
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()>;
    /// Starts copying beside what is called from now on, and after what was called before. Until
    /// [`Device::await_copy`] nobody may use the memory, and it may not be given back.
    fn start_write(&self, to: Address, source: Source) -> Result<Self::Copying>;
    /// What is called from now on happens after the copy.
    fn await_copy(&self, copying: Self::Copying) -> Result<()>;
    /// Waits for everything called so far and copies to the host.
    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()>;
    /// Copies within the device, between places that do not overlap.
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;
    /// Sets to zero.
    fn clear(&self, address: Address, bytes: usize) -> Result<()>;

    /// Starts a kernel.
    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()>;
    /// Encodes a tensor's boxes for kernels that copy them (compute capability 9.0 and newer).
    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap>;
    /// Starts a matrix product.
    fn multiply(&self, product: &Product) -> Result<()>;
}
