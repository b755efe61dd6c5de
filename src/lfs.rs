//! Pointers that git-lfs leaves where a file was not fetched.
#![forbid(unsafe_code)]

use std::fmt;

use crate::error::{Error, Result};

/// Refuses a pointer in the place of a file's content.
pub(crate) fn refuse_pointer(subject: impl fmt::Display, content: &[u8]) -> Result<()> {
    if !content.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Ok(());
    }
    Err(Error::new(
        subject,
        "a git-lfs pointer lies in the place of the file itself",
    )
    .remedy("run `git lfs pull` in the folder"))
}
