//! Parquet: only the text column is read, only the row groups that hold a wanted row.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::Compression;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::ByteArrayType;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};

use super::row_set::{Rows, Sink};
use super::watched;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::lfs;
use crate::panics;
use crate::progress::Progress;

/// Rows decoded at a time.
const BATCH: usize = 256;

/// The number of rows, from the file's own directory.
pub(crate) fn count(path: &Path, column: &str) -> Result<u64> {
    guarded(path, || {
        let table = Table::open(path, column)?;
        (0..table.reader.num_row_groups()).try_fold(0u64, |total, group| {
            Ok(total.saturating_add(table.group_rows(group)?))
        })
    })
}

/// Hands the wanted rows to `sink`.
pub(crate) fn read(
    path: &Path,
    column: &str,
    rows: Rows<'_>,
    sink: &mut Sink<'_>,
    progress: Progress,
) -> Result<()> {
    guarded(path, || {
        let table = Table::open(path, column)?;
        let groups = table.reader.num_row_groups();
        let bar = progress.steps("reading", groups as u64);
        let mut first = 0u64;
        for group in 0..groups {
            interrupt::check()?;
            let count = table.group_rows(group)?;
            let end = first.saturating_add(count);
            if first >= rows.end() {
                break;
            }
            if holds_any(rows, first, end) {
                table.read_group(group, first, end, rows, sink)?;
            }
            first = end;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    })
}

/// Whether a wanted row lies in `first..end`.
fn holds_any(rows: Rows<'_>, first: u64, end: u64) -> bool {
    match rows {
        Rows::First(count) => first < count,
        Rows::Set(set) => {
            let from = set.partition_point(|row| *row < first);
            set.get(from).is_some_and(|row| *row < end)
        }
    }
}

struct Table<'a> {
    path: &'a Path,
    reader: SerializedFileReader<File>,
    /// The column's place among the leaves.
    column: usize,
    name: &'a str,
    /// Whether rows can be null.
    nullable: bool,
}

impl<'a> Table<'a> {
    fn open(path: &'a Path, name: &'a str) -> Result<Self> {
        let file = watched::open(path)?;
        let reader = SerializedFileReader::new(file).map_err(|error| damaged(path, &error))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let leaves: Vec<String> = schema
            .columns()
            .iter()
            .map(|leaf| leaf.path().string())
            .collect();
        let Some(column) = leaves.iter().position(|leaf| leaf == name) else {
            return Err(Error::new(
                path.display(),
                format!("no column `{name}`; it has {}", listed(&leaves)),
            )
            .remedy(format!("rename the column that holds the text to `{name}`")));
        };
        let leaf = schema.column(column);
        if leaf.max_rep_level() != 0 || leaf.physical_type() != ::parquet::basic::Type::BYTE_ARRAY {
            return Err(Error::new(
                path.display(),
                format!(
                    "column `{name}` holds {} values, not text",
                    leaf.physical_type()
                ),
            )
            .remedy("write the texts as a string column"));
        }
        let nullable = leaf.max_def_level() != 0;
        let groups = reader.metadata().row_groups().iter();
        let mut codecs = groups.map(|group| group.column(column).compression());
        if let Some(codec) = codecs.find_map(unread) {
            return Err(Error::new(
                path.display(),
                format!("column `{name}` is packed with {codec}, which massact does not unpack"),
            )
            .remedy("write the file with zstd, snappy, gzip or no compression"));
        }
        Ok(Self {
            path,
            reader,
            column,
            name,
            nullable,
        })
    }

    fn group_rows(&self, group: usize) -> Result<u64> {
        u64::try_from(self.reader.metadata().row_group(group).num_rows())
            .map_err(|_| damaged(self.path, &"a row group with a negative number of rows"))
    }

    fn read_group(
        &self,
        group: usize,
        first: u64,
        end: u64,
        rows: Rows<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let mut reader = self
            .reader
            .get_row_group(group)
            .and_then(|group: Box<dyn RowGroupReader + '_>| group.get_column_reader(self.column))
            .map_err(|error| damaged(self.path, &error))
            .and_then(|reader| match reader {
                ColumnReader::ByteArrayColumnReader(reader) => Ok(reader),
                _ => Err(damaged(self.path, &"a column that differs from the schema")),
            })?;
        let mut row = first;
        let last = end.min(rows.end());
        while row < last {
            interrupt::check()?;
            for text in self.batch(&mut reader, row)? {
                if rows.wants(row) && row < last {
                    let text = String::from_utf8(text).map_err(|error| {
                        Error::new(
                            format!("{}: row {}", self.path.display(), row + 1),
                            format!("column `{}`: {}", self.name, error.utf8_error()),
                        )
                        .remedy("write the texts as UTF-8")
                    })?;
                    sink(row, text)?;
                }
                row += 1;
            }
        }
        Ok(())
    }

    /// The next rows, of which the first is number `row`; at least one.
    fn batch(
        &self,
        reader: &mut ColumnReaderImpl<ByteArrayType>,
        row: u64,
    ) -> Result<Vec<Vec<u8>>> {
        let mut values = Vec::new();
        let mut levels = Vec::new();
        let (records, _, _) = reader
            .read_records(
                BATCH,
                self.nullable.then_some(&mut levels),
                None,
                &mut values,
            )
            .map_err(|error| {
                Error::new(
                    format!("{}: from row {}", self.path.display(), row + 1),
                    format!("cannot be decoded: {error}"),
                )
                .remedy("the file may be damaged or cut short; get it again")
            })?;
        // Values hold only the rows that are not null.
        if values.len() < records {
            let null = levels.iter().position(|level| *level == 0).unwrap_or(0) as u64;
            return Err(Error::new(
                format!("{}: row {}", self.path.display(), row + null + 1),
                format!("column `{}` is null", self.name),
            )
            .remedy("drop the rows without text"));
        }
        if records == 0 {
            return Err(damaged(
                self.path,
                &format!("only {row} rows, fewer than its directory says"),
            ));
        }
        values
            .iter()
            .map(|value| Ok(value.data().to_vec()))
            .collect()
    }
}

/// The name of a codec that is not unpacked here.
pub(super) fn unread(codec: Compression) -> Option<&'static str> {
    match codec {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::ZSTD(_) => None,
        Compression::LZO => Some("LZO"),
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZ4 => Some("LZ4"),
        Compression::LZ4_RAW => Some("LZ4 (raw)"),
    }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 8 {
        text.push_str(", ...");
    }
    text
}

pub(super) fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    if let Err(pointer) = lfs::refuse_pointer_at(path) {
        return pointer;
    }
    Error::new(
        path.display(),
        format!("not a readable Parquet file: {reason}"),
    )
    .remedy("the file may be damaged or cut short; get it again")
}

/// The decoder is not ours and indexes by what the file says: a panic in it is a damaged file too.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(work).unwrap_or_else(|| Err(damaged(path, &"its pages contradict each other")))
}
