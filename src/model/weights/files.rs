//! Which files of a folder hold the weights.
#![forbid(unsafe_code)]

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{missing, safetensors, shard::Stored, storage::Storage, store::WeightStore, torch};
use crate::{
    error::{Error, Result},
    files, lfs,
};

/// File that names the shard of every tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// File of an unsharded checkpoint.
pub(super) const SINGLE: &str = "model.safetensors";
/// The same of checkpoints that PyTorch has written itself.
pub(super) const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
pub(super) const TORCH_SINGLE: &str = "pytorch_model.bin";

/// What adds one file of a format to a store, and returns its tensors.
type Reader =
    fn(&mut WeightStore, String, Option<PathBuf>, Storage) -> Result<Vec<(String, Stored)>>;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens the files of `folder` that hold its weights, in the order of transformers:
/// `model.safetensors`, or else the shards named by its index; `pytorch_model.bin`, or else its shards.
pub fn open(folder: &Path) -> Result<WeightStore> {
    let is_there = |name: &str| folder.join(name).is_file();
    let safe = is_there(SINGLE) || is_there(INDEX);
    let torch = is_there(TORCH_SINGLE) || is_there(TORCH_INDEX);
    let mut store = if safe {
        open_format(folder, SINGLE, INDEX, safetensors::tensors)?
    } else if torch {
        open_format(folder, TORCH_SINGLE, TORCH_INDEX, torch::tensors)?
    } else {
        return Err(missing::weights(folder));
    };
    if safe && torch && store.notice().is_none() {
        store.say(
            "both safetensors and pytorch_model.bin lie in the folder; safetensors are read, as transformers does"
                .to_owned(),
        );
    }
    Ok(store)
}

/// The index that says where the weights of `folder` lie, if they are read by one: beside a single file
/// it is not.
pub fn index_of(folder: &Path) -> Option<&'static str> {
    let names = [SINGLE, INDEX, TORCH_SINGLE, TORCH_INDEX];
    let first = names.into_iter().find(|name| folder.join(name).is_file());
    first.filter(|name| [INDEX, TORCH_INDEX].contains(name))
}

/// Opens the single file, or else the shards named by the index.
fn open_format(folder: &Path, single: &str, index: &str, read: Reader) -> Result<WeightStore> {
    let path = folder.join(single);
    if !path.is_file() {
        return open_sharded(folder, &folder.join(index), read);
    }
    let mut store = WeightStore::empty();
    let storage = Storage::map(&path)?;
    add(&mut store, read, single.to_owned(), Some(path), storage)?;
    if folder.join(index).is_file() || (single == SINGLE && has_shards(folder)) {
        store.say(format!(
            "both {single} and shards or their index lie in the folder; {single} is read, as transformers does"
        ));
    }
    Ok(store)
}

/// Adds a file and its tensors, instead of those of the same names; returns how many.
fn add(
    store: &mut WeightStore,
    read: Reader,
    name: String,
    path: Option<PathBuf>,
    storage: Storage,
) -> Result<usize> {
    let found = read(store, name, path, storage)?;
    let count = found.len();
    for (name, stored) in found {
        store.insert(name, stored);
    }
    Ok(count)
}

/// A store over files that are in memory, as part of the binary or otherwise; a later file's
/// tensors replace those of the same name in an earlier one.
pub fn in_memory(files: Vec<(&str, Cow<'static, [u8]>)>) -> Result<WeightStore> {
    let mut store = WeightStore::empty();
    for (name, bytes) in files {
        let storage = Storage::Memory(bytes);
        add(
            &mut store,
            safetensors::tensors,
            name.to_owned(),
            None,
            storage,
        )?;
    }
    Ok(store)
}

/// Adds the file of an adapter to the model's, and returns its tensors, which are not the model's.
pub(in crate::model) fn add_adapter(
    store: &mut WeightStore,
    name: &str,
    path: PathBuf,
) -> Result<BTreeMap<String, Stored>> {
    let storage = Storage::map(&path)?;
    let read = match path.extension().is_some_and(|end| end == "bin") {
        true => torch::tensors,
        false => safetensors::tensors,
    };
    let tensors = read(store, name.to_owned(), Some(path), storage)?;
    Ok(tensors.into_iter().collect())
}

/// The same, of a file that is in memory.
pub(in crate::model) fn add_adapter_in_memory(
    store: &mut WeightStore,
    name: &str,
    bytes: Vec<u8>,
) -> Result<BTreeMap<String, Stored>> {
    let storage = Storage::Memory(bytes.into());
    let tensors = safetensors::tensors(store, name.to_owned(), None, storage)?;
    Ok(tensors.into_iter().collect())
}

/// Files of a model; the largest known has some 200. All are open at once.
const MOST_SHARDS: usize = 4096;

fn open_sharded(folder: &Path, index: &Path, read: Reader) -> Result<WeightStore> {
    let text = files::read(index, files::INDEX).map_err(|error| Error::unread(index, error))?;
    lfs::refuse_pointer(index.display(), &text)?;
    let parsed = serde_json::from_slice::<Index>(&text).map_err(|error| {
        Error::new(index.display(), format!("not an index of weights: {error}"))
            .remedy("download it again")
    })?;
    let shards: BTreeSet<&str> = parsed.weight_map.values().map(String::as_str).collect();
    if shards.len() > MOST_SHARDS {
        return Err(Error::new(
            index.display(),
            format!("it names {} files, more than {MOST_SHARDS}", shards.len()),
        )
        .remedy("download it again, or store the model in fewer files"));
    }
    let mut store = WeightStore::empty();
    for shard in shards {
        // A shard lies beside its index; anything else is a mistake or an attack.
        if Path::new(shard)
            .file_name()
            .is_none_or(|name| name != shard)
        {
            return Err(Error::new(
                index.display(),
                format!("shard name `{shard}` is not a plain file name"),
            )
            .remedy("download the index again from a source you trust"));
        }
        let path = folder.join(shard);
        if !path.is_file() {
            return Err(Error::new(
                index.display(),
                format!("it names the shard `{shard}`, which is not in the folder"),
            )
            .remedy("download the missing shard"));
        }
        // Of a tensor that lies in several shards the last counts, as in transformers.
        let stored_before = store.len();
        let storage = Storage::map(&path)?;
        let added = add(&mut store, read, shard.to_owned(), Some(path), storage)?;
        let twice = stored_before + added - store.len();
        if twice > 0 {
            store.say(format!(
                "{twice} of the tensors in {shard} lie in an earlier shard, too; {shard} is read, as transformers does"
            ));
        }
    }
    for (tensor, shard) in &parsed.weight_map {
        if !store.contains(tensor) {
            return Err(Error::new(
                folder.join(shard).display(),
                format!("the index places tensor `{tensor}` here, but no shard has it"),
            )
            .remedy("take the index and its shards of one revision"));
        }
    }
    if store.shards().is_empty() {
        return Err(Error::new(index.display(), "it names no tensor").remedy("download it again"));
    }
    Ok(store)
}

/// Whether parts of a model lie in the folder.
fn has_shards(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_str().is_some_and(missing::is_shard))
}
