//! Who a run is: what decides its numbers, and so the name of its folder.
//!
//! The name covers the model (which, at which revision, with which weights), the content of the texts
//! and every setting. It never reads the weights: their files are known by headers, sizes and times of
//! modification, or by the hub's hashes. Checksums of the contents go to run.json.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::folder::{canonical, safe_name};

/// Hex digits of a digest in a name.
const NAME_DIGITS: usize = 6;

/// What decides a run's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Where the checkpoint comes from: `owner/name@commit`, a folder's real path, or the name of
    /// what is built in.
    pub model: String,
    /// Digest of what is cheap to know of its files.
    pub weights: String,
    /// Digest of the texts' contents.
    pub texts: String,
    /// Digest of the settings.
    pub settings: String,
}

impl Identity {
    /// Of a checkpoint, the BLAKE3 of every text file that was read, and all settings.
    pub fn new(model: String, weights: String, texts: &[String], settings: &Value) -> Self {
        Self {
            model,
            weights,
            texts: digest(&json!(texts)),
            settings: digest(settings),
        }
    }

    /// Names the run's folder.
    pub fn digest(&self) -> String {
        let Self {
            model,
            weights,
            texts,
            settings,
        } = self;
        digest(&json!([model, weights, texts, settings]))
    }

    /// Whether the other run differs from this one in the weights at most.
    pub(super) fn same_but_for_weights(&self, other: &Self) -> bool {
        let same = Self {
            weights: self.weights.clone(),
            ..other.clone()
        };
        same == *self
    }
}

/// First digits of BLAKE3 over the value with sorted keys.
fn digest(value: &Value) -> String {
    let mut hash = blake3::hash(canonical(value).as_bytes())
        .to_hex()
        .to_string();
    hash.truncate(16);
    hash
}

/// The folder of a hub model's runs: `owner--name`.
pub fn hub_folder(id: &str) -> String {
    safe_name(&id.trim_matches('/').replace('/', "--")).unwrap_or_else(|| "model".to_owned())
}

/// The folder of the runs of a checkpoint in a folder: its own name and a digest of its real path,
/// since many folders are called `checkpoint-500`.
pub fn local_folder(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().map(|name| name.to_string_lossy());
    // A model in one file has no folder of its own.
    let name = name.and_then(|name| safe_name(name.strip_suffix(".gguf").unwrap_or(&name)));
    let digest = blake3::hash(real.as_os_str().as_encoded_bytes()).to_hex();
    format!(
        "{}-{}",
        name.unwrap_or_else(|| "model".to_owned()),
        &digest[..NAME_DIGITS]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(weights: &str) -> Identity {
        let texts = ["a".to_owned()];
        Identity::new("m".to_owned(), weights.to_owned(), &texts, &json!({"x": 1}))
    }

    #[test]
    fn everything_counts() {
        let first = identity("w");
        assert_eq!(first.digest(), identity("w").digest());
        let others = [
            identity("v"),
            Identity::new("n".into(), "w".into(), &["a".into()], &json!({"x": 1})),
            Identity::new("m".into(), "w".into(), &["b".into()], &json!({"x": 1})),
            Identity::new("m".into(), "w".into(), &["a".into()], &json!({"x": 2})),
        ];
        for other in others {
            assert_ne!(first.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn names_of_folders() {
        assert_eq!(
            hub_folder("meta-llama/Llama-3.2-1B"),
            "meta-llama--Llama-3.2-1B"
        );
        assert_eq!(hub_folder("gpt2"), "gpt2");
        let temp = tempfile::tempdir().expect("a folder");
        let [a, b] = ["a", "b"].map(|name| {
            let path = temp.path().join(name).join("checkpoint-500");
            std::fs::create_dir_all(&path).expect("made");
            path
        });
        let (of_a, of_b) = (local_folder(&a), local_folder(&b));
        assert_ne!(of_a, of_b);
        assert!(of_a.starts_with("checkpoint-500-"), "{of_a}");
        // However it is written.
        assert_eq!(local_folder(&a.join("../../a/checkpoint-500/")), of_a);
    }

    #[test]
    fn weights_alone() {
        assert!(identity("v").same_but_for_weights(&identity("w")));
        let other = Identity::new("n".into(), "w".into(), &["a".into()], &json!({"x": 1}));
        assert!(!identity("w").same_but_for_weights(&other));
    }
}
