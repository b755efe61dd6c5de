//! Opens the safetensors files of a checkpoint and finds tensors by name.
#![forbid(unsafe_code)]

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::UNIX_EPOCH,
};

use safetensors::{Dtype, SafeTensors};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{
    checksum::Checksums,
    missing::{self, MISMATCH},
    storage::{MappedFile, Storage},
    view::Elements,
};
use crate::{
    error::{Error, Result},
    lfs,
    model::{dtype::DType, json},
};

/// File that names the shard of every tensor.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// File of an unsharded checkpoint.
pub(super) const SINGLE: &str = "model.safetensors";

/// One safetensors file.
#[derive(Debug)]
pub struct Shard {
    name: String,
    path: Option<PathBuf>,
    storage: Storage,
}

impl Shard {
    /// A file that is not on disk.
    #[cfg(test)]
    pub(super) fn in_memory(name: String, bytes: Cow<'static, [u8]>) -> Self {
        Self {
            name,
            path: None,
            storage: Storage::Memory(bytes),
        }
    }

    /// File name, for messages and run.json.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Path on disk; none when the file is part of the binary.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The SHA-256 that the hub's cache names the file by, if it lies there: a blob is stored under
    /// its hash, and what is wrong at the download is not stored.
    pub fn blob_sha256(&self) -> Option<String> {
        let path = self.path.as_ref()?.canonicalize().ok()?;
        if path.parent()?.file_name()? != "blobs" {
            return None;
        }
        let name = path.file_name()?.to_str()?;
        let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| name.to_owned())
    }

    /// What is cheap to know of the content: the hub's hash, or the header, the size and the time of
    /// modification. A file in memory is hashed.
    fn fingerprint(&self, hasher: &mut blake3::Hasher) {
        let bytes = self.bytes();
        hasher.update(self.name.as_bytes());
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        if let Some(known) = self.blob_sha256() {
            hasher.update(known.as_bytes());
            return;
        }
        let Some(path) = &self.path else {
            hasher.update(bytes);
            return;
        };
        hasher.update(header(bytes));
        let modified = path.metadata().and_then(|found| found.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        hasher.update(&since.unwrap_or_default().as_nanos().to_le_bytes());
    }

    /// Drops a part of the file from the resident set; reading it again is still correct.
    pub(super) fn release(&self, range: Range<usize>) {
        self.storage.release(range);
    }
}

/// Where one tensor lies.
#[derive(Debug, Clone)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// All tensors of a checkpoint.
#[derive(Debug)]
pub struct WeightStore {
    shards: Vec<Arc<Shard>>,
    entries: HashMap<String, Entry>,
    /// Taken beside the walks, once that is asked for.
    checksums: OnceLock<Checksums>,
    notice: Option<String>,
}

