//! Where the bytes of a safetensors file live: a memory map, the binary itself, or memory.
//!
//! Mapping keeps loading free of copies and lets a checkpoint be larger than memory: a layer's
//! pages are asked for ahead of its turn and given back after it.

use std::{
    borrow::Cow,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use crate::{
    error::{Error, Result},
    files,
    mapped::{self, Watch},
};

/// The immutable bytes of one file.
#[derive(Debug)]
pub(super) enum Storage {
    Mapped {
        // Goes before the map.
        _watch: Watch,
        map: Mmap,
        file: MappedFile,
    },
    /// Part of the binary, or made by this process.
    Memory(Cow<'static, [u8]>),
}

/// A file that is mapped, for those who read parts of it rather than touch its pages.
#[derive(Debug, Clone)]
pub struct MappedFile {
    file: Arc<File>,
    path: PathBuf,
    /// Address of its first byte.
    start: usize,
    /// When it had last been written to, where the system tells.
    modified: Option<SystemTime>,
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
        let file = files::open(path).map_err(|error| not_opened(path, &error))?;
        let found = file
            .metadata()
            .map_err(|error| Error::unread(path, error))?;
        if found.len() == 0 {
            return Err(Error::new(path.display(), "the file is empty").remedy("download it again"));
        }
        // SAFETY: the map is read-only and private to this process. What happens when another process
        // truncates the file is in `mapped`.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|error| not_mapped(path, &error))?;
        let _watch = mapped::watch(path, &map);
        let file = MappedFile {
            file: Arc::new(file),
            path: path.to_owned(),
            start: map.as_ptr().addr(),
            modified: found.modified().ok(),
        };
        Ok(Self::Mapped { _watch, map, file })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Memory(bytes) => bytes,
        }
    }

    /// The file, if there is one.
    pub(super) fn file(&self) -> Option<&MappedFile> {
        match self {
            Self::Mapped { file, .. } => Some(file),
            Self::Memory(_) => None,
        }
    }

    /// An error if the file has become shorter since it was mapped, where in its new last page there are zeros and
    /// no signal tells, or was written to, so that what was read is neither the old nor the new file. One that took
    /// its name is no matter: the old one is still mapped.
    pub(super) fn intact(&self) -> Result<()> {
        let Self::Mapped { map, file, .. } = self else {
            return Ok(());
        };
        match file.file.metadata() {
            Ok(found) if found.len() < map.len() as u64 => Err(mapped::changed(&file.path)),
            Ok(found) if found.modified().ok() != file.modified => Err(mapped::written(&file.path)),
            Ok(_) => Ok(()),
            Err(_) => Err(mapped::changed(&file.path)),
        }
    }

    /// Asks the kernel to read `range` ahead. Advice: failure is harmless.
    pub(super) fn prefetch(&self, range: Range<usize>) {
        if let Self::Mapped { map, .. } = self {
            let _ = map.advise_range(Advice::WillNeed, range.start, range.len());
        }
    }

    /// Drops `range` from this process's resident set; the page cache keeps it.
    pub(super) fn release(&self, range: Range<usize>) {
        if let Self::Mapped { map, .. } = self {
            // SAFETY: MADV_DONTNEED on a read-only file mapping discards clean pages only; a
            // later access reads the same bytes from the file again.
            #[allow(unsafe_code)]
            let _ = unsafe {
                map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
    }
}

/// Why a file could not be opened, and what to do about it.
fn not_opened(path: &Path, error: &io::Error) -> Error {
    let failed = Error::new(path.display(), error);
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EMFILE) {
        return failed.remedy("raise the limit on open files that the shell sets (ulimit -n)");
    }
    failed.remedy("check that the file exists and is readable")
}

/// Why a file could not be mapped, and what to do about it.
fn not_mapped(path: &Path, error: &io::Error) -> Error {
    let failed = Error::new(path.display(), format!("it cannot be mapped: {error}"));
    match error.kind() {
        io::ErrorKind::OutOfMemory => {
            failed.remedy("raise the limit on memory that the shell or the job sets (ulimit -v)")
        }
        _ => failed.remedy("copy it to a local disk"),
    }
}
