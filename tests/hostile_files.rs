//! Damaged files of every kind that other programs write, by the thousand: reading one ends soon, without
//! a panic, holds little memory, and says in one line what is wrong.

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::foreign::{Kind, read};
use support::mutations::{Counted, Numbers, damaged, peak};

#[global_allocator]
static COUNTED: Counted = Counted;

/// What does not depend on the file's size: a decompressor's window, a tokenizer's tables, a description
/// of many layers.
const FIXED: usize = 64 << 20;
/// What a byte may become: packed rows, JSON as values, a token of a vocabulary.
const RATIO: usize = 400;
/// Far more than any takes, on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// Reads `count` damaged versions of the bytes, and of JSON some with another value in one place.
fn try_all(kind: Kind, bytes: &[u8], beside: &Path, count: usize, seed: u64) -> usize {
    let temp = tempfile::tempdir().expect("a folder");
    let mut numbers = Numbers(seed);
    let parsed: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    for number in 0..count {
        let mut hostile = match &parsed {
            Some(value) if number % 2 == 0 => other_value(value, &mut numbers),
            _ => damaged(bytes, &mut numbers),
        };
        for _ in 0..numbers.below(3) {
            if parsed.is_none() {
                hostile = damaged(&hostile, &mut numbers);
            }
        }
        let began = Instant::now();
        let (result, held) = peak(|| read(kind, &hostile, beside, temp.path()));
        let told = || format!("{kind:?} {number} beside {}", beside.display());
        assert!(began.elapsed() < LONGEST, "{}", told());
        let most = FIXED + RATIO * hostile.len();
        assert!(
            held <= most,
            "{}: {held} bytes held of {}",
            told(),
            hostile.len()
        );
        if let Err(error) = result {
            let message = error.to_string();
            assert!(
                !message.contains('\n') && message.len() < 4000,
                "{}: {message}",
                told()
            );
        }
    }
    count
}

/// The document with one number, text or flag replaced.
fn other_value(document: &serde_json::Value, numbers: &mut Numbers) -> Vec<u8> {
    use serde_json::{Value, json};
    fn places(value: &Value, path: String, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    places(value, format!("{path}/{key}"), found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate().take(40) {
                    places(value, format!("{path}/{index}"), found);
                }
            }
            _ => found.push(path),
        }
    }
    let mut found = Vec::new();
    places(document, String::new(), &mut found);
    let values = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1),
        json!(7),
        json!(1e300),
        json!(u64::MAX),
        json!(1u64 << 40),
        json!(0.5),
        json!(true),
        json!(false),
        json!(""),
        json!("x"),
        json!("default"),
        json!([]),
        json!([1]),
        json!({}),
        json!("../../etc/passwd"),
        json!("\u{202e}\n"),
        json!(i64::MIN),
    ];
    let mut changed = document.clone();
    for _ in 0..=numbers.below(2) {
        let Some(path) = found.get(numbers.below(found.len())) else {
            break;
        };
        if let Some(place) = changed.pointer_mut(path) {
            *place = values[numbers.below(values.len())].clone();
        }
    }
    changed.to_string().into_bytes()
}

fn checkpoints() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints");
    let entries = std::fs::read_dir(root).expect("a folder");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.retain(|path| path.join("config.json").is_file());
    found.sort();
    found
}

#[test]
fn configs_and_weights_of_every_family() {
    let mut tried = 0;
    for (index, folder) in checkpoints().iter().enumerate() {
        for (name, kind, count) in [
            ("config.json", Kind::Config, 40),
            ("model.safetensors", Kind::Safetensors, 10),
            ("model.safetensors.index.json", Kind::Index, 60),
        ] {
            if let Ok(bytes) = std::fs::read(folder.join(name)) {
                tried += try_all(kind, &bytes, folder, count, index as u64);
            }
        }
    }
    println!("{tried} damaged configs, indexes and weights");
    assert!(tried > 8000, "{tried}");
}

#[test]
fn tokenizers() {
    let mut tried = 0;
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoints/planted-llama");
    for (name, kind, count) in [
        ("tokenizer.json", Kind::Tokenizer, 800),
        ("tokenizer_config.json", Kind::TokenizerConfig, 200),
    ] {
        if let Ok(bytes) = std::fs::read(beside.join(name)) {
            tried += try_all(kind, &bytes, &beside, count, 5);
        }
    }
    println!("{tried} damaged tokenizers");
    assert!(tried >= 800, "{tried}");
}

#[test]
fn documents() {
    use std::io::Write;
    let lines: String = (0..40)
        .map(|number| format!("{{\"text\": \"document {number}, \\u00fc\", \"n\": {number}}}\n"))
        .collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).expect("packs");
    let gzip = gzip.finish().expect("packs");
    let zstd = zstd::encode_all(lines.as_bytes(), 3).expect("packs");
    let mut tried = 0;
    for (ending, bytes) in [
        ("jsonl", lines.clone().into_bytes()),
        ("txt", lines.clone().into_bytes()),
        ("jsonl.gz", gzip),
        ("jsonl.zst", zstd),
        ("parquet", parquet_of(&lines)),
    ] {
        let nothing = Path::new(env!("CARGO_MANIFEST_DIR"));
        tried += try_all(Kind::Documents(ending), &bytes, nothing, 700, 9);
    }
    println!("{tried} damaged files of documents");
}

/// A table of one column, `text`.
fn parquet_of(lines: &str) -> Vec<u8> {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};
    use parquet::schema::parser::parse_message_type;

    let schema =
        parse_message_type("message t { required binary text (UTF8); }").expect("a schema");
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .build();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, Arc::new(schema), Arc::new(properties))
        .expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    let mut column = group.next_column().expect("no error").expect("a column");
    let texts: Vec<ByteArray> = lines.lines().map(ByteArray::from).collect();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts, None, None)
        .expect("writes");
    column.close().expect("closes");
    group.close().expect("closes");
    writer.close().expect("closes");
    file
}

#[test]
fn plans() {
    let plan = br#"
[defaults]
context_length = 128
nsamples = [1, 2]

[[model]]
pretrained = "demo"
label = "x"

[[model]]
pretrained = "a/b"
revisions = ["step{}"]
steps = "0..1000..100"

[[experiment]]
command = "existence-validation"
seed = 1
"#;
    let nothing = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tried = try_all(Kind::Plan, plan, nothing, 3000, 3);
    println!("{tried} damaged plans");
}
