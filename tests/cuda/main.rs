//! The CUDA backend on the emulator: the real kernels and the real host code, on the CPU.

mod attention;
mod bench;
mod operations;
mod planted;
mod statistics;
