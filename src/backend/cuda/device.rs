//! What the CUDA backend needs of a device. Two things offer it: a card through NVIDIA's driver,
//! and the emulator of the tests, which runs the same kernels on the CPU.
//!
//! Everything happens in the order of the calls, and nothing but [`Device::read`] waits for it.
#![forbid(unsafe_code)]

use std::{ffi::c_void, fmt::Debug, marker::PhantomData};

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
    /// Shared memory that one block may ask for.
    pub shared_bytes: u32,
    /// Device memory.
    pub memory_bytes: usize,
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

/// A device with memory, kernels and a matrix product.
pub trait Device: Debug {
    /// What it has.
    fn limits(&self) -> Limits;

    /// Reserves memory, with arbitrary contents, aligned to 256 bytes.
    fn allocate(&self, bytes: usize) -> Result<Address>;
    /// Gives memory back once everything called so far is done with it.
    fn release(&self, address: Address);

    /// Copies from the host; `bytes` may be reused at once.
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()>;
    /// Waits for everything called so far and copies to the host.
    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()>;
    /// Copies within the device, between places that do not overlap.
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;
    /// Sets to zero.
    fn clear(&self, address: Address, bytes: usize) -> Result<()>;

    /// Starts a kernel.
    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()>;
    /// Starts a matrix product.
    fn multiply(&self, product: &Product) -> Result<()>;
}
