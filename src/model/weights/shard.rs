//! A file of weights, and the part of it that a tensor is.
#![forbid(unsafe_code)]

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use safetensors::Dtype;

use super::{
    gguf,
    storage::{MappedFile, Storage},
    torch,
    view::Elements,
};
use crate::{
    error::{Error, Result},
    model::dtype::DType,
};

/// One file of weights.
#[derive(Debug)]
pub struct Shard {
    name: String,
    path: Option<PathBuf>,
    storage: Storage,
    /// Its place among the checkpoint's files.
    index: usize,
}

impl Shard {
    /// The file that is number `index` of a checkpoint's; without a path it is not on disk.
    pub(super) fn new(index: usize, name: String, path: Option<PathBuf>, storage: Storage) -> Self {
        Self {
            name,
            path,
            storage,
            index,
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

    /// Whether it is in PyTorch's own format.
    pub fn is_of_pytorch(&self) -> bool {
        self.bytes().starts_with(torch::START)
    }

    /// Whether it is in the GGUF format.
    pub fn is_gguf(&self) -> bool {
        self.bytes().starts_with(gguf::MAGIC)
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
    pub(super) fn fingerprint(&self, hasher: &mut blake3::Hasher) {
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

    /// Its place among the checkpoint's files.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The file, if it is mapped.
    pub(super) fn file(&self) -> Option<&MappedFile> {
        self.storage.file()
    }

    /// An error if the file has become shorter since it was opened, or was written to.
    pub(super) fn intact(&self) -> Result<()> {
        self.storage.intact()
    }

    /// Asks the kernel to read a part of the file ahead of its use.
    pub(super) fn prefetch(&self, range: Range<usize>) {
        self.storage.prefetch(range);
    }

    /// Drops a part of the file from the resident set; reading it again is still correct.
    pub(super) fn release(&self, range: Range<usize>) {
        self.storage.release(range);
    }
}

/// One tensor as it lies in a file.
#[derive(Debug, Clone)]
pub struct Stored {
    shard: Arc<Shard>,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Stored {
    /// Row-major elements of a type in a part of a file, which must have their size.
    pub(super) fn new(
        shard: &Arc<Shard>,
        dtype: Dtype,
        shape: Vec<usize>,
        range: Range<usize>,
    ) -> Self {
        Self {
            shard: Arc::clone(shard),
            dtype,
            shape,
            range,
        }
    }

    /// Part `index` of `count` equal ones, of another shape; elements must not be torn.
    pub(super) fn part_of(&self, index: usize, count: usize, shape: Vec<usize>) -> Self {
        let length = self.range.len() / count;
        let start = self.range.start + index * length;
        Self {
            shape,
            range: start..start + length,
            ..self.clone()
        }
    }

    /// Elements of a file that are not in row-major order there, put in order. They are no more than the
    /// file has, so that what is true of all the file's bytes holds for as many of them.
    pub(super) fn in_order(
        file: &Arc<Shard>,
        dtype: Dtype,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    ) -> Self {
        debug_assert!(bytes.len() <= file.bytes().len());
        let range = 0..bytes.len();
        let storage = Storage::Memory(bytes.into());
        let shard = Shard::new(file.index, file.name.clone(), None, storage);
        Self::new(&Arc::new(shard), dtype, shape, range)
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The type of the elements, in the words of the safetensors format.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The same elements in another shape, which must have as many.
    pub(super) fn reshaped(self, shape: Vec<usize>) -> Self {
        Self { shape, ..self }
    }

    /// The elements, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.shard.bytes()[self.range.clone()]
    }

    /// The values, if their type is one that computes; else none.
    pub fn elements(&self) -> Option<Elements<'_>> {
        let dtype = match self.dtype {
            Dtype::F32 => DType::Float32,
            Dtype::BF16 => DType::BFloat16,
            Dtype::F16 => DType::Float16,
            _ => return None,
        };
        Some(Elements {
            dtype,
            bytes: self.bytes(),
        })
    }

    /// The values, if they are integers of 32 or 64 bits; else none.
    pub(super) fn integers(&self) -> Option<Vec<i64>> {
        let bytes = self.bytes();
        match self.dtype {
            Dtype::I64 => {
                let (values, _) = bytes.as_chunks();
                Some(values.iter().copied().map(i64::from_le_bytes).collect())
            }
            Dtype::I32 => {
                let (values, _) = bytes.as_chunks();
                let wide = |value: &[u8; 4]| i64::from(i32::from_le_bytes(*value));
                Some(values.iter().map(wide).collect())
            }
            _ => None,
        }
    }

    /// The file that it is mapped from.
    pub fn file(&self) -> Option<&MappedFile> {
        self.shard.file()
    }

    /// The file, by its place among the checkpoint's, and the bytes there.
    pub(super) fn part(&self) -> (usize, Range<usize>) {
        (self.shard.index(), self.range.clone())
    }

    /// Asks the kernel to read it ahead of its use.
    pub(super) fn prefetch(&self) {
        self.shard.prefetch(self.range.clone());
    }

    /// An error about it.
    pub(super) fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(self.shard.name(), reason)
    }
}

/// The header of a safetensors file: its length, and the JSON of that length. Of a file of PyTorch the
/// end, where its directory has a checksum of every tensor; of a GGUF file, which does not say where its
/// header ends, the first bytes.
fn header(bytes: &[u8]) -> &[u8] {
    if bytes.starts_with(gguf::MAGIC) {
        return &bytes[..bytes.len().min(gguf::LONG_HEADER)];
    }
    if bytes.starts_with(torch::START) {
        return &bytes[bytes.len().saturating_sub(torch::DIRECTORY)..];
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return bytes;
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    &bytes[..8 + length.min(rest.len())]
}

/// A tensor of a file in memory.
#[cfg(test)]
pub(super) fn in_memory(dtype: Dtype, shape: &[usize], bytes: Vec<u8>) -> Stored {
    let length = bytes.len();
    let shard = Shard::new(0, "file".to_owned(), None, Storage::Memory(bytes.into()));
    Stored::new(&Arc::new(shard), dtype, shape.to_vec(), 0..length)
}
