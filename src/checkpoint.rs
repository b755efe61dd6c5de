//! From a name to a model ready to run: what is built in, a folder, or a repository of the hub; and
//! who it is, for the record and the folder of its runs.

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Kind, Result},
    files,
    hub::Hub,
    model::{
        ADAPTER_SETTINGS, Adapter, Model, demo, families::FAMILIES, gguf_file,
        tokenizer::vocabulary_of, weights,
    },
    progress::Progress,
    report::{
        identity,
        run::{Checksum, InputRecord, ModelRecord},
    },
};

/// What a model was opened from.
pub(crate) struct Checkpoint {
    pub(crate) record: ModelRecord,
    /// Its folder; none for the demo.
    folder: Option<PathBuf>,
    /// The folder of the adapter on its weights.
    adapter: Option<PathBuf>,
}

/// Files that determine a result, beside the weights and the tokens.
const DESCRIPTIONS: [&str; 5] = [
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    weights::MODELOPT,
];

/// Opens the built-in demo, a folder, or a repository of the hub, and says what there is to know
/// of how it was read.
pub(crate) fn find(
    name: Option<&str>,
    revision: Option<&str>,
    adapter: Option<&Path>,
    progress: Progress,
) -> Result<(Model, Checkpoint)> {
    let (model, checkpoint) = open(name, revision, adapter, progress)?;
    for notice in model.notices() {
        progress.notice(&format!("{}: {notice}", checkpoint.record.name));
    }
    Ok((model, checkpoint))
}

/// As [`find`], without a word about the checkpoint: for one that is opened again to be run.
pub(crate) fn open(
    name: Option<&str>,
    revision: Option<&str>,
    adapter: Option<&Path>,
    progress: Progress,
) -> Result<(Model, Checkpoint)> {
    let Some(name) = name else {
        return built_in(demo::NAME, adapter);
    };
    if adapter.is_none() && is_adapter(Path::new(name)) {
        return on_its_base(name, revision, progress);
    }
    if demo::NAMES.contains(&name) && !Path::new(name).exists() {
        if revision.is_some() {
            return Err(
                Error::usage("--revision", "a built-in checkpoint has no revisions")
                    .remedy("leave it out, or give a hub id"),
            );
        }
        return built_in(name, adapter);
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
        let source = ("folder".to_owned(), None, None);
        return folder(name, path.to_owned(), source, adapter);
    }
    let snapshot = Hub::from_env(progress)?
        .model(name, revision)
        .map_err(|error| other_name(error, name))?;
    let source = (
        "hub".to_owned(),
        revision.map(str::to_owned),
        Some(snapshot.commit),
    );
    folder(name, snapshot.dir, source, adapter)
}

/// A model whose weights are noise, under the name of its shape.
pub(crate) fn random(name: &str, model: &Model) -> Checkpoint {
    Checkpoint {
        record: record(model, name, ("random".to_owned(), None, None)),
        folder: None,
        adapter: None,
    }
}

/// Asks whether another name was meant than one of which the hub gave no model.
fn other_name(error: Error, name: &str) -> Error {
    // Only where the hub knows no such name: offline it is as likely the right one.
    let known = match error.kind() {
        Kind::Absent => FAMILIES,
        _ => &[],
    };
    let known = known.iter().map(|family| family.example);
    error
        .meant_path(Path::new(name))
        .meant(name, known.chain(demo::NAMES))
}

/// Whether a folder holds an adapter and no model.
fn is_adapter(path: &Path) -> bool {
    path.join(ADAPTER_SETTINGS).is_file() && !path.join("config.json").is_file()
}

/// Opens the model that an adapter names as its base, with the adapter on it, as transformers does.
fn on_its_base(
    name: &str,
    revision: Option<&str>,
    progress: Progress,
) -> Result<(Model, Checkpoint)> {
    let path = Path::new(name);
    let (base, of_base) = Adapter::base(path)?;
    let Some(base) = base else {
        return Err(
            Error::new(name, "holds an adapter that does not name its base model")
                .remedy(format!("give the base model, and --adapter {name}")),
        );
    };
    // A path may be meant from where the adapter lies.
    let beside = path.join(&base);
    let base = match !Path::new(&base).exists() && beside.exists() {
        true => beside.display().to_string(),
        false => base,
    };
    if is_adapter(Path::new(&base)) {
        return Err(
            Error::new(name, format!("its base model `{base}` is an adapter, too"))
                .remedy("merge that one with its own base first"),
        );
    }
    progress.notice(&format!("{name}: an adapter, put on its base model {base}"));
    open(
        Some(&base),
        revision.or(of_base.as_deref()),
        Some(path),
        progress,
    )
}

/// Whether the name is the hub's, rather than a folder's or a built-in checkpoint's.
pub(crate) fn is_on_hub(name: &str) -> bool {
    !demo::NAMES.contains(&name) && !Path::new(name).exists() && !looks_like_path(name)
}

fn built_in(name: &str, adapter: Option<&Path>) -> Result<(Model, Checkpoint)> {
    let model = demo::open_with(name, adapter.map(Adapter::open).transpose()?)?;
    let checkpoint = Checkpoint {
        record: record(&model, name, ("built-in".to_owned(), None, None)),
        folder: None,
        adapter: adapter.map(Path::to_owned),
    };
    Ok((model, checkpoint))
}

