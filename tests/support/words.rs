//! A tokenizer for checkpoints that have none, so that every experiment can run on them.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::program::{checkpoint, files};

/// A copy of a committed checkpoint in `place`, whose tokenizer takes the word `w<id>` for each id.
pub(crate) fn with_word_tokenizer(name: &str, vocab_size: usize, place: &Path) -> PathBuf {
    let folder = place.join(name);
    std::fs::create_dir(&folder).expect("a folder");
    let of_the_model = |file: &&String| {
        !["reference.", "tokenizer", "text."]
            .iter()
            .any(|other| file.starts_with(other))
    };
    for file in files(&checkpoint(name)).iter().filter(of_the_model) {
        std::fs::copy(checkpoint(name).join(file), folder.join(file)).expect("copied");
    }
    let vocabulary: serde_json::Map<_, _> = (0..vocab_size)
        .map(|id| (format!("w{id}"), json!(id)))
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w0"},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("written");
    folder
}

/// The text that this tokenizer turns into `ids`.
pub(crate) fn words(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(|id| format!("w{id}")).collect();
    words.join(" ")
}
