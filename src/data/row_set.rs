//! What is asked of a file with a document per row, in words that all formats share.

use crate::error::Result;

/// The rows of one file that are asked for, counted from 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// The first so many, or all that there are.
    First(u64),
    /// These, in ascending order.
    Set(&'a [u64]),
}

impl Rows<'_> {
    pub(crate) const ALL: Self = Self::First(u64::MAX);

    pub(crate) fn wants(&self, row: u64) -> bool {
        match self {
            Self::First(count) => row < *count,
            Self::Set(rows) => rows.binary_search(&row).is_ok(),
        }
    }

    /// No row from this one on is wanted.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::First(count) => *count,
            Self::Set(rows) => rows.last().map_or(0, |last| last.saturating_add(1)),
        }
    }
}

/// Receives row number and text.
pub(crate) type Sink<'a> = dyn FnMut(u64, String) -> Result<()> + 'a;

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}
