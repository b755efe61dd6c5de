//! A file with a document per row, whatever its format.

use std::path::{Path, PathBuf};

use super::{
    jsonl, parquet,
    row_set::{Packing, Rows, Sink},
};
use crate::error::{Error, Result};
use crate::progress::Progress;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One text that is already joined.
    Text,
    /// JSON objects, one per line.
    Jsonl(Packing),
    Parquet,
}

impl Format {
    /// By the file's name.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let name = path.to_ascii_lowercase();
        let (name, packing) = if let Some(inner) = name.strip_suffix(".gz") {
            (inner, Packing::Gzip)
        } else if let Some(inner) = name.strip_suffix(".zst") {
            (inner, Packing::Zstd)
        } else {
            (name.as_str(), Packing::Plain)
        };
        if name.ends_with(".jsonl") || name.ends_with(".ndjson") {
            Some(Self::Jsonl(packing))
        } else if packing != Packing::Plain {
            None
        } else if name.ends_with(".parquet") {
            Some(Self::Parquet)
        } else if name.ends_with(".txt") {
            Some(Self::Text)
        } else {
            None
        }
    }
}

/// A file of documents.
#[derive(Debug, Clone)]
pub(crate) struct RowFile {
    path: PathBuf,
    format: Format,
    column: String,
}

impl RowFile {
    /// `format` is `Jsonl` or `Parquet`; a text file has no rows.
    pub(crate) fn new(path: PathBuf, column: &str) -> Result<Self> {
        match Format::of(&path.to_string_lossy()) {
            Some(format @ (Format::Jsonl(_) | Format::Parquet)) => Ok(Self {
                path,
                format,
                column: column.to_owned(),
            }),
            Some(Format::Text) | None => Err(unknown_format(&path)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Counts the rows, and checks each as far as the format has no count of its own.
    pub(crate) fn count(&self, progress: Progress) -> Result<u64> {
        match self.format {
            Format::Parquet => parquet::count(&self.path, &self.column),
            Format::Jsonl(packing) => jsonl::count(&self.path, packing, &self.column, progress),
            Format::Text => Err(unknown_format(&self.path)),
        }
    }

    /// Hands the wanted rows to `sink` in the file's order.
    pub(crate) fn read(
        &self,
        rows: Rows<'_>,
        sink: &mut Sink<'_>,
        progress: Progress,
    ) -> Result<()> {
        match self.format {
            Format::Parquet => parquet::read(&self.path, &self.column, rows, sink, progress),
            Format::Jsonl(packing) => {
                jsonl::read(&self.path, packing, &self.column, rows, sink, progress)
            }
            Format::Text => Err(unknown_format(&self.path)),
        }
    }
}

/// A file whose name says nothing we can read.
pub(crate) fn unknown_format(path: &Path) -> Error {
    Error::new(path.display(), "not a known kind of text file")
        .remedy("give a .txt, .jsonl, .jsonl.gz, .jsonl.zst or .parquet file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_by_name() {
        assert_eq!(Format::of("a/B.TXT"), Some(Format::Text));
        assert_eq!(Format::of("a.jsonl.gz"), Some(Format::Jsonl(Packing::Gzip)));
        assert_eq!(
            Format::of("a.ndjson.zst"),
            Some(Format::Jsonl(Packing::Zstd))
        );
        assert_eq!(Format::of("a.parquet"), Some(Format::Parquet));
        for other in ["a", "a.parquet.gz", "a.txt.zst", "a.csv", ".gz", ""] {
            assert_eq!(Format::of(other), None, "{other}");
        }
    }
}