/// Kind, revision and commit.
type Source = (String, Option<String>, Option<String>);

fn folder(
    name: &str,
    path: PathBuf,
    source: Source,
    adapter: Option<&Path>,
) -> Result<(Model, Checkpoint)> {
    // One file is all of a GGUF model, whatever lies beside it.
    let path = gguf_file(&path)?.unwrap_or(path);
    let model = Model::open_with(&path, adapter.map(Adapter::open).transpose()?)?;
    let checkpoint = Checkpoint {
        record: record(&model, name, source),
        folder: Some(path),
        adapter: adapter.map(Path::to_owned),
    };
    Ok((model, checkpoint))
}

fn record(model: &Model, name: &str, (source, revision, commit): Source) -> ModelRecord {
    ModelRecord {
        name: name.to_owned(),
        label: None,
        adapter: model.adapter().cloned(),
        source,
        revision,
        commit,
        model_type: model.spec.model_type.clone(),
        layers: model.spec.layers.len(),
        hidden_size: model.spec.state_width(),
        dtype: model.weights_record().format.clone(),
    }
}

impl Checkpoint {
    /// Its folder; none for the built-in ones.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Where it comes from, beyond doubt: `hub:owner/name@commit`, `folder:` and the real path,
    /// `built-in:demo`; and the adapter on it.
    pub(crate) fn identity(&self) -> String {
        let record = &self.record;
        let own = match (&self.folder, &record.commit) {
            (None, _) => format!("built-in:{}", record.name),
            (Some(_), Some(commit)) => format!("hub:{}@{commit}", record.name),
            (Some(folder), None) => {
                let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                format!("folder:{}", real.display())
            }
        };
        match &self.adapter {
            None => own,
            Some(adapter) => {
                let real = adapter.canonicalize().unwrap_or_else(|_| adapter.clone());
                format!("{own} adapter:{}", real.display())
            }
        }
    }

    /// The folder of its runs.
    pub(crate) fn folder_name(&self) -> String {
        match (&self.folder, &self.record.commit) {
            (Some(folder), None) => identity::local_folder(folder),
            _ => identity::hub_folder(&self.record.name),
        }
    }

    /// A digest of its small files and of what is cheap to know of its weights.
    pub(crate) fn fingerprint(&self, model: &Model) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(model.weights.fingerprint().as_bytes());
        for path in self.descriptions() {
            let content = files::read(&path, files::VOCABULARY)
                .map_err(|error| Error::unread(&path, error))?;
            hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(blake3::hash(&content).as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The small files that determine a result.
    fn descriptions(&self) -> Vec<PathBuf> {
        let adapter = self.adapter.iter();
        let adapter = adapter.map(|folder| folder.join(ADAPTER_SETTINGS));
        let Some(folder) = &self.folder else {
            return adapter.collect();
        };
        let [config, beside @ ..] = DESCRIPTIONS;
        let read = [config].into_iter();
        let read = read.chain(vocabulary_of(folder).iter().copied());
        let read = read.chain(beside).chain(weights::index_of(folder));
        let paths = read.map(|name| folder.join(name)).chain(adapter);
        paths.filter(|path| path.is_file()).collect()
    }

    /// Checksums of everything the result depends on.
    pub(crate) fn inputs(&self, model: &Model) -> Result<Vec<InputRecord>> {
        let mut inputs = Vec::new();
        for path in self.descriptions() {
            inputs.push(InputRecord::of_file(&path)?);
        }
        let shards = model.weights.shards();
        let known: Option<Vec<String>> = shards.iter().map(|shard| shard.blob_sha256()).collect();
        let checksums = match known {
            Some(known) => known.into_iter().map(Checksum::Sha256).collect(),
            None => {
                let found = model.weights.checksums()?.into_iter();
                found.map(Checksum::from).collect::<Vec<_>>()
            }
        };
        model.weights.intact()?;
        for (shard, checksum) in shards.iter().zip(checksums) {
            let path = shard.path().map(|path| path.display().to_string());
            inputs.push(InputRecord {
                path: path.unwrap_or_else(|| shard.name().to_owned()),
                bytes: shard.bytes().len() as u64,
                checksum,
            });
        }
        Ok(inputs)
    }
}

/// A relative or absolute path rather than `owner/name`.
fn looks_like_path(name: &str) -> bool {
    let gguf = name.to_ascii_lowercase().ends_with(".gguf");
    name.starts_with(['.', '/', '~'])
        || name.ends_with('/')
        || name.matches('/').count() > 1
        || gguf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_how_weights_are_packed_is_an_input() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints/modelopt-nvfp4");
        let source = ("folder".to_owned(), None, None);
        let (model, checkpoint) = folder("x", path, source, None).expect("opens");
        let inputs = checkpoint.inputs(&model).expect("read");
        let names: Vec<&str> = inputs
            .iter()
            .filter_map(|input| Path::new(&input.path).file_name()?.to_str())
            .collect();
        assert!(names.contains(&weights::MODELOPT), "{names:?}");
    }

    #[test]
    fn tells_paths_from_hub_ids() {
        for path in ["./x", "/x", "../x", "~/x", "a/b/c", "x/", "m.gguf"] {
            assert!(looks_like_path(path), "{path}");
        }
        for id in ["gpt2", "meta-llama/Llama-3.2-1B"] {
            assert!(!looks_like_path(id), "{id}");
        }
    }
}
