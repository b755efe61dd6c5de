//! Pointers that git-lfs leaves where a file was not fetched.
#![forbid(unsafe_code)]

use std::{fmt, io::Read, path::Path};

use crate::{
    error::{Error, Result},
    files,
};

/// How every pointer begins.
const START: &[u8] = b"version https://git-lfs.github.com/spec/";

/// As [`refuse_pointer`], for a file that may be large; one that cannot be read is none.
pub(crate) fn refuse_pointer_at(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    let read =
        files::open(path).and_then(|file| file.take(START.len() as u64).read_to_end(&mut start));
    read.map_or(Ok(()), |_| refuse_pointer(path.display(), &start))
}

/// Refuses a pointer in the place of a file's content.
pub(crate) fn refuse_pointer(subject: impl fmt::Display, content: &[u8]) -> Result<()> {
    if !content.starts_with(START) {
        return Ok(());
    }
    Err(Error::new(
        subject,
        "a git-lfs pointer lies in the place of the file itself",
    )
    .remedy("run `git lfs pull` in the folder"))
}