/// One tensor as stored: shape and elements.
#[derive(Debug, Clone, Copy)]
pub struct StoredTensor<'w> {
    /// Dimensions, outermost first.
    pub shape: &'w [usize],
    /// The values, row-major.
    pub elements: Elements<'w>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl WeightStore {
    /// Opens `model.safetensors`, or else the shards named by its index, in `folder`: the order of
    /// transformers.
    pub fn open(folder: &Path) -> Result<Self> {
        let index = folder.join(INDEX);
        let single = folder.join(SINGLE);
        if single.is_file() {
            let mut store = Self::empty();
            let storage = Storage::map(&single)?;
            store.add(SINGLE.to_owned(), Some(single), storage)?;
            if index.is_file() || has_shards(folder) {
                store.notice = Some(format!(
                    "both {SINGLE} and shards or their index lie in the folder; {SINGLE} is read, as transformers does"
                ));
            }
            Ok(store)
        } else if index.is_file() {
            Self::open_sharded(folder, &index)
        } else {
            Err(missing::weights(folder))
        }
    }

    /// What a user should know of the choice of files.
    pub(in crate::model) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// A store over files that are in memory, as part of the binary or otherwise; a later file's
    /// tensors replace those of the same name in an earlier one.
    pub fn in_memory(files: Vec<(&str, Cow<'static, [u8]>)>) -> Result<Self> {
        let mut store = Self::empty();
        for (name, bytes) in files {
            store.add(name.to_owned(), None, Storage::Memory(bytes))?;
        }
        Ok(store)
    }

    fn empty() -> Self {
        Self {
            shards: Vec::new(),
            entries: HashMap::new(),
            checksums: OnceLock::new(),
            notice: None,
        }
    }

    fn open_sharded(folder: &Path, index: &Path) -> Result<Self> {
        let text = std::fs::read(index).map_err(|error| Error::new(index.display(), error))?;
        lfs::refuse_pointer(index.display(), &text)?;
        let parsed = json::parse(&text).and_then(serde_json::from_value::<Index>);
        let parsed = parsed.map_err(|error| {
            Error::new(index.display(), format!("not a safetensors index: {error}"))
                .remedy("download it again")
        })?;
        let shards: BTreeSet<&str> = parsed.weight_map.values().map(String::as_str).collect();
        let mut store = Self::empty();
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
            let stored_before = store.entries.len();
            let storage = Storage::map(&path)?;
            let added = store.add(shard.to_owned(), Some(path.clone()), storage)?;
            let twice = stored_before + added - store.entries.len();
            if twice > 0 {
                store.notice = Some(format!(
                    "{twice} of the tensors in {shard} lie in an earlier shard, too; {shard} is read, as transformers does"
                ));
            }
        }
        for (tensor, shard) in &parsed.weight_map {
            if !store.entries.contains_key(tensor) {
                return Err(Error::new(
                    folder.join(shard).display(),
                    format!("the index places tensor `{tensor}` here, but no shard has it"),
                )
                .remedy("take the index and its shards of one revision"));
            }
        }
        if store.shards.is_empty() {
            return Err(
                Error::new(index.display(), "it names no tensor").remedy("download it again")
            );
        }
        Ok(store)
    }

    /// Adds the file's tensors, instead of those of the same names; returns how many.
    fn add(&mut self, name: String, path: Option<PathBuf>, storage: Storage) -> Result<usize> {
        let subject = path
            .as_ref()
            .map_or_else(|| name.clone(), |path| path.display().to_string());
        let bytes = storage.bytes();
        lfs::refuse_pointer(&subject, bytes)?;
        // Checks the header's JSON, offsets, sizes and that they cover the file exactly.
        let parsed = SafeTensors::deserialize(bytes).map_err(|error| {
            Error::new(&subject, format!("not a valid safetensors file: {error}"))
                .remedy("it is truncated or corrupt; download it again")
        })?;
        if let Some(twice) = repeated_name(bytes) {
            return Err(Error::new(
                &subject,
                format!("not a valid safetensors file: tensor `{twice}` is described twice"),
            )
            .remedy("it is truncated or corrupt; download it again"));
        }
        let shard = self.shards.len();
        let base = bytes.as_ptr().addr();
        let added = parsed.len();
        for (tensor, view) in parsed.iter() {
            let start = view.data().as_ptr().addr() - base;
            self.entries.insert(
                tensor.to_owned(),
                Entry {
                    shard,
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    range: start..start + view.data().len(),
                },
            );
        }
        self.shards.push(Arc::new(Shard {
            name,
            path,
            storage,
        }));
        Ok(added)
    }

    /// The files, in reading order.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// Whether a tensor of this name is stored.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Dimensions of the tensor `name`, if it is stored.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Names of all stored tensors, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The tensor `name`; it must exist and hold floats of a supported width.
    pub fn get(&self, name: &str) -> Result<StoredTensor<'_>> {
        let entry = self.entry(name)?;
        let dtype = match entry.dtype {
            Dtype::F32 => DType::Float32,
            Dtype::BF16 => DType::BFloat16,
            Dtype::F16 => DType::Float16,
            other => {
                return Err(Error::new(
                    &self.shards[entry.shard].name,
                    format!("tensor `{name}` is stored as {other:?}"),
                )
                .remedy("convert the checkpoint to float32, bfloat16 or float16"));
            }
        };
        Ok(StoredTensor {
            shape: &entry.shape,
            elements: Elements {
                dtype,
                bytes: &self.shards[entry.shard].bytes()[entry.range.clone()],
            },
        })
    }

    /// The tensor `name`, which must have exactly this shape.
    pub fn get_shaped(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>> {
        // The dtype first: a tensor of a wrong one often has a wrong shape, too.
        let tensor = self.get(name)?;
        self.check_shape(name, shape)?;
        Ok(tensor)
    }

    /// The bytes of the tensor `name`, which must have exactly this shape.
    pub fn get_bytes(&self, name: &str, shape: &[usize]) -> Result<&[u8]> {
        self.check_shape(name, shape)?;
        let entry = self.entry(name)?;
        if entry.dtype != Dtype::U8 {
            return Err(Error::new(
                &self.shards[entry.shard].name,
                format!(
                    "tensor `{name}` is stored as {:?}, not as bytes",
                    entry.dtype
                ),
            )
            .remedy(MISMATCH));
        }
        self.bytes(name)
    }

    /// The bytes of the tensor `name`, whatever its elements.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let entry = self.entry(name)?;
        Ok(&self.shards[entry.shard].bytes()[entry.range.clone()])
    }

    /// Index of the file that has the tensor `name`; of several, the one that counts.
    pub fn shard_of(&self, name: &str) -> Option<usize> {
        self.entries.get(name).map(|entry| entry.shard)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let names = self.entries.keys().map(String::as_str);
            missing::tensor(name, self.describe(), names)
        })
    }

    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let stored = &self.entry(name)?.shape;
        if stored == shape {
            return Ok(());
        }
        Err(Error::new(
            self.describe(),
            format!("tensor `{name}` has shape {stored:?}, but config.json implies {shape:?}"),
        )
        .remedy(MISMATCH))
    }

    /// Asks the kernel to read these tensors ahead of their use.
    pub fn prefetch(&self, names: &[String]) {
        for entry in names
            .iter()
            .filter_map(|name| self.entries.get(name.as_str()))
        {
            self.shards[entry.shard]
                .storage
                .prefetch(entry.range.clone());
        }
    }

    /// The file that a tensor is mapped from.
    pub fn file_of(&self, name: &str) -> Option<&MappedFile> {
        let entry = self.entries.get(name)?;
        self.shards[entry.shard].storage.file()
    }

    /// Drops these tensors from the resident set; reading them again is still correct.
    pub fn release(&self, names: &[String]) {
        let parts = names
            .iter()
            .filter_map(|name| self.entries.get(name.as_str()))
            .map(|entry| (entry.shard, entry.range.clone()));
        match self.checksums.get() {
            Some(checksums) => checksums.take(parts.collect()),
            None => parts.for_each(|(shard, range)| self.shards[shard].release(range)),
        }
    }

    /// A digest of what is cheap to know of all files; it changes when one of them does.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for shard in &self.shards {
            shard.fingerprint(&mut hasher);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// From now on takes the files' checksums beside the walks, from what [`WeightStore::release`]
    /// gives back; unless the hub's cache knows them already.
    pub fn take_checksums(&self) {
        if self
            .shards
            .iter()
            .all(|shard| shard.blob_sha256().is_some())
        {
            return;
        }
        self.checksums
            .get_or_init(|| Checksums::start(&self.shards));
    }

    /// The BLAKE3 of every file, in the order of [`WeightStore::shards`]: what no walk has read is
    /// read now.
    pub fn checksums(&self) -> Result<Vec<blake3::Hash>> {
        let checksums = self
            .checksums
            .get_or_init(|| Checksums::start(&self.shards));
        checksums.finish()
    }

    fn describe(&self) -> String {
        match self.shards.as_slice() {
            [only] => only.name.clone(),
            _ => format!("{} safetensors files", self.shards.len()),
        }
    }
}

/// The header of a safetensors file: its length, and the JSON of that length.
fn header(bytes: &[u8]) -> &[u8] {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return bytes;
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    &bytes[..8 + length.min(rest.len())]
}

/// Whether parts of a model lie in the folder.
fn has_shards(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| name.to_str().is_some_and(missing::is_shard))
}

/// A name that a valid header has twice: the format forbids it, and the parser would keep either.
fn repeated_name(bytes: &[u8]) -> Option<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a safetensors header")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = HashSet::new();
            let mut twice = None;
            while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                if !seen.insert(name.clone()) {
                    twice = Some(name);
                }
            }
            Ok(twice)
        }
    }
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let mut header = serde_json::Deserializer::from_slice(rest.get(..length)?);
    header.deserialize_map(Names).ok()?
}
