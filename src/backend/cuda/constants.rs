//! The numbers that kernels and host code share: those of `kernels/constants.cuh`, which `build.rs`
//! translates.
#![forbid(unsafe_code)]

include!(concat!(env!("OUT_DIR"), "/constants.rs"));
