//! Tables of typed columns for other programs: Parquet and CSV with the same content, byte for byte
//! the same for the same rows.

mod parquet;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{atomic::write_into, csv};
use crate::error::Result;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// 64 bits, signed.
    Integer,
    /// Double precision.
    Number,
    /// True or false.
    Flag,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether a row may have no value in it.
    pub nullable: bool,
}

impl Column {
    /// A column with a value in every row.
    pub const fn full(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            nullable: false,
        }
    }

    /// A column with a value in some rows.
    pub const fn nullable(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            nullable: true,
        }
    }
}

/// A row's value in a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// None.
    Null,
    /// Of [`Kind::Text`]. Shared, because the rows of a run repeat its settings.
    Text(Arc<str>),
    /// Of [`Kind::Integer`].
    Integer(i64),
    /// Of [`Kind::Number`].
    Number(f64),
    /// Of [`Kind::Flag`].
    Flag(bool),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.as_str().into())
    }
}

impl From<&Arc<str>> for Cell {
    fn from(text: &Arc<str>) -> Self {
        Self::Text(Arc::clone(text))
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Cell {
    /// As CSV shows it; numbers with the digits that give the same number again.
    fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.to_string()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Number(value) => Some(format!("{value:?}")),
            Self::Flag(value) => Some(value.to_string()),
        }
    }
}

/// A table: a name, columns, rows.
#[derive(Debug, Clone, PartialEq)]
pub struct LongTable {
    /// Names its files.
    pub name: &'static str,
    /// The columns.
    pub columns: &'static [Column],
    /// The rows, each with a cell a column.
    pub rows: Vec<Vec<Cell>>,
}

impl LongTable {
    /// A table without rows.
    pub fn new(name: &'static str, columns: &'static [Column]) -> Self {
        Self {
            name,
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: impl IntoIterator<Item = Cell>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The table as CSV: a header, then the rows. A cell without a value has no characters.
    pub fn to_csv(&self) -> String {
        let mut text = csv::line(self.columns.iter().map(|column| column.name));
        for row in &self.rows {
            text.push_str(&csv::line_of_some(row.iter().map(Cell::text)));
        }
        text
    }

    /// The table as a Parquet file.
    pub fn to_parquet(&self) -> Result<Vec<u8>> {
        parquet::bytes(self)
    }

    /// Writes `<name>.parquet` and `<name>.csv` into a folder that the argument `flag` names, each
    /// whole or not at all.
    pub fn write(&self, folder: &Path, flag: &'static str) -> Result<Vec<PathBuf>> {
        let place = |end: &str| folder.join(format!("{}.{end}", self.name));
        Ok(vec![
            write_into(&place("parquet"), &self.to_parquet()?, flag)?,
            write_into(&place("csv"), self.to_csv().as_bytes(), flag)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::full("name", Kind::Text),
        Column::nullable("token", Kind::Text),
        Column::full("layer", Kind::Integer),
        Column::nullable("value", Kind::Number),
        Column::full("massive", Kind::Flag),
    ];

    fn table() -> LongTable {
        let mut table = LongTable::new("some", COLUMNS);
        table.push([
            "a,b".into(),
            "".into(),
            3usize.into(),
            0.1.into(),
            true.into(),
        ]);
        table.push([
            "c".into(),
            Cell::Null,
            0usize.into(),
            None::<f64>.into(),
            false.into(),
        ]);
        table.push([
            "é\n".into(),
            "\"".into(),
            7u64.into(),
            1e300.into(),
            true.into(),
        ]);
        table
    }

    #[test]
    fn csv_tells_null_from_empty() {
        assert_eq!(
            table().to_csv(),
            "name,token,layer,value,massive\r\n\
             \"a,b\",\"\",3,0.1,true\r\n\
             c,,0,,false\r\n\
             \"é\n\",\"\"\"\",7,1e300,true\r\n"
        );
    }

    #[test]
    fn writes_both_files() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("new/merged");
        let paths = table().write(&folder, "folder").expect("written");
        assert_eq!(
            paths,
            [folder.join("some.parquet"), folder.join("some.csv")]
        );
        assert!(paths.iter().all(|path| path.is_file()));
        // A file in the way is named.
        std::fs::write(place.path().join("file"), "x").expect("written");
        let error = table()
            .write(&place.path().join("file/x"), "folder")
            .expect_err("blocked");
        assert!(
            error
                .to_string()
                .contains("remove it or choose another folder"),
            "{error}"
        );
    }
}
