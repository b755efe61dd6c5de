//! From `--pretrained` to a model ready to run.

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    hub::Hub,
    model::{Model, demo},
    progress::Progress,
    report::run::{InputRecord, ModelRecord},
};

/// An opened checkpoint and its record.
pub(super) struct Checkpoint {
    pub(super) model: Model,
    pub(super) record: ModelRecord,
    /// Its folder; none for the demo.
    folder: Option<PathBuf>,
}

/// Files that determine a result, beside the weights.
const DESCRIPTIONS: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    INDEX,
];

const INDEX: &str = "model.safetensors.index.json";

/// Opens the built-in demo, a folder, or a repository of the hub, and says what there is to know
/// of how it was read.
pub(super) fn find(
    name: Option<&str>,
    revision: Option<&str>,
    progress: Progress,
) -> Result<Checkpoint> {
    let checkpoint = open(name, revision, progress)?;
    for notice in checkpoint.model.notices() {
        progress.notice(&format!("{}: {notice}", checkpoint.record.name));
    }
    Ok(checkpoint)
}

/// As [`find`], without a word about the checkpoint: for one that is opened again to be run.
pub(super) fn open(
    name: Option<&str>,
    revision: Option<&str>,
    progress: Progress,
) -> Result<Checkpoint> {
    let Some(name) = name else {
        return built_in(demo::NAME);
    };
    if demo::NAMES.contains(&name) && !Path::new(name).exists() {
        return built_in(name);
    }
    let path = Path::new(name);
    if demo::NAMES.contains(&name) {
        progress.notice(&format!(
            "{name}: a folder of this name lies here and is taken; the built-in checkpoint of the name is not, and runs from elsewhere"
        ));
    }
    if path.exists() || looks_like_path(name) {
        if revision.is_some() {
            return Err(
                Error::usage("--revision", "a local folder has no revisions")
                    .remedy("leave it out, or give a hub id"),
            );
        }
        return folder(name, path.to_owned(), "folder".to_owned(), None, None);
    }
    let snapshot = Hub::from_env(progress)?.model(name, revision)?;
    folder(
        name,
        snapshot.dir,
        "hub".to_owned(),
        revision.map(str::to_owned),
        Some(snapshot.commit),
    )
}

fn built_in(name: &str) -> Result<Checkpoint> {
    let model = demo::open(name)?;
    Ok(Checkpoint {
        record: record(&model, name, "built-in".to_owned(), None, None)?,
        model,
        folder: None,
    })
}

fn folder(
    name: &str,
    path: PathBuf,
    source: String,
    revision: Option<String>,
    commit: Option<String>,
) -> Result<Checkpoint> {
    let model = Model::open(&path)?;
    Ok(Checkpoint {
        record: record(&model, name, source, revision, commit)?,
        model,
        folder: Some(path),
    })
}

fn record(
    model: &Model,
    name: &str,
    source: String,
    revision: Option<String>,
    commit: Option<String>,
) -> Result<ModelRecord> {
    Ok(ModelRecord {
        name: name.to_owned(),
        source,
        revision,
        commit,
        model_type: model.spec.model_type.clone(),
        layers: model.spec.layers.len(),
        hidden_size: model.spec.hidden_size,
        dtype: model.stored_dtype()?.to_string(),
    })
}

impl Checkpoint {
    /// Its folder; none for the built-in ones.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Checksums of everything the result depends on.
    pub(super) fn inputs(&self) -> Result<Vec<InputRecord>> {
        let mut inputs = Vec::new();
        let mut shards = self.model.weights.shards().iter();
        // Beside a single file an index is not read.
        let whole = shards.any(|shard| shard.name() == "model.safetensors");
        if let Some(folder) = &self.folder {
            for name in DESCRIPTIONS {
                let path = folder.join(name);
                if path.is_file() && !(whole && name == INDEX) {
                    inputs.push(InputRecord::of_file(&path)?);
                }
            }
        }
        for shard in self.model.weights.shards() {
            inputs.push(match shard.path() {
                Some(path) => InputRecord::of_file(path)?,
                None => InputRecord::of_bytes(shard.name(), shard.bytes()),
            });
        }
        Ok(inputs)
    }
}

/// A relative or absolute path rather than `owner/name`.
fn looks_like_path(name: &str) -> bool {
    name.starts_with(['.', '/', '~']) || name.ends_with('/') || name.matches('/').count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_paths_from_hub_ids() {
        for path in ["./x", "/x", "../x", "~/x", "a/b/c", "x/"] {
            assert!(looks_like_path(path), "{path}");
        }
        for id in ["gpt2", "meta-llama/Llama-3.2-1B"] {
            assert!(!looks_like_path(id), "{id}");
        }
    }
}
