//! JSON lines: one object per line, the text in one of its fields. Lines of only white space are
//! no documents.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::limits::{LONGEST_ROW, too_long_row};
use super::row_set::{Packing, Rows, Sink};
use super::watched::{CHUNK, Watched, read_error};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::progress::Progress;

/// Counts the documents and checks that each is one.
pub(crate) fn count(
    path: &Path,
    packing: Packing,
    column: &str,
    progress: Progress,
) -> Result<u64> {
    let mut documents = 0;
    for_each_line(path, packing, progress, &mut |line, bytes| {
        parse(path, line, bytes, column)?;
        documents += 1;
        Ok(true)
    })?;
    Ok(documents)
}

/// Hands the wanted documents to `sink`.
pub(crate) fn read(
    path: &Path,
    packing: Packing,
    column: &str,
    rows: Rows<'_>,
    sink: &mut Sink<'_>,
    progress: Progress,
) -> Result<()> {
    let mut row = 0;
    let end = rows.end();
    if end == 0 {
        return Ok(());
    }
    for_each_line(path, packing, progress, &mut |line, bytes| {
        if rows.wants(row) {
            sink(row, parse(path, line, bytes, column)?)?;
        }
        row += 1;
        Ok(row < end)
    })
}

/// Calls `each` with number (from 1) and bytes of every line that is not blank, until it says no.
pub(super) fn for_each_line(
    path: &Path,
    packing: Packing,
    progress: Progress,
    each: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
) -> Result<()> {
    let mut reader = unpack(path, packing, progress)?;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        if number % 256 == 0 {
            interrupt::check()?;
        }
        line.clear();
        let failed = |error: io::Error, number: u64| {
            read_error(format!("{}: row {number}", path.display()), &error)
        };
        let count = (&mut reader)
            .take(LONGEST_ROW as u64 + 1)
            .read_until(b'\n', &mut line)
            .map_err(|error| failed(error, number))?;
        if count == 0 {
            return Ok(());
        }
        if count > LONGEST_ROW {
            let row = format!("{}: row {number}", path.display());
            return Err(too_long_row(&row));
        }
        // A compressed file may hold any number of empty lines.
        if line == b"\n" {
            loop {
                interrupt::check()?;
                let next = reader.fill_buf().map_err(|error| failed(error, number))?;
                let empty = next.iter().take_while(|byte| **byte == b'\n').count();
                let all = empty == next.len();
                reader.consume(empty);
                number += empty as u64;
                if !all || empty == 0 {
                    break;
                }
            }
        }
        let mut bytes = line.trim_ascii();
        if number == 1 {
            // A byte order mark, as some editors write.
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        if !bytes.is_empty() && !each(number, bytes)? {
            return Ok(());
        }
    }
}

fn unpack(path: &Path, packing: Packing, progress: Progress) -> Result<Box<dyn BufRead>> {
    crate::lfs::refuse_pointer_at(path)?;
    let raw = BufReader::with_capacity(CHUNK, Watched::open(path, "reading", progress)?);
    Ok(match packing {
        Packing::Plain => Box::new(raw),
        Packing::Gzip => Box::new(BufReader::with_capacity(
            CHUNK,
            flate2::bufread::MultiGzDecoder::new(raw),
        )),
        Packing::Zstd => Box::new(BufReader::with_capacity(
            CHUNK,
            zstd::stream::read::Decoder::with_buffer(raw)
                .map_err(|error: io::Error| read_error(path.display(), &error))?,
        )),
    })
}

