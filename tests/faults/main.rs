//! Whatever breaks under a run: a line that says what and what to do, the exit code of the documentation, the
//! folder of results as it was before, and a run that succeeds when the fault is gone.
//!
//! `supervise.cpp` makes any system call fail, and every test here goes through all calls of a run.
#![cfg(target_os = "linux")]

mod disk;
mod folders;
mod memory;
mod reading;
mod signals;
mod supervised;
#[path = "../support/mod.rs"]
mod support;
mod sweeps;
