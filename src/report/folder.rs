//! The folder of one run: `<save-dir>/<model name>/<experiment>-<short hash of settings>/`.
//!
//! The same settings give the same folder, so that a repeated run replaces its own results and
//! different settings never overwrite each other.

use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::atomic::{AtomicFile, NewFolders, SAVE_DIR, create_folder, io_error, write_atomic};
use crate::error::{Error, Result};

/// Hex digits of the settings' hash in a folder's name.
const HASH_DIGITS: usize = 8;

/// Long names of local folders must not run into the file system's limit of 255 bytes.
const NAME_BYTES: usize = 128;

/// The existing folder that takes a run's files. A run that ends without a file leaves no folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _created: NewFolders,
}

impl RunFolder {
    /// Creates the folder for `experiment` on `model_name` (an id or a path) with `settings`.
    pub fn create(
        save_dir: &Path,
        model_name: &str,
        experiment: &str,
        settings: &Value,
    ) -> Result<Self> {
        let path = Self::path_for(save_dir, model_name, experiment, settings);
        let created = NewFolders::create(&path, SAVE_DIR)?;
        Ok(Self {
            path,
            _created: created,
        })
    }

    /// Where [`RunFolder::create`] would put the run; touches nothing.
    pub fn path_for(
        save_dir: &Path,
        model_name: &str,
        experiment: &str,
        settings: &Value,
    ) -> PathBuf {
        let experiment = safe_name(experiment).unwrap_or_else(|| "run".into());
        save_dir
            .join(model_folder_name(model_name))
            .join(format!("{experiment}-{}", settings_hash(settings)))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file completely or not at all; `relative_name` may hold folders.
    pub fn write(&self, relative_name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
        write_atomic(&self.place(relative_name)?, bytes.as_ref())
    }

    /// Writes `value` as indented JSON with a final line break.
    pub fn write_json(&self, relative_name: &str, value: &impl Serialize) -> Result<PathBuf> {
        self.write(relative_name, json_bytes(relative_name, value)?)
    }

    /// A streaming writer for large files; nothing is visible before its `commit`.
    pub fn stream(&self, relative_name: &str) -> Result<AtomicFile> {
        AtomicFile::create(&self.place(relative_name)?)
    }

    /// The path of `relative_name`, its folder made. Dataset names reach this point from the
    /// command line, so anything that would leave the run's folder is refused.
    fn place(&self, relative_name: &str) -> Result<PathBuf> {
        let relative = Path::new(relative_name);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside || relative.file_name().is_none() {
            return Err(Error::new(
                format!("file name `{relative_name}`"),
                "it would lie outside the run's folder",
            )
            .remedy("use a name without `..` or a leading slash"));
        }
        let path = self.path.join(relative);
        if let Some(folder) = path.parent() {
            create_folder(folder)?;
        }
        Ok(path)
    }
}

/// `value` as the file `name` holds it: indented JSON with a final line break.
pub fn json_bytes(name: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::new(name, format!("not valid JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Fails early, before any model is loaded, if `save_dir` cannot take files. Leaves nothing behind:
/// a folder that does not exist yet is judged by its nearest existing ancestor.
pub fn check_writable(save_dir: &Path) -> Result<()> {
    let absolute = std::path::absolute(save_dir).map_err(|error| io_error(save_dir, &error))?;
    for folder in absolute.ancestors() {
        match folder.metadata() {
            Ok(found) if !found.is_dir() => {
                return Err(io_error(folder, &std::io::ErrorKind::NotADirectory.into()));
            }
            Ok(_) => {
                return tempfile::Builder::new()
                    .prefix(".massact-")
                    .tempfile_in(folder)
                    .map(drop)
                    .map_err(|error| io_error(folder, &error));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // "Not a directory": some ancestor is a file, which the next rounds will name.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(io_error(folder, &error)),
        }
    }
    Err(Error::new(save_dir.display(), "no such folder").remedy("choose another --save-dir"))
}

/// The last component of a model id or path as a folder name that is safe everywhere.
pub fn model_folder_name(model_name: &str) -> String {
    model_name
        .rsplit(['/', '\\'])
        .find_map(safe_name)
        .unwrap_or_else(|| "model".into())
}

/// First digits of BLAKE3 over the settings with sorted keys.
pub fn settings_hash(settings: &Value) -> String {
    let mut canonical = String::new();
    write_canonical(settings, &mut canonical);
    let mut hash = blake3::hash(canonical.as_bytes()).to_hex().to_string();
    hash.truncate(HASH_DIGITS);
    hash
}

/// `serde_json` sorts object keys unless some other crate of the build turns on `preserve_order`;
/// folder names must not depend on that.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `None` if nothing usable remains. Hidden and relative names ("..", ".cache") lose their dots.
fn safe_name(name: &str) -> Option<String> {
    let mut safe = String::new();
    for c in name.trim().trim_start_matches('.').chars() {
        let c = match c {
            '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' => '_',
            c if c.is_control() || c.is_whitespace() => '_',
            c => c,
        };
        if safe.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        safe.push(c);
    }
    // Windows drops trailing dots silently.
    let safe = safe.trim_end_matches('.');
    (!safe.is_empty()).then(|| safe.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn model_names_become_safe_folder_names() {
        for (name, folder) in [
            ("meta-llama/Llama-2-7b-hf", "Llama-2-7b-hf"),
            ("./checkpoints/gpt2/", "gpt2"),
            ("C:\\models\\phi-2", "phi-2"),
            ("..", "model"),
            ("a/..", "a"),
            ("", "model"),
            ("/", "model"),
            ("odd name:\t<x>?", "odd_name___x__"),
            (".hidden", "hidden"),
            ("模型", "模型"),
        ] {
            assert_eq!(model_folder_name(name), folder, "{name:?}");
        }
        assert!(model_folder_name(&"é".repeat(500)).len() <= NAME_BYTES);
    }

    #[test]
    fn settings_hash_is_stable_and_ignores_key_order() {
        let a: Value = serde_json::from_str(r#"{"b":[1,{"y":1,"x":2}],"a":null}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":null,"b":[1,{"x":2,"y":1}]}"#).unwrap();
        assert_eq!(settings_hash(&a), settings_hash(&b));
        assert_ne!(settings_hash(&a), settings_hash(&json!({"a": null})));
        // Pinned: users look for yesterday's folder under this name.
        let expected = blake3::hash(br#"{"a":null,"b":[1,{"x":2,"y":1}]}"#).to_hex();
        assert_eq!(settings_hash(&a), expected[..8]);
    }
}
