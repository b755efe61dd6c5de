//! Bounded reading: nothing is taken that is not there, and no count is believed before that.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// What to do about a file that contradicts itself.
pub(super) const DAMAGED: &str = "it is truncated or corrupt; download it again";

/// Reads a file from its start.
#[derive(Debug, Clone)]
pub(super) struct Reader<'f> {
    bytes: &'f [u8],
    at: usize,
    /// The file, for messages.
    name: &'f str,
}

impl<'f> Reader<'f> {
    pub(super) fn new(bytes: &'f [u8], name: &'f str) -> Self {
        Self { bytes, at: 0, name }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// An error about the file.
    pub(super) fn damaged(&self, reason: impl std::fmt::Display) -> Error {
        Error::new(self.name, format!("not a valid GGUF file: {reason}")).remedy(DAMAGED)
    }

    /// The next `length` bytes.
    pub(super) fn take(&mut self, length: u64) -> Result<&'f [u8]> {
        let length = usize::try_from(length).ok();
        let end = length.and_then(|length| self.at.checked_add(length));
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let Some(taken) = taken else {
            return Err(self.damaged("it ends within its header"));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length and so many bytes.
    pub(super) fn string(&mut self) -> Result<&'f [u8]> {
        let length = self.u64()?;
        self.take(length)
    }

    /// A string that must be text: `what` says which.
    pub(super) fn text(&mut self, what: &str) -> Result<&'f str> {
        let bytes = self.string()?;
        str::from_utf8(bytes).map_err(|_| self.damaged(format!("{what} is not UTF-8")))
    }
}