fn parse(path: &Path, line: u64, bytes: &[u8], column: &str) -> Result<String> {
    let bad = |reason: &dyn fmt::Display| {
        Error::new(format!("{}: row {line}", path.display()), reason).remedy(format!(
            "each line must be a JSON object with the text in its field `{column}`"
        ))
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        bad(&format!(
            "not UTF-8 (byte {} of the line)",
            error.valid_up_to() + 1
        ))
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = Field(column)
        .deserialize(&mut deserializer)
        .and_then(|found| deserializer.end().map(|()| found))
        .map_err(|error| bad(&format!("not a document: {error}")))?;
    match found {
        Found::Text(text) => Ok(text),
        Found::Others(fields) if fields.is_empty() => Err(bad(&"the object is empty")),
        Found::Others(fields) => Err(bad(&format!(
            "no field `{column}`; it has {}",
            fields.join(", ")
        ))),
    }
}

enum Found {
    Text(String),
    /// The fields that are there instead, at most a few.
    Others(Vec<String>),
}

/// Reads one field of an object and skips the others without building them.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Found;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut text = None;
        let mut others = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                let value: String = map
                    .next_value()
                    .map_err(|error| de::Error::custom(format!("field `{key}`: {error}")))?;
                text = Some(value);
            } else {
                map.next_value::<IgnoredAny>()?;
                if others.len() < 8 {
                    others.push(key);
                }
            }
        }
        Ok(text.map_or(Found::Others(others), Found::Text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(line: &str) -> Result<String> {
        parse(Path::new("f.jsonl"), 3, line.as_bytes(), "text")
    }

    #[test]
    fn one_field_is_taken() {
        let line = r#"{"meta": {"a": [1, null]}, "text": "x\ny\u00e9", "n": 1.5}"#;
        assert_eq!(text(line).expect("a document"), "x\nyé");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_row() {
        for (line, reason) in [
            (
                r#"{"txt": "a", "id": 1}"#,
                "f.jsonl: row 3: no field `text`; it has txt, id;",
            ),
            (
                r#"{"text": null}"#,
                "row 3: not a document: field `text`: invalid type: null",
            ),
            (
                r#"{"text": "a"} {}"#,
                "row 3: not a document: trailing characters",
            ),
            (r#"["a"]"#, "row 3: not a document: invalid type: sequence"),
            (r#"{"text": "a"#, "row 3: not a document: field `text`: EOF"),
            ("{}", "row 3: the object is empty"),
        ] {
            let error = text(line).expect_err(line).to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = parse(Path::new("f"), 1, b"{\"text\": \"\xff\"}", "text").expect_err("bytes");
        assert!(
            error
                .to_string()
                .contains("f: row 1: not UTF-8 (byte 11 of the line)"),
            "{error}"
        );
    }

    #[test]
    fn empty_lines_are_no_documents_but_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f.jsonl");
        let empty = "\n".repeat(3 * CHUNK);
        let text = format!("\n{{\"text\": \"a\"}}\n{empty} \n\n{{\"text\": \"b\"}}\n{{}}");
        std::fs::write(&path, text).expect("written");
        let mut found = Vec::new();
        let mut sink = |row: u64, text: String| {
            found.push((row, text));
            Ok(())
        };
        let progress = Progress::silent();
        let read = read(
            &path,
            Packing::Plain,
            "text",
            Rows::ALL,
            &mut sink,
            progress,
        );
        let said = read.expect_err("the last is none").to_string();
        let last = 2 + 3 * CHUNK + 4;
        assert!(
            said.contains(&format!("row {last}: the object is empty")),
            "{said}"
        );
        assert_eq!(found, [(0, "a".to_owned()), (1, "b".to_owned())]);
    }

    #[test]
    fn a_row_has_an_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f.jsonl");
        let file = std::fs::File::create(&path).expect("made");
        file.set_len(LONGEST_ROW as u64 + 1).expect("longer");
        let refused = count(&path, Packing::Plain, "text", Progress::silent());
        let said = refused.expect_err("too long").to_string();
        assert!(said.contains("row 1: it is longer than 128 MiB"), "{said}");
    }

    #[test]
    fn deep_nesting_does_not_exhaust_the_stack() {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        assert!(text(&format!("{{\"x\": {open}")).is_err());
        let line = format!("{{\"x\": {open}{close}, \"text\": \"a\"}}");
        assert_eq!(text(&line).expect("a document"), "a");
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(Path::new("f"), 1, &bytes, "text");
        }

        #[test]
        fn any_text_comes_back(wanted in ".{0,40}", before in ".{0,10}") {
            prop_assume!(before != "text");
            let mut object = serde_json::Map::new();
            object.insert(before, serde_json::Value::Null);
            object.insert("text".into(), wanted.clone().into());
            let line = serde_json::to_string(&object).expect("serialisable");
            prop_assert_eq!(text(&line).expect("a document"), wanted);
        }
    }
}
