//! GGUF files with damage of every kind, by the thousand: opening one and decoding all of it ends without a
//! panic, and holds no more memory than its bytes stand for.

mod support;

use std::path::{Path, PathBuf};

use massact::model::Model;
use massact::model::weights::WeightStore;
use support::foreign::decode;
use support::mutations::{Counted, Numbers, damaged, peak};

#[global_allocator]
static COUNTED: Counted = Counted;

/// Damaged files of each file.
const EACH: usize = 120;
/// Values of the densest type for each byte, and their bytes in float32.
const RATIO: usize = 5 * 4;
/// What does not depend on the file: the description of a layer, the tokenizer's tables, a row.
const FIXED: usize = 8 << 20;

fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).expect("a folder") {
        let inner = std::fs::read_dir(entry.expect("an entry").path())
            .into_iter()
            .flatten();
        let paths = inner.map(|entry| entry.expect("an entry").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "gguf")));
    }
    found.sort();
    found
}

fn store_is_consistent(weights: &WeightStore) {
    for name in weights.names() {
        assert!(
            weights.shape(name).is_some_and(|shape| !shape.is_empty()),
            "{name}"
        );
    }
}

#[test]
fn nothing_panics_and_little_is_held() {
    let temp = tempfile::tempdir().expect("a folder");
    let (mut opened, mut refused, mut made) = (0, 0, 0);
    for (index, path) in files().into_iter().enumerate() {
        let bytes = std::fs::read(&path).expect("a file");
        let mut numbers = Numbers(index as u64);
        // Of several files the first alone cannot be opened: its damage still must be borne.
        let name = path.file_name().expect("named").to_owned();
        let place = temp.path().join(&name);
        for _ in 0..EACH {
            let mut hostile = damaged(&bytes, &mut numbers);
            // The header is longer than the part that is damaged most.
            if numbers.below(2) == 0 {
                let start = numbers.below(hostile.len());
                let end = hostile.len().min(start + 512);
                let part = damaged(&hostile[start..end], &mut numbers);
                hostile.splice(start..end, part);
            }
            made += 1;
            std::fs::write(&place, &hostile).expect("written");
            let (model, held) = peak(|| Model::open(&place));
            let most = FIXED + RATIO * hostile.len();
            assert!(
                held <= most,
                "{}: {held} bytes held of {}",
                path.display(),
                hostile.len()
            );
            match model {
                Ok(model) => {
                    opened += 1;
                    store_is_consistent(&model.weights);
                    let ((), held) = peak(|| decode(&model));
                    assert!(held <= most, "{}: {held} bytes held", path.display());
                    if let Some(tokenizer) = &model.tokenizer {
                        let _ = tokenizer.encode("The river, 12 boxes \u{1f980}\n  x");
                    }
                }
                Err(error) => {
                    refused += 1;
                    let message = error.to_string();
                    assert!(!message.contains('\n') && message.len() < 4000, "{message}");
                }
            }
        }
    }
    assert!(made >= 2000, "{made}");
    // Both ways must be gone.
    assert!(
        opened > made / 20 && refused > made / 20,
        "{opened} opened, {refused} refused"
    );
}
