//! The CUDA backend on the emulator: the real kernels and the real host code, on the CPU.

mod bench;
mod operations;
mod planted;
mod statistics;
