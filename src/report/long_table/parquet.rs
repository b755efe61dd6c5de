//! A long table as Parquet. Nothing in the file tells when, where or by which version it was made.

use std::sync::Arc;

use ::parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::WriterProperties,
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::types::Type,
};

use super::{Cell, Column, Kind, LongTable};
use crate::error::{Error, Result};

/// Rows after which a new row group begins.
const GROUP: usize = 1 << 20;
/// Instead of the library's version, which would change the bytes.
const CREATED_BY: &str = "massact";

/// The file's content.
pub(super) fn bytes(table: &LongTable) -> Result<Vec<u8>> {
    write(table).map_err(|error| Error::new(format!("table {}", table.name), error))
}

fn write(table: &LongTable) -> Result<Vec<u8>, ParquetError> {
    let fields: Result<Vec<_>, _> = table
        .columns
        .iter()
        .map(|column| field(column).map(Arc::new))
        .collect();
    let schema = Type::group_type_builder("schema")
        .with_fields(fields?)
        .build()?;
    let properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    for rows in table.rows.chunks(GROUP) {
        let mut group = writer.next_row_group()?;
        for (index, column) in table.columns.iter().enumerate() {
            if let Some(mut to) = group.next_column()? {
                write_column(&mut to, column, rows, index)?;
                to.close()?;
            }
        }
        group.close()?;
    }
    writer.into_inner()
}

fn field(column: &Column) -> Result<Type, ParquetError> {
    let physical = match column.kind {
        Kind::Text => Physical::BYTE_ARRAY,
        Kind::Integer => Physical::INT64,
        Kind::Number => Physical::DOUBLE,
        Kind::Flag => Physical::BOOLEAN,
    };
    let repetition = if column.nullable {
        Repetition::OPTIONAL
    } else {
        Repetition::REQUIRED
    };
    Type::primitive_type_builder(column.name, physical)
        .with_repetition(repetition)
        .with_logical_type((column.kind == Kind::Text).then_some(LogicalType::String))
        .build()
}

fn write_column(
    to: &mut SerializedColumnWriter<'_>,
    column: &Column,
    rows: &[Vec<Cell>],
    index: usize,
) -> Result<(), ParquetError> {
    let cells = || rows.iter().map(|row| row.get(index).unwrap_or(&Cell::Null));
    match column.kind {
        Kind::Text => batch::<ByteArrayType>(to, column, cells(), |cell| match cell {
            Cell::Text(text) => Some(ByteArray::from(&**text)),
            _ => None,
        }),
        Kind::Integer => batch::<Int64Type>(to, column, cells(), |cell| match cell {
            Cell::Integer(value) => Some(*value),
            _ => None,
        }),
        Kind::Number => batch::<DoubleType>(to, column, cells(), |cell| match cell {
            Cell::Number(value) => Some(*value),
            _ => None,
        }),
        Kind::Flag => batch::<BoolType>(to, column, cells(), |cell| match cell {
            Cell::Flag(value) => Some(*value),
            _ => None,
        }),
    }
}

fn batch<'a, T: DataType>(
    to: &mut SerializedColumnWriter<'_>,
    column: &Column,
    cells: impl Iterator<Item = &'a Cell>,
    value: impl Fn(&Cell) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        let value = value(cell);
        if value.is_none() && !(column.nullable && *cell == Cell::Null) {
            let reason = format!("column {}: no {:?} but {cell:?}", column.name, column.kind);
            return Err(ParquetError::General(reason));
        }
        levels.push(i16::from(value.is_some()));
        values.extend(value);
    }
    let levels = column.nullable.then_some(&levels[..]);
    to.typed::<T>().write_batch(&values, levels, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ::parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };

    use super::*;

    const COLUMNS: &[Column] = &[
        Column::full("name", Kind::Text),
        Column::nullable("token", Kind::Text),
        Column::full("layer", Kind::Integer),
        Column::nullable("value", Kind::Number),
        Column::full("massive", Kind::Flag),
    ];

    fn read(bytes: Vec<u8>) -> Vec<Vec<Field>> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        let reader = SerializedFileReader::new(file).expect("Parquet");
        assert_eq!(
            reader.metadata().file_metadata().created_by(),
            Some(CREATED_BY)
        );
        let rows = reader.get_row_iter(None).expect("rows");
        rows.map(|row| {
            let row = row.expect("a row");
            row.get_column_iter()
                .map(|(_, field)| field.clone())
                .collect()
        })
        .collect()
    }

    #[test]
    fn rows_come_back() {
        let mut table = LongTable::new("some", COLUMNS);
        table.push([
            "a".into(),
            "".into(),
            3usize.into(),
            0.1.into(),
            true.into(),
        ]);
        table.push([
            "é".into(),
            Cell::Null,
            0usize.into(),
            Cell::Null,
            false.into(),
        ]);
        let text = |text: &str| Field::Str(text.to_owned());
        let long = Field::Long;
        assert_eq!(
            read(table.to_parquet().expect("bytes")),
            [
                [
                    text("a"),
                    text(""),
                    long(3),
                    Field::Double(0.1),
                    Field::Bool(true)
                ],
                [
                    text("é"),
                    Field::Null,
                    long(0),
                    Field::Null,
                    Field::Bool(false)
                ],
            ]
        );
        assert_eq!(table.to_parquet(), table.to_parquet());
        assert!(read(LongTable::new("none", COLUMNS).to_parquet().expect("bytes")).is_empty());
    }

    #[test]
    fn a_cell_of_another_kind_is_refused() {
        for row in [
            [
                "a".into(),
                Cell::Null,
                3usize.into(),
                true.into(),
                true.into(),
            ],
            [
                Cell::Null,
                Cell::Null,
                3usize.into(),
                0.1.into(),
                true.into(),
            ],
        ] {
            let mut table = LongTable::new("some", COLUMNS);
            table.push(row);
            assert!(table.to_parquet().is_err());
        }
    }
}
