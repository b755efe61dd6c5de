//! Texts from local files and from a hub on the loopback interface.

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use loopback::{COMMIT, Content, Server};
use massact::data::{JoinedText, Role, Wanted, datasets, load, read_text_file};
use massact::hub::{Hub, Settings};
use massact::progress::Progress;
use massact::{Error, Result};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn file(folder: &TempDir, name: &str, body: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, body).expect("written");
    path
}

fn no_hub() -> Result<Hub> {
    Err(Error::new("hub", "a local source must not ask for it"))
}

/// Texts in the source's own field.
fn of(role: Role, seed: u64) -> Wanted<'static> {
    Wanted {
        field: None,
        role,
        seed,
    }
}

fn local(path: &Path, role: Role, seed: u64) -> Result<JoinedText> {
    wanted(path, of(role, seed))
}

fn wanted(path: &Path, wanted: Wanted<'_>) -> Result<JoinedText> {
    let path = path.to_str().expect("UTF-8");
    load(path, wanted, &no_hub, Progress::silent())
}

#[test]
fn any_field_or_column_may_hold_the_text() {
    let folder = folder();
    let body = Wanted {
        field: Some("body"),
        ..of(Role::Evaluation, 0)
    };
    let rows = r#"{"text": 7, "body": "one"}
{"body": "two"}
"#;
    let path = file(&folder, "a.jsonl", rows);
    let joined = wanted(&path, body).expect("read");
    assert_eq!(joined.text, "one\n\ntwo");
    assert_eq!(
        joined.source.name,
        format!("{}, field body", path.display())
    );
    let schema = "message m { required binary body (UTF8); required binary other (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).expect("opened");
    let mut group = writer.next_row_group().expect("a group");
    for texts in [["three", "four"], ["x", "y"]] {
        let mut column = group.next_column().expect("opened").expect("a column");
        let texts = texts.map(|text| ByteArray::from(text.as_bytes().to_vec()));
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&texts, None, None).expect("written");
        column.close().expect("closed");
    }
    group.close().expect("closed");
    writer.close().expect("closed");
    let table = file(&folder, "a.parquet", bytes);
    assert_eq!(wanted(&table, body).expect("read").text, "three\n\nfour");
    let error = local(&table, Role::Corpus, 0).expect_err("no text");
    assert!(error.to_string().contains("it has body, other"), "{error}");
    let text = file(&folder, "a.txt", "text");
    for whole in [text.as_path(), Path::new("builtin")] {
        let error = wanted(whole, body).expect_err("one text");
        assert!(error.to_string().contains("without fields"), "{error}");
    }
}

fn lines(texts: &[&str]) -> String {
    texts
        .iter()
        .map(|text| serde_json::json!({ "id": 1, "text": text }).to_string() + "\n")
        .collect()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(body).expect("in memory");
    writer.finish().expect("in memory")
}

/// A table with a number and a text per row, `group` rows to a row group.
fn table(texts: &[Option<&[u8]>], group: usize, compression: Compression) -> Vec<u8> {
    let schema = "message m { required int64 id; optional binary text (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).expect("opened");
    for rows in texts.chunks(group) {
        let mut rows_writer = writer.next_row_group().expect("a group");
        let mut column = rows_writer
            .next_column()
            .expect("a column")
            .expect("the first");
        let ids: Vec<i64> = (0..rows.len() as i64).collect();
        column
            .typed::<Int64Type>()
            .write_batch(&ids, None, None)
            .expect("written");
        column.close().expect("closed");
        let mut column = rows_writer
            .next_column()
            .expect("a column")
            .expect("the second");
        let values: Vec<ByteArray> = rows
            .iter()
            .flatten()
            .map(|text| ByteArray::from(text.to_vec()))
            .collect();
        let levels: Vec<i16> = rows.iter().map(|text| i16::from(text.is_some())).collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, Some(&levels), None)
            .expect("written");
        column.close().expect("closed");
        rows_writer.close().expect("closed");
    }
    writer.close().expect("closed");
    bytes
}

