#![no_main]

mod shared;

use shared::{Kind, try_one};

const ENDINGS: [&str; 5] = ["jsonl", "txt", "jsonl.gz", "jsonl.zst", "parquet"];

// The first byte chooses the format.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((first, rest)) = bytes.split_first() {
        try_one(Kind::Documents(ENDINGS[usize::from(*first) % ENDINGS.len()]), rest);
    }
});
