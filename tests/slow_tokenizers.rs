//! Tokenizers without tokenizer.json: ids are those of transformers' AutoTokenizer
//! (`tools/make_layouts`).

use std::path::{Path, PathBuf};

use massact::model::config::Config;
use massact::model::tokenizer::{Tokenizer, TokenizerFiles, vocabulary_of};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts/tokenizers")
}

fn open(folder: &Path) -> Tokenizer {
    let config = std::fs::read(folder.join("config.json")).expect("a config");
    let config = Config::parse(&config).expect("a config");
    let files = TokenizerFiles::open(folder).expect("read").expect("there");
    Tokenizer::parse(&files, &config).expect("a tokenizer")
}

fn expected() -> Value {
    let text = std::fs::read(folder().join("expected.json")).expect("a file");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn ids_are_those_of_transformers() {
    let expected = expected();
    let texts = expected["texts"].as_array().expect("texts");
    let mut wrong = Vec::new();
    for (kind, ids) in expected["ids"].as_object().expect("kinds") {
        let tokenizer = open(&folder().join(kind));
        for (text, ids) in texts.iter().zip(ids.as_array().expect("ids")) {
            let text = text.as_str().expect("a text");
            let found = serde_json::json!(tokenizer.encode(text).expect("ids"));
            if found != *ids {
                wrong.push(format!("{kind} {text:?}\n  {found}\n  {ids}"));
            }
        }
        // A tokenizer without BOS starts with its EOS.
        let bos = &expected["bos"][kind];
        assert!(
            bos.is_null() || tokenizer.bos().map(u64::from) == bos.as_u64(),
            "{kind}: {:?}",
            tokenizer.bos()
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is cut off a text does not change the ids before it.
#[test]
fn the_start_of_a_long_text() {
    let expected = expected();
    let texts = expected["texts"].as_array().expect("texts");
    let text: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
    let text = text.join("\n").repeat(60);
    for kind in expected["ids"].as_object().expect("kinds").keys() {
        let tokenizer = open(&folder().join(kind));
        let whole = tokenizer.encode(&text).expect("ids");
        let start = tokenizer.encode_start(&text, 3000).expect("ids");
        assert!(start.len() >= 3000 && whole.starts_with(&start), "{kind}");
    }
}

#[test]
fn which_files_are_read() {
    let files = |kind: &str| vocabulary_of(&folder().join(kind));
    assert_eq!(files("gpt2"), ["vocab.json", "merges.txt"]);
    assert_eq!(files("llama"), ["tokenizer.model"]);
    assert_eq!(files("tiktoken"), ["tiktoken.model"]);
    assert!(files("none").is_empty());
}
