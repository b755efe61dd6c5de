//! The C functions of `cpp/api.cpp`.

// Declaring them is unsafe in itself: they must be as declared.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    pub(crate) fn emulator_link();
    pub(crate) fn emulator_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        dynamic_shared: usize,
        arguments: *mut *mut c_void,
        signature: *const c_char,
        checked: c_int,
    ) -> c_int;
    pub(crate) fn emulator_kernels() -> *const c_char;
    pub(crate) fn emulator_error() -> *const c_char;
    pub(crate) fn emulator_order(order: c_int, seed: u64);
    pub(crate) fn emulator_memory_limit(bytes: usize);
    pub(crate) fn emulator_allocate(bytes: usize) -> *mut c_void;
    pub(crate) fn emulator_release(address: *mut c_void);
    pub(crate) fn emulator_contains(address: *const c_void, bytes: usize) -> c_int;
}
