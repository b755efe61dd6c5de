//! Where the bytes of a safetensors file live: a memory map, the binary itself, or memory.
//!
//! Mapping keeps loading free of copies and lets a checkpoint be larger than memory: a layer's
//! pages are asked for ahead of its turn and given back after it.

use std::{borrow::Cow, fs::File, ops::Range, path::Path, sync::Arc};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::error::{Error, Result};

/// The immutable bytes of one file.
#[derive(Debug)]
pub(super) enum Storage {
    Mapped(Mmap, MappedFile),
    /// Part of the binary, or made by this process.
    Memory(Cow<'static, [u8]>),
}

/// A file that is mapped, for those who read parts of it rather than touch its pages.
#[derive(Debug, Clone)]
pub struct MappedFile {
    file: Arc<File>,
    /// Address of its first byte.
    start: usize,
}

impl MappedFile {
    /// The file, and where in it these bytes of its map lie.
    pub fn place_of(&self, bytes: &[u8]) -> (&Arc<File>, u64) {
        (&self.file, (bytes.as_ptr().addr() - self.start) as u64)
    }
}

impl Storage {
    /// Maps the file at `path` read-only.
    pub(super) fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| {
            Error::new(path.display(), error).remedy("check that the file exists and is readable")
        })?;
        let length = file
            .metadata()
            .map_err(|error| Error::new(path.display(), error))?
            .len();
        if length == 0 {
            return Err(Error::new(path.display(), "the file is empty").remedy("download it again"));
        }
        // SAFETY: the map is read-only and private to this process. If another process truncates
        // the file while it is mapped the kernel raises SIGBUS; that is the documented price of
        // mapping and shared by every safetensors reader that maps.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::new(path.display(), error))?;
        let mapped = MappedFile {
            file: Arc::new(file),
            start: map.as_ptr().addr(),
        };
        Ok(Self::Mapped(map, mapped))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map, _) => map,
            Self::Memory(bytes) => bytes,
        }
    }

    /// The file, if there is one.
    pub(super) fn file(&self) -> Option<&MappedFile> {
        match self {
            Self::Mapped(_, file) => Some(file),
            Self::Memory(_) => None,
        }
    }

    /// Asks the kernel to read `range` ahead. Advice: failure is harmless.
    pub(super) fn prefetch(&self, range: Range<usize>) {
        if let Self::Mapped(map, _) = self {
            let _ = map.advise_range(Advice::WillNeed, range.start, range.len());
        }
    }

    /// Drops `range` from this process's resident set; the page cache keeps it.
    pub(super) fn release(&self, range: Range<usize>) {
        if let Self::Mapped(map, _) = self {
            // SAFETY: MADV_DONTNEED on a read-only file mapping discards clean pages only; a
            // later access reads the same bytes from the file again.
            #[allow(unsafe_code)]
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
    }
}
