//! The CUDA backend: host code that launches the kernels of `kernels/`.
//!
//! It is generic over the [`Device`] it runs on, so that the emulator of the tests executes this
//! very code without a card.
#![forbid(unsafe_code)]

mod device;
mod memory;

pub use device::{Address, Argument, Device, Launch, Limits, Operand, Product};
pub use memory::Buffer;
