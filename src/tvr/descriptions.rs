//! The files beside the weights: config, tokenizer, licence, code.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    report::WholeFolder,
};

/// Larger files describe nothing.
const SMALL: u64 = 256 << 20;
/// The index of the weights that are written.
const INDEX: &str = "model.safetensors.index.json";
/// Weights in one file.
const SINGLE: &str = "model.safetensors";
/// Endings of files that hold weights, in other formats or of other models.
const WEIGHTS: [&str; 15] = [
    "bin",
    "ckpt",
    "ggml",
    "gguf",
    "h5",
    "mlmodel",
    "msgpack",
    "npz",
    "onnx",
    "ot",
    "pickle",
    "pkl",
    "pt",
    "pth",
    "safetensors",
];

/// Where the files beside the weights are.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A checkpoint's folder.
    Folder(&'a Path),
    /// Files that are part of the binary, by name.
    Embedded(&'a [(&'static str, &'static [u8])]),
}

impl Source<'_> {
    /// Copies everything but weights, folders and hidden files into `to`. Returns the names of what
    /// was left out, apart from the `written` files.
    pub(super) fn copy(&self, written: &[&str], to: &WholeFolder) -> Result<Vec<String>> {
        match self {
            Self::Folder(from) => copy_folder(from, written, to),
            Self::Embedded(files) => {
                for (name, bytes) in *files {
                    to.write(name, bytes)?;
                }
                Ok(Vec::new())
            }
        }
    }
}

fn copy_folder(from: &Path, written: &[&str], to: &WholeFolder) -> Result<Vec<String>> {
    let fail = |path: &Path, error: std::io::Error| Error::unread(path, error);
    let entries = std::fs::read_dir(from).map_err(|error| fail(from, error))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(|error| fail(from, error))?;
    paths.sort();
    let mut left_out = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Beside weights in one file an index is of no use, and perhaps of other weights.
        let stale = name == INDEX && written.contains(&SINGLE);
        if name.starts_with('.') || stale || written.contains(&name.as_ref()) {
            continue;
        }
        // Follows links: the hub's cache keeps the files elsewhere.
        let found = path.metadata().map_err(|error| fail(&path, error))?;
        if found.is_file() && found.len() <= SMALL && !holds_weights(&name) {
            let bytes = std::fs::read(&path).map_err(|error| fail(&path, error))?;
            to.write(&name, &bytes)?;
        } else {
            left_out.push(name.into_owned());
        }
    }
    Ok(left_out)
}

/// Whether a file holds weights or the index of some. Beside rescaled weights they would be stale.
fn holds_weights(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    WEIGHTS.contains(&ending) || (name.ends_with(".index.json") && name != INDEX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_weights_from_descriptions() {
        for name in [
            "pytorch_model.bin",
            "pytorch_model.bin.index.json",
            "consolidated.00.pth",
            "Model-Q4.GGUF",
            "reference.safetensors",
        ] {
            assert!(holds_weights(name), "{name}");
        }
        for name in [
            "config.json",
            "model.safetensors.index.json",
            "tokenizer.model",
            "modeling_custom.py",
            "LICENSE",
            "chat_template.jinja",
        ] {
            assert!(!holds_weights(name), "{name}");
        }
    }
}
