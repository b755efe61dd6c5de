//! Damaged files of PyTorch and of tokenizers, by the thousand: never a panic, never a hang, and no more
//! memory than the file explains.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use massact::error::Error;
use massact::model::config::Config;
use massact::model::tokenizer::{Tokenizer, TokenizerFiles, Vocabulary};
use massact::model::weights;
use support::mutations::{Counted, Numbers, damaged, peak};

#[global_allocator]
static COUNTED: Counted = Counted;

/// Damaged copies of a file.
const MUTATIONS: usize = 2000;
/// Bytes that may be held for each byte of a file, and beside it.
const RATIO: usize = 48;
const BESIDE: usize = 4 << 20;
/// One file's time, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(20);

const TEXT: &str =
    "The river  paints\ta wooden box. Привет 你好 e\u{301} 👋🏽\u{0}\n<s>x</s> [INST] 1,000 ﬁ";

fn layouts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts")
}

/// One line, with a remedy.
fn assert_readable(error: &Error, what: &str) {
    let text = error.to_string();
    assert!(
        text.lines().count() == 1 && text.contains("; "),
        "{what}: {text}"
    );
}

/// Opens a damaged file as `open` does, and looks at what that costs.
fn judge<T>(what: &str, length: usize, open: impl FnOnce() -> Result<T, Error>) -> bool {
    // As in the program: of a library's panic that is expected nothing is printed, which takes memory.
    static QUIET: Once = Once::new();
    QUIET.call_once(massact::panics::install);
    let start = Instant::now();
    let (opened, held) = peak(|| open().map(drop));
    assert!(start.elapsed() < PATIENCE, "{what}: {:?}", start.elapsed());
    let allowed = RATIO * length + BESIDE;
    assert!(held <= allowed, "{what}: {held} bytes of {allowed}");
    match opened {
        Ok(()) => true,
        Err(error) => {
            assert_readable(&error, what);
            false
        }
    }
}

#[test]
fn files_of_pytorch() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("pytorch_model.bin");
    for (seed, name) in ["kinds.bin", "single/pytorch_model.bin"]
        .into_iter()
        .enumerate()
    {
        let whole = std::fs::read(layouts().join("torch").join(name)).expect("a file");
        let mut numbers = Numbers(seed as u64);
        let mut read = 0;
        for index in 0..MUTATIONS {
            let bytes = match index % 4 {
                // The directory is at the end, the description at the start.
                0 => from_the_end(&whole, &mut numbers),
                _ => damaged(&whole, &mut numbers),
            };
            std::fs::write(&path, &bytes).expect("written");
            let what = format!("{name} {index}");
            read += usize::from(judge(&what, bytes.len(), || weights::open(temp.path())));
        }
        // Some damage is to numbers, which may be any.
        assert!((1..MUTATIONS).contains(&read), "{name}: {read}");
    }
}

/// Damage within the last part of a file.
fn from_the_end(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let (start, end) = bytes.split_at(bytes.len().saturating_sub(2000));
    [start, &damaged(end, numbers)].concat()
}

/// Makes a tokenizer of `folder` with one of its files replaced, and uses it.
fn tokenize(folder: &Path, vocabulary: Vocabulary) -> Result<(), Error> {
    let config = std::fs::read(folder.join("config.json")).expect("a config");
    let config = Config::parse(&config).expect("a config");
    let read = |name: &str| std::fs::read(folder.join(name)).ok();
    let files = TokenizerFiles {
        vocabulary,
        config: read("tokenizer_config.json"),
        special_tokens: read("special_tokens_map.json"),
        added_tokens: read("added_tokens.json"),
        ..TokenizerFiles::default()
    };
    let tokenizer = Tokenizer::parse(&files, &config)?;
    let ids = tokenizer.encode(TEXT)?;
    ids.iter()
        .take(50)
        .for_each(|id| drop(tokenizer.token(*id)));
    Ok(())
}

/// Damages the file `name` of each kind, and makes a tokenizer of it.
fn vocabularies(kinds: &[&str], name: &str, make: impl Fn(&Path, Vec<u8>) -> Vocabulary) {
    let mut read = 0;
    for (seed, kind) in kinds.iter().enumerate() {
        let folder = layouts().join("tokenizers").join(kind);
        let whole = std::fs::read(folder.join(name)).expect("a file");
        let mut numbers = Numbers(100 + seed as u64);
        for index in 0..MUTATIONS.div_ceil(kinds.len()) {
            let bytes = damaged(&whole, &mut numbers);
            let what = format!("{kind} {name} {index}");
            let length = bytes.len();
            let vocabulary = make(&folder, bytes);
            let sound = judge(&what, length + 20_000, || tokenize(&folder, vocabulary));
            read += usize::from(sound);
        }
    }
    assert!(read > 0, "{name}: {read}");
}

#[test]
fn vocab_json() {
    vocabularies(&["gpt2", "opt", "qwen2"], "vocab.json", |folder, vocab| {
        let merges = std::fs::read(folder.join("merges.txt")).expect("a file");
        Vocabulary::Merges { vocab, merges }
    });
}

#[test]
fn merges_txt() {
    vocabularies(&["gpt2", "gpt_neox"], "merges.txt", |folder, merges| {
        let vocab = std::fs::read(folder.join("vocab.json")).expect("a file");
        Vocabulary::Merges { vocab, merges }
    });
}

#[test]
fn tokenizer_model() {
    let kinds = [
        "llama",
        "gemma",
        "mistral",
        "renamed",
        "unigram",
        "pieces_of_the_user",
    ];
    vocabularies(&kinds, "tokenizer.model", |_, bytes| {
        Vocabulary::SentencePiece(bytes)
    });
}

