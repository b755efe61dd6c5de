//! Whether a path holds a whole checkpoint, and what it holds instead.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::Value;

use super::{adapter::SETTINGS as ADAPTER, config::Config, json};
use crate::{
    error::{Error, Result},
    files, lfs,
};

/// Refuses a path that no whole checkpoint lies at, and an adapter beside one, unless it was said which
/// adapter is meant.
pub(super) fn check(folder: &Path, adapter_is_named: bool) -> Result<()> {
    let error = |reason: String| Error::new(folder.display(), reason);
    if !folder.is_dir() {
        return Err(if !folder.exists() {
            error("no such folder or file".to_owned())
                .remedy("give a folder with a Hugging Face checkpoint, a GGUF file, or a hub id")
                .meant_path(folder)
        } else {
            error("a file, not a folder".to_owned())
                .remedy("give the folder with config.json and the weights")
        });
    }
    // What it is if it is no file, is said where it is read.
    let whole = files::is_there(&folder.join("config.json"));
    if files::is_there(&folder.join(ADAPTER)) {
        let whole = whole && has_weights(folder);
        if !(whole && adapter_is_named) {
            return Err(adapter(folder, whole)?);
        }
    }
    if whole {
        return Ok(());
    }
    Err(other(folder))
}

/// Whether there are weights beside those of an adapter, in any format.
fn has_weights(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("model") && name.contains(".safetensors")
            || name.starts_with("pytorch_model")
    })
}

/// Refuses a config that names its own file of weights, unless that one is read anyway.
pub(super) fn check_named_weights(config: &Config, folder: &Path) -> Result<()> {
    const KEY: &str = "transformers_weights";
    let single = folder.join("model.safetensors").is_file();
    let read = if single {
        "model.safetensors"
    } else {
        "model.safetensors.index.json"
    };
    match config.text_or(KEY, read)? {
        name if name == read => Ok(()),
        _ => Err(config.refuse(
            KEY,
            "massact reads model.safetensors, or the shards of its index",
        )),
    }
}

/// An adapter's refusal, by its kind and base model.
fn adapter(folder: &Path, whole: bool) -> Result<Error> {
    let path = folder.join(ADAPTER);
    let text =
        files::read(&path, files::DESCRIPTION).map_err(|error| Error::unread(&path, error))?;
    lfs::refuse_pointer(path.display(), &text)?;
    let settings = json::parse(&text).unwrap_or_default();
    let text = |key: &str| settings.get(key).and_then(Value::as_str);
    let kind = text("peft_type").map_or_else(String::new, |kind| format!("{kind} "));
    let base = text("base_model_name_or_path").map(|base| format!("`{base}`"));
    Ok(if whole {
        Error::new(
            folder.display(),
            format!("{ADAPTER} lies beside the model: transformers would put that {kind}adapter on the weights"),
        )
        .remedy(format!(
            "say so with --adapter {}, or move {ADAPTER} away for the model without it",
            folder.display()
        ))
    } else {
        let base = base.unwrap_or_else(|| "a base model that it does not name".to_owned());
        Error::new(
            folder.display(),
            format!("holds a {kind}adapter of {base}, not a whole model"),
        )
        .remedy(format!(
            "give its base model, and --adapter {}",
            folder.display()
        ))
    })
}

/// Says what a folder without config.json has.
fn other(folder: &Path) -> Error {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let error = |reason: String| Error::new(folder.display(), reason);
    if paths.iter().any(|path| name(path) == "params.json") {
        return error(
            "has params.json and no config.json: the layout of the model's authors".to_owned(),
        )
        .remedy("give the same model in transformers format, or its hub id");
    }
    let inner = paths.iter().find(|path| path.join("config.json").is_file());
    let remedy = inner.map_or_else(
        || "give a folder with a Hugging Face checkpoint, or a hub id".to_owned(),
        |inner| format!("give the checkpoint inside: {}", inner.display()),
    );
    error("there is no config.json".to_owned()).remedy(remedy)
}
