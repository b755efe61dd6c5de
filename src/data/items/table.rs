//! The rows of a file as JSON objects, whatever its format.

use std::path::Path;

use ::parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row},
};
use serde_json::{Map, Value};

use super::super::{
    jsonl, parquet,
    rows::{Format, unknown_format},
    watched,
};
use crate::{
    error::{Error, Result},
    interrupt,
    progress::Progress,
};

/// Receives the number of a row, from 1, and its fields; says whether it wants more.
pub(super) type Sink<'a> = dyn FnMut(u64, &Map<String, Value>) -> Result<bool> + 'a;

/// Hands the rows to `sink` in order.
pub(super) fn read(path: &Path, sink: &mut Sink<'_>, progress: Progress) -> Result<()> {
    match Format::of(&path.to_string_lossy()) {
        Some(Format::Jsonl(packing)) => {
            jsonl::for_each_line(path, packing, progress, &mut |line, bytes| {
                let bad = |reason: &dyn std::fmt::Display| {
                    Error::new(format!("{}: row {line}", path.display()), reason)
                        .remedy("each line must be a JSON object with the fields of one item")
                };
                match serde_json::from_slice(bytes) {
                    Ok(Value::Object(fields)) => sink(line, &fields),
                    Ok(_) => Err(bad(&"not an object")),
                    Err(error) => Err(bad(&format!("not JSON: {error}"))),
                }
            })
        }
        Some(Format::Parquet) => parquet::guarded(path, || of_parquet(path, sink)),
        Some(Format::Text) | None => Err(unknown_format(path)),
    }
}

fn of_parquet(path: &Path, sink: &mut Sink<'_>) -> Result<()> {
    let damaged = |error: &dyn std::fmt::Display| parquet::damaged(path, error);
    let file = watched::open(path)?;
    let reader = SerializedFileReader::new(file).map_err(|error| damaged(&error))?;
    let groups = reader.metadata().row_groups().iter();
    let mut columns = groups.flat_map(|group| group.columns());
    if let Some(codec) = columns.find_map(|column| parquet::unread(column.compression())) {
        return Err(Error::new(
            path.display(),
            format!("packed with {codec}, which massact does not unpack"),
        )
        .remedy("write the file with zstd, snappy, gzip or no compression"));
    }
    let rows = reader.get_row_iter(None).map_err(|error| damaged(&error))?;
    for (index, row) in rows.enumerate() {
        interrupt::check()?;
        let row = row.map_err(|error| damaged(&error))?;
        if !sink(index as u64 + 1, &fields(&row))? {
            break;
        }
    }
    Ok(())
}

fn fields(row: &Row) -> Map<String, Value> {
    row.get_column_iter()
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

/// Types that no item has become text, which says what they are.
fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => (*flag).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into(),
        Field::Group(row) => Value::Object(fields(row)),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        other => other.to_string().into(),
    }
}