/// The rules of normalisation, which a library walks while it reads a text.
#[test]
fn rules_of_normalisation() {
    for (seed, kind) in ["unigram", "pieces_of_the_user"].into_iter().enumerate() {
        let folder = layouts().join("tokenizers").join(kind);
        let whole = std::fs::read(folder.join("tokenizer.model")).expect("a file");
        // They are the last large part of the file.
        let (start, end) = whole.split_at(whole.len() - 1500);
        let mut numbers = Numbers(200 + seed as u64);
        for index in 0..MUTATIONS / 2 {
            let mut end = end.to_vec();
            // Only values change, so that the message around them stays whole.
            for _ in 0..1 + numbers.below(8) {
                let at = numbers.below(end.len());
                end[at] ^= numbers.next() as u8;
            }
            let bytes = [start, &end].concat();
            let length = bytes.len();
            judge(&format!("{kind} {index}"), length + 20_000, || {
                tokenize(&folder, Vocabulary::SentencePiece(bytes))
            });
        }
    }
}

#[test]
fn tiktoken_model() {
    vocabularies(&["tiktoken"], "tiktoken.model", |_, bytes| {
        Vocabulary::Tiktoken(bytes)
    });
}

/// Files that are small and ask for much.
#[test]
fn amplification() {
    // Pieces that are made of each other in every way.
    let mut model = Vec::new();
    let mut tiktoken = String::new();
    for length in 1..=600usize {
        let text = "a".repeat(length);
        let mut piece = vec![0x0a];
        varint(&mut piece, length);
        piece.extend_from_slice(text.as_bytes());
        model.push(0x0a);
        varint(&mut model, piece.len());
        model.extend(piece);
        tiktoken.push_str(&format!("{} {length}\n", base64(text.as_bytes())));
    }
    // BPE.
    model.extend([0x12, 2, 0x18, 2]);
    for (kind, vocabulary, length) in [
        (
            "llama",
            Vocabulary::SentencePiece(model.clone()),
            model.len(),
        ),
        (
            "mistral",
            Vocabulary::SentencePiece(model.clone()),
            model.len(),
        ),
        (
            "tiktoken",
            Vocabulary::Tiktoken(tiktoken.clone().into_bytes()),
            tiktoken.len(),
        ),
    ] {
        let folder = layouts().join("tokenizers").join(kind);
        let sound = judge(kind, length, || tokenize(&folder, vocabulary));
        assert!(!sound, "{kind}");
    }
    // A piece that is the whole file.
    let mut piece = vec![0x0a];
    varint(&mut piece, 1 << 20);
    piece.extend(std::iter::repeat_n(b'a', 1 << 20));
    let mut model = vec![0x0a];
    varint(&mut model, piece.len());
    model.extend(piece);
    let folder = layouts().join("tokenizers/llama");
    let length = model.len();
    assert!(!judge("one piece", length, || tokenize(
        &folder,
        Vocabulary::SentencePiece(model)
    )));
}

/// Descriptions that are small and ask for much, in sound archives.
#[test]
fn pickles_that_grow() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = temp.path().join("pytorch_model.bin");
    let open = |what: &str, bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        judge(what, bytes.len(), || weights::open(temp.path()))
    };
    let many = |part: &[u8]| part.repeat((1 << 20) / part.len());
    for (what, part) in [
        ("nothing", &b"N"[..]),
        ("marks", b"("),
        ("lists", b"]a"),
        ("dictionaries", b"}a"),
        ("empty tuples", b")a"),
        ("tuples in tuples", b"\x85"),
        ("tuples of three", b"NNN\x87a"),
        ("places", b"\x94"),
        ("entries", b"NNs"),
    ] {
        let begin = b"\x80\x02}".to_vec();
        let described = [begin, many(part), b".".to_vec()].concat();
        assert!(!open(what, &archive(&[("data.pkl", &described)])), "{what}");
    }
    // One long name for tensors without number, of which the last counts.
    let mut described = b"\x80\x02}q\x00X".to_vec();
    described.extend(100_000u32.to_le_bytes());
    described.extend([b'a'; 100_000]);
    described.extend(b"q\x01ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage");
    described.extend(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ");
    described.extend(b"K\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRq\x02aa");
    described.extend(many(b"h\x01h\x02s"));
    described.push(b'.');
    assert!(open(
        "names",
        &archive(&[("data.pkl", &described), ("data/0", &[0; 4])])
    ));
    // The same numbers turned around by many names.
    let crossed = std::fs::read(layouts().join("torch/crossed.bin")).expect("a file");
    assert!(!open("crossed", &crossed));
}

/// A zip archive whose entries are stored as they are.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in entries {
        let name = format!("x/{name}");
        let sizes = [content.len() as u32; 2].map(u32::to_le_bytes).concat();
        let names = (name.len() as u16).to_le_bytes();
        let start = (out.len() as u32).to_le_bytes();
        // Versions, flags, method, time, date, checksum.
        let common = [&[0; 10][..], &[0; 4], &sizes, &names, &[0, 0]].concat();
        out.extend([b"PK\x03\x04", &common[..], name.as_bytes(), content].concat());
        directory.extend([b"PK\x01\x02\0\0", &common[..]].concat());
        directory.extend([&[0; 10][..], &start, name.as_bytes()].concat());
    }
    let start = (out.len() as u32).to_le_bytes();
    let size = (directory.len() as u32).to_le_bytes();
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(directory);
    out.extend(
        [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &size,
            &start,
            &[0, 0],
        ]
        .concat(),
    );
    out
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}
