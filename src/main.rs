//! The `massact` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use massact::allocator::{self, Orderly};

#[global_allocator]
static ALLOCATOR: Orderly = Orderly;

fn main() -> ExitCode {
    allocator::install();
    massact::cli::main()
}
