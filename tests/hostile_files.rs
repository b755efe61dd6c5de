//! Damaged files of every kind that other programs write, by the thousand: reading one ends soon, without
//! a panic, holds little memory, and says in one line what is wrong.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use support::foreign::{Kind, read};
use support::mutations::{Counted, Numbers, damaged, largest, peak, times};

#[global_allocator]
static COUNTED: Counted = Counted;

/// What does not depend on the file's size: a decompressor's window, a tokenizer's tables, a description
/// of many layers.
const FIXED: usize = 64 << 20;
/// What a byte may become: packed rows, JSON as values, a token of a vocabulary.
const RATIO: usize = 400;
/// The most that is asked for at once.
const AT_ONCE: usize = 1 << 30;
/// Far more than any takes, on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);
/// What takes so long never ends.
const HANGS: Duration = Duration::from_secs(120);

/// What has been tried of one format.
struct Tally {
    format: String,
    tried: usize,
    refused: usize,
    /// The longest that one took, and the most bytes that one held.
    longest: Duration,
    most: usize,
}

impl Tally {
    fn of(format: impl Into<String>) -> Self {
        Self {
            format: format.into(),
            tried: 0,
            refused: 0,
            longest: Duration::ZERO,
            most: 0,
        }
    }

    /// Says it, once at least so many have been tried, some of which were refused and some not.
    fn told(self, least: usize) {
        let Self {
            format,
            tried,
            refused,
            longest,
            most,
        } = self;
        println!(
            "{format}: {tried} damaged, {refused} refused, at most {:.2} s and {:.1} MiB",
            longest.as_secs_f64(),
            most as f64 / (1 << 20) as f64
        );
        assert!(tried >= least, "{format}: {tried}");
        assert!(
            refused > 0 && refused < tried,
            "{format}: {refused} of {tried} refused"
        );
    }
}

/// Ends the process when nothing has been heard for too long, since what hangs cannot be stopped.
fn watched(kind: Kind, beside: &Path) -> mpsc::Sender<usize> {
    let (said, heard) = mpsc::channel();
    let beside = beside.to_owned();
    std::thread::spawn(move || {
        let mut last = 0;
        loop {
            match heard.recv_timeout(HANGS) {
                Ok(number) => last = number,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    eprintln!("{kind:?} {last} beside {} hangs", beside.display());
                    std::process::exit(101);
                }
            }
        }
    });
    said
}

/// Reads `count` damaged versions of the bytes, and of JSON some with another value in one place; more of them
/// where more are asked for.
fn try_all(tally: &mut Tally, kind: Kind, bytes: &[u8], beside: &Path, count: usize, seed: u64) {
    // Of a library's panic that is expected nothing is printed, and what is printed is counted.
    static PRINTED: AtomicUsize = AtomicUsize::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            PRINTED.fetch_add(1, Ordering::Relaxed);
            print(info);
        }));
        massact::panics::install();
    });
    let mut numbers = Numbers(seed);
    let parsed: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    let now = watched(kind, beside);
    for number in 0..count * times() {
        let mut hostile = match &parsed {
            Some(value) if number % 2 == 0 => other_value(value, &mut numbers),
            _ => damaged(bytes, &mut numbers),
        };
        for _ in 0..numbers.below(3) {
            if parsed.is_none() {
                hostile = damaged(&hostile, &mut numbers);
            }
        }
        let temp = tempfile::tempdir().expect("a folder");
        let told = || format!("{kind:?} {number} beside {}", beside.display());
        let _ = now.send(number);
        let began = Instant::now();
        let (result, held) = peak(|| {
            catch_unwind(AssertUnwindSafe(|| {
                read(kind, &hostile, beside, temp.path())
            }))
            .unwrap_or_else(|_| panic!("{}: a panic", told()))
        });
        let took = began.elapsed();
        let printed = PRINTED.load(Ordering::Relaxed);
        assert_eq!(printed, 0, "{}: a panic was printed", told());
        assert!(took < LONGEST, "{}: {took:?}", told());
        let most = FIXED + RATIO * hostile.len();
        assert!(
            held <= most,
            "{}: {held} bytes held of {}",
            told(),
            hostile.len()
        );
        assert!(
            largest() < AT_ONCE,
            "{}: {} bytes at once",
            told(),
            largest()
        );
        if let Err(error) = result {
            let message = error.to_string();
            assert!(
                !message.contains('\n') && message.len() < 4000,
                "{}: {message}",
                told()
            );
            tally.refused += 1;
        }
        tally.tried += 1;
        tally.longest = tally.longest.max(took);
        tally.most = tally.most.max(held);
    }
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The folders of `place` that have all of these files, sorted.
fn folders(place: &str, files: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(place)).expect("a folder");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.retain(|path| files.iter().all(|file| path.join(file).is_file()));
    found.sort();
    assert!(!found.is_empty(), "{place}: {files:?}");
    found
}

/// So many damaged versions of a file of every folder.
fn try_each(kind: Kind, place: &str, name: &str, count: usize) -> Tally {
    let mut tally = Tally::of(name);
    for (index, folder) in folders(place, &[name]).iter().enumerate() {
        let bytes = std::fs::read(folder.join(name)).expect("a file");
        try_all(&mut tally, kind, &bytes, folder, count, index as u64);
    }
    tally
}

