#![no_main]

mod shared;

use shared::{Kind, try_one};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| try_one(Kind::ChatTemplate, bytes));
