//! The CUDA backend on the emulator: the real kernels and the real host code, on the CPU.

mod attention;
mod attention_hopper;
mod attention_tiles;
mod bench;
mod cards;
mod heads;
mod hopper;
mod lost;
mod memory;
mod mixers;
mod models;
mod operations;
mod packed;
mod plain;
mod planted;
mod precision;
mod profiles;
mod routing;
mod selftest;
mod speed;
mod spilling;
mod statistics;
#[path = "../support/mod.rs"]
mod support;
mod traces;
mod tvr;
