//! Copies of a small checkpoint, with something wrong in them.

use std::path::Path;

use serde_json::{Map, Value};

use super::program::checkpoint;

/// The files that massact reads of a checkpoint.
const FILES: [&str; 7] = [
    "config.json",
    "hf_quant_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Copies the committed checkpoint `name` into the new folder `to`.
pub(crate) fn copy(name: &str, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(checkpoint(name)).expect("a checkpoint") {
        let path = entry.expect("an entry").path();
        let file = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("UTF-8");
        let shard = file.starts_with("model-") && file.ends_with(".safetensors");
        if shard || FILES.contains(&file) {
            std::fs::copy(&path, to.join(file)).expect("copied");
        }
    }
}

/// A changed copy of a committed checkpoint.
pub(crate) fn changed(checkpoint: &str, change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a folder");
    copy(checkpoint, temp.path());
    change(temp.path());
    temp
}

/// Rewrites a JSON object.
pub(crate) fn edit_json(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut value = super::program::read_json(path);
    change(value.as_object_mut().expect("an object"));
    std::fs::write(path, value.to_string()).expect("written");
}

/// A safetensors file in its parts.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) header: Map<String, Value>,
    pub(crate) data: Vec<u8>,
}

impl Parts {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("a file");
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        Self {
            header: serde_json::from_slice(&rest[..length]).expect("a header"),
            data: rest[length..].to_vec(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let header = Value::Object(self.header.clone()).to_string();
        joined(header.as_bytes(), &self.data)
    }

    /// The names of the tensors in the order of their data.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.header.keys().cloned().collect();
        names.retain(|name| name != "__metadata__");
        names.sort_by_key(|name| self.range(name));
        names
    }

    /// First byte and the one after the last.
    pub(crate) fn range(&self, name: &str) -> (usize, usize) {
        let offset = |index: usize| {
            let offset = self.header[name]["data_offsets"][index].as_u64();
            offset.expect("an offset") as usize
        };
        (offset(0), offset(1))
    }
}

/// A file with this header, whatever it is.
pub(crate) fn joined(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// The error of a changed copy: one line with a remedy, and none that says to load a whole file
/// anew.
pub(crate) fn refusal(checkpoint: &str, change: impl FnOnce(&Path)) -> String {
    let error =
        massact::model::Model::open(changed(checkpoint, change).path()).expect_err("refused");
    let error = error.to_string();
    assert!(
        error.contains("; ") && error.lines().count() == 1,
        "{error}"
    );
    assert!(!error.contains("again"), "{error}");
    error
}