fn some<'a>(texts: &'a [&'a str]) -> Vec<Option<&'a [u8]>> {
    texts.iter().map(|text| Some(text.as_bytes())).collect()
}

#[test]
fn the_builtin_text_needs_nothing() {
    let joined = load("builtin", of(Role::Corpus, 0), &no_hub, Progress::silent()).expect("there");
    assert!(joined.text.len() > 100);
    assert_eq!(joined.source.name, "builtin");
}

#[test]
fn a_text_file_is_used_whole() {
    let folder = folder();
    let path = file(&folder, "a.txt", "\u{feff} one\r\n\ntwo \n");
    let joined = read_text_file(&path).expect("read");
    assert_eq!(joined.text, " one\r\n\ntwo \n");
    assert_eq!(joined.source.documents, 1);
    assert_eq!(
        joined.source.files[0].blake3,
        blake3::hash(&std::fs::read(&path).expect("there"))
            .to_hex()
            .as_str()
    );
    assert_eq!(
        local(&path, Role::Corpus, 7).expect("read").text,
        joined.text
    );
}

#[test]
fn text_files_that_cannot_be_used() {
    let folder = folder();
    for (body, reason) in [
        (&b""[..], "no text in it"),
        (b" \n\t", "no text in it"),
        (b"one\ntw\xffo", "line 2: not UTF-8 (byte 7 of the text)"),
    ] {
        let error = read_text_file(&file(&folder, "a.txt", body))
            .expect_err("refused")
            .to_string();
        assert!(error.contains("a.txt") && error.contains(reason), "{error}");
    }
    let error = read_text_file(&folder.path().join("none.txt"))
        .expect_err("refused")
        .to_string();
    assert!(error.contains("none.txt: cannot be opened"), "{error}");
    assert!(read_text_file(folder.path()).is_err(), "a directory");
    let error = local(folder.path(), Role::Corpus, 0)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("is a directory"), "{error}");
    let error = local(&file(&folder, "a.csv", "a,b"), Role::Corpus, 0)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("a.csv: not a known kind"), "{error}");
    let error = local(&folder.path().join("none.jsonl"), Role::Corpus, 0)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("no such file"), "{error}");
    let error =
        load("imdb", of(Role::Corpus, 0), &no_hub, Progress::silent()).expect_err("refused");
    assert_eq!(error.exit_code(), 2);
    assert!(
        error
            .to_string()
            .contains("redpajama, wikitext, c4, pg19 or builtin"),
        "{error}"
    );
}

#[test]
fn every_packing_gives_the_same_documents() {
    let folder = folder();
    let texts = ["first\ndocument", "second", "", "über"];
    let plain = lines(&texts);
    // Two members, as parallel compressors write, and blank lines, which are no documents.
    let (head, tail) = plain.split_at(plain.find('\n').expect("a line") + 1);
    let members = [gzip(head.as_bytes()), gzip(b"\n \n"), gzip(tail.as_bytes())].concat();
    let mut paths = vec![
        file(&folder, "a.jsonl", &plain),
        file(
            &folder,
            "b.jsonl",
            format!("\u{feff}{}", plain.replace('\n', "\r\n").trim_end()),
        ),
        file(&folder, "c.ndjson.gz", members),
        file(
            &folder,
            "d.jsonl.zst",
            zstd::encode_all(plain.as_bytes(), 3).expect("packed"),
        ),
    ];
    for (name, compression) in [
        ("e.parquet", Compression::UNCOMPRESSED),
        ("f.parquet", Compression::SNAPPY),
        ("g.parquet", Compression::ZSTD(ZstdLevel::default())),
        ("h.parquet", Compression::GZIP(GzipLevel::default())),
    ] {
        paths.push(file(&folder, name, table(&some(&texts), 3, compression)));
    }
    for path in paths {
        let joined = local(&path, Role::Evaluation, 0).expect("read");
        assert_eq!(
            joined.text,
            "first\ndocument\n\nsecond\n\n\n\nüber",
            "{}",
            path.display()
        );
        assert_eq!(joined.source.documents, 4);
        assert_eq!(
            joined.source.note.as_deref(),
            Some("1 of 4 documents are empty")
        );
    }
}

