//! Where the bytes of a safetensors file live: a memory map, the binary itself, or memory.
//!
//! Mapping keeps loading free of copies and lets a checkpoint be larger than memory: a layer's
//! pages are asked for ahead of its turn and given back after it.

use std::{borrow::Cow, fs::File, ops::Range, path::Path};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::error::{Error, Result};

/// The immutable bytes of one file.
#[derive(Debug)]
pub(super) enum Storage {
    Mapped(Mmap),
    /// Part of the binary, or made by this process.
    Memory(Cow<'static, [u8]>),
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
        Ok(Self::Mapped(map))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }

    /// Asks the kernel to read `range` ahead. Advice: failure is harmless.
    pub(super) fn prefetch(&self, range: Range<usize>) {
        if let Self::Mapped(map) = self {
            let _ = map.advise_range(Advice::WillNeed, range.start, range.len());
        }
    }

    /// Drops `range` from this process's resident set; the page cache keeps it.
    pub(super) fn release(&self, range: Range<usize>) {
        if let Self::Mapped(map) = self {
            // SAFETY: MADV_DONTNEED on a read-only file mapping discards clean pages only; a
            // later access reads the same bytes from the file again.
            #[allow(unsafe_code)]
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
    }
}