#[test]
fn configs_of_every_family() {
    try_each(Kind::Config, "checkpoints", "config.json", 30).told(6000);
}

#[test]
fn weights_of_every_family_and_packing() {
    try_each(Kind::Safetensors, "checkpoints", "model.safetensors", 10).told(2000);
    let index = "model.safetensors.index.json";
    try_each(Kind::Index, "checkpoints", index, 60).told(60);
}

#[test]
fn weights_of_pytorch() {
    let mut tally = Tally::of("pytorch_model.bin");
    for (seed, name) in ["kinds.bin", "single/pytorch_model.bin", "legacy.bin"]
        .into_iter()
        .enumerate()
    {
        let bytes = std::fs::read(root().join("layouts/torch").join(name)).expect("a file");
        try_all(&mut tally, Kind::Torch, &bytes, &root(), 100, seed as u64);
    }
    tally.told(300);
}

#[test]
fn gguf() {
    let mut tally = Tally::of("gguf");
    for (index, folder) in folders("gguf", &[]).iter().enumerate() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ending| ending == "gguf") {
                let bytes = std::fs::read(&path).expect("a file");
                try_all(&mut tally, Kind::Gguf, &bytes, folder, 20, index as u64);
            }
        }
    }
    tally.told(500);
}

#[test]
fn adapters() {
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        try_each(Kind::Adapter(name), "adapters", name, 20).told(100);
    }
}

#[test]
fn tokenizers() {
    let beside = root().join("checkpoints/planted-llama");
    for (name, kind, count) in [
        ("tokenizer.json", Kind::Tokenizer, 800),
        ("tokenizer_config.json", Kind::TokenizerConfig, 200),
    ] {
        let bytes = std::fs::read(beside.join(name)).expect("a file");
        let mut tally = Tally::of(name);
        try_all(&mut tally, kind, &bytes, &beside, count, 5);
        tally.told(count);
    }
    for name in [
        "tokenizer.model",
        "tiktoken.model",
        "vocab.json",
        "merges.txt",
    ] {
        try_each(Kind::Vocabulary(name), "layouts/tokenizers", name, 50).told(50);
    }
}

/// What real templates have: loops, conditions, filters, macros, Python's methods and exceptions.
const TEMPLATE: &str = include_str!("support/template.jinja");

#[test]
fn chat_templates() {
    let beside = root().join("checkpoints/planted-llama");
    let mut tally = Tally::of("chat_template.jinja");
    let kind = Kind::ChatTemplate;
    try_all(&mut tally, kind, TEMPLATE.as_bytes(), &beside, 500, 7);
    tally.told(500);
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
    for (ending, bytes) in [
        ("jsonl", lines.clone().into_bytes()),
        ("txt", lines.clone().into_bytes()),
        ("jsonl.gz", gzip),
        ("jsonl.zst", zstd),
        ("parquet", parquet_of(&lines)),
    ] {
        let mut tally = Tally::of(ending);
        try_all(&mut tally, Kind::Documents(ending), &bytes, &root(), 600, 9);
        tally.told(600);
    }
}

#[test]
fn items_of_tasks() {
    let beside = root().join("checkpoints/planted-llama");
    for (set, file, ending) in [
        ("hellaswag", "hellaswag.jsonl", "jsonl"),
        ("arc_easy", "arc_easy.jsonl", "jsonl"),
        ("piqa", "piqa.jsonl", "jsonl"),
        ("truthfulqa_mc2", "truthfulqa.jsonl", "jsonl"),
        ("own", "own.jsonl", "jsonl"),
        ("arc_easy", "arc_easy.parquet", "parquet"),
    ] {
        let bytes = std::fs::read(root().join("tasks").join(file)).expect("a file");
        let mut tally = Tally::of(format!("tasks, {file}"));
        try_all(
            &mut tally,
            Kind::Items(set, ending),
            &bytes,
            &beside,
            60,
            11,
        );
        tally.told(60);
    }
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
fn plans_and_manifests() {
    let plan = br#"
[defaults]
context_length = 128
nsamples = [1, 2]

[[model]]
pretrained = "demo"
label = "x"

[[model]]
pretrained = "a/b"
revisions = ["step0", "step1000"]
steps = [0, 1000]

[[experiment]]
name = "existence-validation"
seed = 1
"#;
    let mut tally = Tally::of("plan.toml");
    try_all(&mut tally, Kind::Plan, plan, &root(), 2000, 3);
    tally.told(2000);
    let task = r#"{"id":"ID","model":"demo","command":"existence-validation","arguments":["--nsamples","2"],"settings":{"nsamples":2},"step":3}"#;
    let lines = ["a1", "b2", "c3"]
        .map(|id| task.replace("ID", id))
        .join("\n");
    let mut tally = Tally::of("manifest.jsonl");
    try_all(
        &mut tally,
        Kind::Manifest,
        lines.as_bytes(),
        &root(),
        300,
        13,
    );
    tally.told(300);
}
