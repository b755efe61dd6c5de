//! How much text is held at once: far more than experiments read, and less than memory has.

use std::fmt::Display;

use crate::error::Error;

/// Bytes of a text, joined or not: some 200 million tokens.
pub(super) const MOST_TEXT: usize = 768 << 20;

/// Bytes of a row of a file of JSON lines.
pub(super) const LONGEST_ROW: usize = 128 << 20;

/// A text is longer than [`MOST_TEXT`].
pub(super) fn too_much_text(subject: &dyn Display) -> Error {
    Error::new(
        subject,
        format!("its text is longer than {} MiB", MOST_TEXT >> 20),
    )
    .remedy("give a part of it: no experiment reads so much")
}

/// A row is longer than [`LONGEST_ROW`].
pub(super) fn too_long_row(subject: &dyn Display) -> Error {
    Error::new(
        subject,
        format!("it is longer than {} MiB", LONGEST_ROW >> 20),
    )
    .remedy("put each document in a row of its own")
}
