//! The first tokens of a text, tokenised no further than needed, are those of the whole text: for
//! tokenizers of every kind, texts of many scripts, and every number of tokens.

#[path = "support/tokenizer_kinds.rs"]
mod tokenizer_kinds;

use massact::model::{
    config::Config,
    tokenizer::{Tokenizer, TokenizerFiles},
};
use proptest::prelude::*;
use tokenizer_kinds::{ENGLISH, KINDS, Kind, PARTS};

/// Every number of first tokens, of as much of the text as `encode_start` may read.
fn agrees(kind: &Kind, text: &str) -> Result<(), TestCaseError> {
    let whole = kind.tokenizer.encode(text).expect("encoded");
    for count in [
        0,
        1,
        2,
        3,
        5,
        8,
        13,
        21,
        34,
        55,
        100,
        300,
        whole.len(),
        whole.len() + 1,
    ] {
        let start = kind.tokenizer.encode_start(text, count).expect("encoded");
        prop_assert!(
            start.len() >= count.min(whole.len()),
            "{}: {} of {count} tokens of {text:?}",
            kind.name,
            start.len()
        );
        let differs = start.iter().zip(&whole).position(|(a, b)| a != b);
        prop_assert!(
            differs.is_none() && start.len() <= whole.len(),
            "{}: token {differs:?} of the first {count} differs in {text:?}",
            kind.name
        );
    }
    Ok(())
}

fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => proptest::sample::select(PARTS).prop_map(str::to_owned),
        3 => (0..ENGLISH.len() - 50, 1usize..50).prop_map(|(at, count)| ENGLISH[at..at + count].to_owned()),
        1 => "[a-e \n]{1,30}",
        1 => any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..300).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_start_is_the_start_of_the_whole(text in texts()) {
        for kind in &*KINDS {
            agrees(kind, &text)?;
        }
    }

    /// Where no place before a space is at hand, others are taken.
    #[test]
    fn the_start_of_a_text_without_spaces(text in texts()) {
        let text = text.replace([' ', '\n'], "");
        for kind in &*KINDS {
            agrees(kind, &text)?;
        }
    }

    #[test]
    fn with_every_part_next_to_every_other(at in 0..PARTS.len(), between in proptest::sample::select(&["", "{\"", "。", "\u{3000}", "5"][..])) {
        let text: String = PARTS.iter().map(|other| format!("{}{between}{other}", PARTS[at])).collect();
        let text = text.replace([' ', '\n'], "");
        for kind in &*KINDS {
            agrees(kind, &text)?;
        }
    }

    #[test]
    fn with_every_part_on_both_sides_of_a_seam(at in 0..PARTS.len(), gap in proptest::sample::select(&[" ", "\n", "  ", " \n"][..])) {
        let text: String = PARTS.iter().map(|other| format!("{}{gap}{other}", PARTS[at])).collect();
        for kind in &*KINDS {
            agrees(kind, &text)?;
        }
    }
}

/// The demo's and the small checkpoints' tokenizers, on their own texts.
#[test]
fn tokenizers_of_the_checkpoints() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in [
        ("assets/demo", "assets/text/technical_english.txt"),
        (
            "tests/checkpoints/planted-gpt2",
            "tests/checkpoints/planted-gpt2/text.txt",
        ),
        (
            "tests/checkpoints/planted-llama",
            "tests/checkpoints/planted-llama/text.txt",
        ),
    ] {
        let files = TokenizerFiles::open(&root.join(name))
            .expect("files")
            .expect("some");
        let config = Config::parse(b"{}").expect("a config");
        let tokenizer = Tokenizer::parse(&files, &config).expect("a tokenizer");
        let text = std::fs::read_to_string(root.join(text)).expect("a text");
        let whole = tokenizer.encode(&text).expect("encoded");
        for count in [1, 10, 99, 256, 1000, 4000] {
            let start = tokenizer.encode_start(&text, count).expect("encoded");
            assert!(
                whole.starts_with(&start) && start.len() >= count,
                "{name} {count}"
            );
        }
        let start = tokenizer.encode_start(&text, 100).expect("encoded");
        assert!(start.len() < 400, "{name}: {} tokens", start.len());
    }
}

/// Minified JSON, and Chinese, have hardly a space.
#[test]
fn the_short_way_is_taken_without_spaces() {
    let texts = [
        "{\"name\":\"database\",\"values\":[1,2.5,\"the\"]},".repeat(400),
        "你好世界。".repeat(2000),
    ];
    for text in texts {
        let shortened = KINDS.iter().filter(|kind| kind.shortens).filter(|kind| {
            let whole = kind.tokenizer.encode(&text).expect("encoded");
            let start = kind.tokenizer.encode_start(&text, 100).expect("encoded");
            assert!(whole.starts_with(&start), "{}", kind.name);
            start.len() < whole.len() / 4
        });
        let shortened: Vec<&str> = shortened.map(|kind| kind.name).collect();
        println!("{shortened:?}");
        assert!(shortened.len() > 3, "{shortened:?}");
    }
}

/// A kind that never takes the short way would agree with itself only.
#[test]
fn the_short_way_is_taken() {
    let differ: Vec<String> = KINDS
        .iter()
        .filter_map(|kind| {
            let whole = kind.tokenizer.encode(ENGLISH).expect("encoded");
            let start = kind.tokenizer.encode_start(ENGLISH, 1000).expect("encoded");
            assert!(whole.starts_with(&start), "{}", kind.name);
            let (kept, all) = (start.len(), whole.len());
            ((kept < all / 4) != kind.shortens).then(|| format!("{}: {kept} of {all}", kind.name))
        })
        .collect();
    assert_eq!(differ, [""; 0]);
}