#[test]
fn the_corpus_draws_500_documents_by_seed() {
    let folder = folder();
    let texts: Vec<String> = (0..1200).map(|i| format!("document {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let jsonl = file(&folder, "a.jsonl", lines(&texts));
    let parquet = file(
        &folder,
        "a.parquet",
        table(&some(&texts), 100, Compression::SNAPPY),
    );
    let drawn = local(&jsonl, Role::Corpus, 42).expect("drawn");
    let documents: Vec<&str> = drawn.text.split("\n\n").collect();
    assert_eq!(documents.len(), 500);
    // numpy.random.seed(42); numpy.random.choice(1200, 500, replace=False)
    assert_eq!(
        (&documents[..4], documents[499]),
        (&GOLDEN_FIRST.map(|i| texts[i])[..], texts[GOLDEN_LAST])
    );
    assert_eq!(
        drawn.source.note.as_deref(),
        Some("500 of 1200 documents at random, seed 42")
    );
    assert_eq!(
        local(&parquet, Role::Corpus, 42).expect("drawn").text,
        drawn.text
    );
    assert_eq!(
        local(&jsonl, Role::Corpus, 42).expect("drawn").text,
        drawn.text
    );
    assert_ne!(
        local(&jsonl, Role::Corpus, 43).expect("drawn").text,
        drawn.text
    );
}

const GOLDEN_FIRST: [usize; 4] = [1178, 865, 101, 439];
const GOLDEN_LAST: usize = 1075;
const GOLDEN_1100: [usize; 4] = [328, 688, 413, 788];

#[test]
fn a_small_corpus_is_taken_whole_in_drawn_order() {
    let folder = folder();
    let path = file(&folder, "a.jsonl", lines(&["a", "b", "c"]));
    let drawn = local(&path, Role::Corpus, 1).expect("drawn");
    let mut documents: Vec<&str> = drawn.text.split("\n\n").collect();
    documents.sort_unstable();
    assert_eq!(documents, ["a", "b", "c"]);
}

#[test]
fn bad_rows_are_named() {
    let folder = folder();
    let good = lines(&["a"]);
    for role in [Role::Corpus, Role::Evaluation] {
        for (name, body, reason) in [
            (
                "a.jsonl",
                format!("{good}{{\"txt\": 1}}\n").into_bytes(),
                "row 2: no field `text`; it has txt",
            ),
            (
                "a.jsonl",
                format!("{good}\n{{\"text\": \"a").into_bytes(),
                "row 3: not a document",
            ),
            (
                "a.jsonl",
                [good.as_bytes(), b"{\"text\": \"\xc3\"}"].concat(),
                "row 2: not UTF-8",
            ),
            ("a.jsonl", Vec::new(), "no documents in it"),
            (
                "a.jsonl",
                lines(&["", " "]).into_bytes(),
                "all its documents are empty",
            ),
            (
                "a.jsonl.gz",
                good.clone().into_bytes(),
                "row 1: cannot be read",
            ),
            (
                "a.jsonl.zst",
                good.clone().into_bytes(),
                "row 1: cannot be read",
            ),
            ("a.parquet", b"PAR1".to_vec(), "not a readable Parquet file"),
            ("a.parquet", Vec::new(), "not a readable Parquet file"),
            (
                "a.parquet",
                table(&[Some(b"a"), None], 9, Compression::SNAPPY),
                "row 2: column `text` is null",
            ),
            (
                "a.parquet",
                table(&[Some(b"a"), Some(b"\xff")], 1, Compression::SNAPPY),
                "row 2: column `text`: invalid utf-8",
            ),
            (
                "a.parquet",
                table(&[], 1, Compression::SNAPPY),
                "no documents in it",
            ),
        ] {
            let error = local(&file(&folder, name, body), role, 0)
                .expect_err(reason)
                .to_string();
            assert!(error.contains(name) && error.contains(reason), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}

/// A whole file in a codec that is not unpacked here is not called damaged.
#[test]
fn codecs_of_parquet_are_named() {
    let folder = folder();
    let packed = table(&some(&["one", "two"]), 1000, Compression::SNAPPY);
    // The codec follows the column's path in the file's directory; 2 is Snappy's number, 1, as
    // Thrift writes it.
    let before = b"\x19\x18\x04text\x15";
    let at = packed
        .windows(before.len())
        .rposition(|bytes| bytes == before)
        .expect("the column's description")
        + before.len();
    assert_eq!(packed[at], 2);
    for (number, name) in [(3, "LZO"), (4, "Brotli"), (5, "LZ4"), (7, "LZ4 (raw)")] {
        let mut body = packed.clone();
        body[at] = number * 2;
        for role in [Role::Evaluation, Role::Corpus] {
            let error = local(&file(&folder, "a.parquet", &body), role, 0).expect_err(name);
            let error = error.to_string();
            assert!(
                error.contains(&format!("packed with {name},")) && error.contains("zstd"),
                "{error}"
            );
            assert!(!error.contains("damaged"), "{error}");
        }
    }
}

#[test]
fn files_cut_short_are_errors() {
    let folder = folder();
    let texts: Vec<String> = (0..3000).map(|i| format!("{:x}", i * i * 7919)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let plain = lines(&texts);
    // What git-lfs leaves of a file that it has not fetched is called so.
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for name in ["a.parquet", "a.txt"] {
        let path = file(&folder, name, pointer);
        let error = if name == "a.txt" {
            massact::data::read_text_file(&path)
        } else {
            local(&path, Role::Evaluation, 0)
        };
        let error = error.expect_err(name).to_string();
        assert!(
            error.contains("git-lfs pointer") && error.contains("git lfs pull"),
            "{error}"
        );
    }
    for (name, body) in [
        ("a.jsonl.gz", gzip(plain.as_bytes())),
        (
            "a.jsonl.zst",
            zstd::encode_all(plain.as_bytes(), 3).expect("packed"),
        ),
        ("a.parquet", table(&some(&texts), 1000, Compression::SNAPPY)),
    ] {
        for keep in [body.len() - 1, body.len() / 2, 5] {
            let error = local(&file(&folder, name, &body[..keep]), Role::Evaluation, 0)
                .expect_err(name)
                .to_string();
            assert!(
                error.contains(name) && error.contains("get it again"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_table_without_a_text_column() {
    let folder = folder();
    let schema = "message m { required int64 text; required binary body (UTF8); }";
    for (schema, reason) in [
        (schema, "column `text` holds INT64 values"),
        (
            "message m { required binary a (UTF8); required int32 b; }",
            "no column `text`; it has a, b",
        ),
        (
            "message m { optional group text (LIST) { repeated group list { optional binary element (UTF8); } } }",
            "no column `text`; it has text.list.element",
        ),
        ("message m { repeated binary text (UTF8); }", "not text"),
    ] {
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let mut bytes = Vec::new();
        let writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).expect("opened");
        writer.close().expect("closed");
        let error = local(&file(&folder, "a.parquet", bytes), Role::Corpus, 0)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
}

fn hub_of(server: &Server, cache: &TempDir) -> Result<Hub> {
    Hub::with(Settings {
        endpoint: server.endpoint(),
        cache_dir: cache.path().to_owned(),
        token: None,
        offline: false,
        progress: Progress::silent(),
        retries: 0,
        pause: Duration::from_millis(10),
        patience: Duration::from_secs(10),
    })
}

#[test]
fn the_named_datasets_come_as_the_table_says() {
    let many: Vec<String> = (0..6000).map(|i| format!("page {i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut content = Content::default()
        .file(
            "datasets/Salesforce/wikitext",
            "wikitext-2-raw-v1/test-00000-of-00001.parquet",
            table(
                &some(&["", " = Title = \n", " text \n"]),
                2,
                Compression::SNAPPY,
            ),
        )
        .file(
            "datasets/NeelNanda/c4-10k",
            "data/train-00000-of-00001-f6f21d3dc6d657fc.parquet",
            table(&some(&many), 1000, Compression::SNAPPY),
        )
        .file(
            "datasets/emozilla/pg19",
            "data/validation-00000-of-00001-abc.parquet",
            table(
                &some(&["1", "2", "3", "4", "5", "6"]),
                2,
                Compression::ZSTD(ZstdLevel::default()),
            ),
        );
    let redpajama = datasets::find("redpajama").expect("in the table");
    for (i, pattern) in redpajama.files.iter().enumerate() {
        let texts: Vec<String> = (0..100).map(|row| format!("{i}/{row}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        content = content.file(
            &format!("datasets/{}", redpajama.repo),
            pattern.prefix,
            lines(&texts),
        );
    }
    let (server, cache) = (Server::start(content), folder());
    let get = |name: &str, role| {
        load(
            name,
            of(role, 42),
            &|| hub_of(&server, &cache),
            Progress::silent(),
        )
        .expect(name)
    };

    let wikitext = get("wikitext", Role::Evaluation);
    assert_eq!(wikitext.text, "\n\n = Title = \n\n\n text \n");
    assert_eq!(wikitext.source.joiner, "\n\n");
    assert!(wikitext.source.note.expect("a note").contains(COMMIT));
    assert_eq!(
        wikitext.source.files[0].path,
        "wikitext-2-raw-v1/test-00000-of-00001.parquet"
    );

    let c4 = get("c4", Role::Evaluation);
    assert_eq!(c4.text, many[..5000].join(" "));
    assert_eq!(c4.source.documents, 5000);

    assert_eq!(get("pg19", Role::Evaluation).text, "1 2 3 4 5");

    let corpus = get("redpajama", Role::Corpus);
    assert_eq!(corpus.source.documents, 500);
    assert_eq!(corpus.source.files.len(), 11);
    // numpy.random.seed(42); numpy.random.choice(1100, 500, replace=False)
    let first: Vec<&str> = corpus.text.split("\n\n").take(4).collect();
    assert_eq!(
        first,
        GOLDEN_1100.map(|row| format!("{}/{}", row / 100, row % 100))
    );
}

#[test]
fn any_dataset_of_the_hub() {
    const DATA: &str = "datasets/owner/texts";
    let content = Content::default()
        .file(DATA, "README.md", "hello")
        .file(DATA, "data/test-0.jsonl", lines(&["test"]))
        .file(DATA, "data/train-0.jsonl", lines(&["train"]))
        .file(DATA, "extra/book.txt", "a book");
    let (server, cache) = (Server::start(content), folder());
    let get = |name: &str, role| {
        load(
            name,
            of(role, 42),
            &|| hub_of(&server, &cache),
            Progress::silent(),
        )
    };
    let train = get("owner/texts", Role::Corpus).expect("read");
    assert_eq!(train.text, "train");
    assert!(
        train
            .source
            .note
            .expect("a note")
            .contains("data/train-0.jsonl only, of 3 files")
    );
    assert_eq!(
        get("owner/texts", Role::Evaluation).expect("read").text,
        "test"
    );
    assert_eq!(
        get("owner/texts:extra/book.txt", Role::Corpus)
            .expect("read")
            .text,
        "a book"
    );
    let error = get("owner/texts:none.jsonl", Role::Corpus)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("no file none.jsonl"), "{error}");
    let error = get("owner/none", Role::Corpus)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("not on the hub"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_tables_are_errors_or_texts_never_crashes(
        at in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 1..6),
        packed: bool,
    ) {
        let compression = if packed { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
        let mut bytes = table(&some(&["first", "second", "third", "first", "second"]), 2, compression);
        for (place, value) in at {
            let index = (place * bytes.len() as f64) as usize;
            bytes[index] = value;
        }
        let folder = folder();
        let path = file(&folder, "a.parquet", bytes);
        let _ = local(&path, Role::Corpus, 1);
        let _ = local(&path, Role::Evaluation, 1);
    }

    #[test]
    fn damaged_packings_are_errors_or_texts_never_crashes(
        at in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 1..6),
        zstandard: bool,
    ) {
        let plain = lines(&["first", "second", "third", "first", "second"]);
        let (name, mut bytes) = if zstandard {
            ("a.jsonl.zst", zstd::encode_all(plain.as_bytes(), 3).expect("packed"))
        } else {
            ("a.jsonl.gz", gzip(plain.as_bytes()))
        };
        for (place, value) in at {
            let index = (place * bytes.len() as f64) as usize;
            bytes[index] = value;
        }
        let folder = folder();
        let _ = local(&file(&folder, name, bytes), Role::Corpus, 1);
    }
}
