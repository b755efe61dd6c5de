//! A file being read: counts bytes on a bar and stops when the user asks to.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::progress::{Bar, Progress};
use crate::{files, interrupt};

/// Bytes read at a time; small enough that the user's wish to stop is seen at once.
pub(crate) const CHUNK: usize = 1 << 20;

/// Opens a file, or says why not.
pub(crate) fn open(path: &Path) -> Result<File> {
    files::open(path).map_err(|error| not_opened(path, &error))
}

/// Why something cannot be read.
pub(super) fn not_opened(path: &Path, reason: &dyn fmt::Display) -> Error {
    Error::new(path.display(), format!("cannot be opened: {reason}"))
        .remedy("check the path and its permissions")
        .meant_path(path)
}

/// The file with its bar.
pub(crate) struct Watched {
    file: File,
    bar: Bar,
}

impl Watched {
    pub(crate) fn open(path: &Path, what: &str, progress: Progress) -> Result<Self> {
        let file = open(path)?;
        let size = file.metadata().map_or(0, |about| about.len());
        let bar = progress.bytes(what, size);
        Ok(Self { file, bar })
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not ErrorKind::Interrupted: readers retry that one.
        interrupt::check().map_err(io::Error::other)?;
        let count = self.file.read(buffer)?;
        self.bar.inc(count as u64);
        Ok(count)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// An error of reading, unless the user asked to stop.
pub(crate) fn read_error(subject: impl std::fmt::Display, error: &io::Error) -> Error {
    match interrupt::check() {
        Err(stop) => stop,
        Ok(()) => Error::new(subject, format!("cannot be read: {error}"))
            .remedy("the file may be damaged or cut short; get it again"),
    }
}

/// Size and BLAKE3 of a file.
pub(crate) fn checksum(path: &Path, progress: Progress) -> Result<(u64, String)> {
    let mut reader = Watched::open(path, "checksum", progress)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hasher.finalize().to_hex().to_string())),
            Ok(count) => {
                bytes += count as u64;
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
            Err(error) => return Err(read_error(path.display(), &error)),
        }
    }
}
