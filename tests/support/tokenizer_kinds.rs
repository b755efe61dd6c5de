//! Tokenizers of every kind, small ones, trained on the built-in text and on parts of many scripts.

use std::sync::LazyLock;

use massact::model::{
    config::Config,
    tokenizer::{Tokenizer, TokenizerFiles, Vocabulary},
};
use serde_json::{Value, json};
use tokenizers::models::{
    TrainerWrapper, bpe::BpeTrainer, unigram::UnigramTrainer, wordlevel::WordLevelTrainer,
    wordpiece::WordPieceTrainer,
};

pub(crate) const ENGLISH: &str = include_str!("../../assets/text/technical_english.txt");

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What texts are made of: scripts with and without spaces, marks that compose, joined emoji, Hangul
/// in parts, half-width forms, kinds of space and line end, added tokens whole and in part.
pub(crate) const PARTS: &[&str] = &[
    " ",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "     ",
    "\n",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    "the",
    "The",
    "transaction",
    "database",
    "isn't",
    "I'LL",
    "1234567",
    "3.14",
    ".",
    ", ",
    "?!",
    "e\u{301}",
    "\u{301}",
    "é",
    "ﬁ",
    "İ",
    "straße",
    "naïve",
    "Привет",
    "мир",
    "ё",
    "नमस्ते",
    "दुनिया",
    "สวัสดีชาวโลก",
    "你好",
    "世界",
    "，",
    "。",
    "日本語のテキスト",
    "ｶﾞ",
    "한국어",
    "\u{1112}\u{1161}\u{11ab}",
    "שלום",
    "مرحبا",
    "👩\u{200d}👩\u{200d}👧",
    "🇩🇪",
    "😀",
    "\u{2581}",
    "_",
    "\u{200b}",
    "\u{feff}",
    "\0",
    "\u{7}",
    "<s>",
    "</s>",
    "<s",
    "<left>",
    "<right>",
    "<both>",
    "Word",
    "new york",
    "new ",
    "york",
    "yesterday",
    "<0x0A>",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababab",
    "----------------",
    "[UNK]",
    "##ing",
    "Ġ",
];

fn added(id: u32, content: &str, change: Value) -> Value {
    let mut token = json!({
        "id": id, "content": content, "special": false, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false,
    });
    for (key, value) in change.as_object().expect("an object") {
        token[key] = value.clone();
    }
    token
}

/// Tokens of every kind; `across` has a space inside, as a seam has.
fn added_tokens(across: bool) -> Vec<Value> {
    let mut tokens = vec![
        added(90_000, "<s>", json!({"special": true})),
        added(90_001, "</s>", json!({"special": true, "normalized": true})),
        added(90_002, "<left>", json!({"lstrip": true})),
        added(90_003, "<right>", json!({"rstrip": true})),
        added(
            90_004,
            "<both>",
            json!({"lstrip": true, "rstrip": true, "normalized": true}),
        ),
        added(90_005, "Word", json!({"single_word": true})),
        added(
            90_006,
            "yesterday",
            json!({"single_word": true, "normalized": true}),
        ),
    ];
    if across {
        tokens.push(added(90_007, "new york", json!({})));
        tokens.push(added(90_008, "Hello 世", json!({"normalized": true})));
        tokens.push(added(90_009, "s, ", json!({"rstrip": true})));
    }
    tokens
}

pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) tokenizer: Tokenizer,
    /// Whether a seam is found in English text.
    pub(crate) shortens: bool,
}

/// A model of this kind, trained on pieces that `pre_tokenizer` makes.
fn trained(
    empty: Value,
    trainer: TrainerWrapper,
    normalizer: &Value,
    pre_tokenizer: &Value,
) -> Value {
    let mut trainer = trainer;
    let mut tokenizer = library(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": null, "model": empty,
    }));
    let parts = PARTS.join(" ");
    let lines = ENGLISH.split('\n').take(150).chain([parts.as_str()]);
    let lines = lines.flat_map(|line| {
        let chars: Vec<char> = line.chars().collect();
        chars
            .chunks(60)
            .map(|part| part.iter().collect())
            .collect::<Vec<String>>()
    });
    tokenizer.train(&mut trainer, lines).expect("trained");
    serde_json::to_value(tokenizer.get_model()).expect("JSON")
}

fn library(file: &Value) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(file.to_string()).expect("a tokenizer")
}

fn parse(file: &Value) -> Tokenizer {
    let files = TokenizerFiles {
        vocabulary: Vocabulary::Fast(file.to_string().into_bytes()),
        ..TokenizerFiles::default()
    };
    Tokenizer::parse(&files, &Config::parse(b"{}").expect("a config")).expect("a tokenizer")
}

fn kind(
    name: &'static str,
    shortens: bool,
    model: &Value,
    normalizer: Value,
    pre_tokenizer: Value,
    across: bool,
) -> Kind {
    Kind {
        name,
        shortens,
        tokenizer: parse(&json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added_tokens(across), "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model,
        })),
    }
}

fn with(mut model: Value, change: Value) -> Value {
    for (key, value) in change.as_object().expect("an object") {
        model[key] = value.clone();
    }
    model
}

/// Adds tokens that no merge and no training makes.
fn with_tokens(mut model: Value, tokens: impl IntoIterator<Item = String>) -> Value {
    let vocabulary = model["vocab"].as_object_mut().expect("an object");
    for token in tokens {
        let next = vocabulary.len();
        vocabulary.entry(token).or_insert(json!(next));
    }
    model
}

pub(crate) static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let none = Value::Null;
    let sequence = |parts: &[Value]| json!({"type": "Sequence", "pretokenizers": parts});
    let normalizers = |parts: &[Value]| json!({"type": "Sequence", "normalizers": parts});
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let byte_level = |regex: bool, space: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": regex});
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
    let spaces = replace(json!({"String": " "}), "▁");
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let llama2 = normalizers(&[prepend, spaces.clone()]);
    let llama3 = sequence(&[
        split(json!({"Regex": LLAMA3}), "Isolated"),
        byte_level(false, false),
    ]);
    let plain = |name: &str| json!({"type": name});

    let bpe = || {
        TrainerWrapper::from(
            BpeTrainer::builder()
                .show_progress(false)
                .vocab_size(900)
                .build(),
        )
    };
    let empty = json!({"type": "BPE", "vocab": {}, "merges": []});
    let bytes = with_tokens(
        trained(empty.clone(), bpe(), &none, &byte_level(true, false)),
        (0..=255).filter_map(byte_character),
    );
    let fallback = || (0..256).map(|byte| format!("<{byte:#04X}>"));
    let words = with(
        with_tokens(
            trained(empty.clone(), bpe(), &none, &metaspace("first", true)),
            fallback().chain(["<unk>".to_owned()]),
        ),
        json!({"byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>"}),
    );
    // Trained without a pre-tokeniser: its tokens hold spaces and words together.
    let across = with(
        with_tokens(
            trained(empty.clone(), bpe(), &spaces, &none),
            ["<unk>".to_owned()],
        ),
        json!({"fuse_unk": true, "unk_token": "<unk>"}),
    );
    let suffixed = TrainerWrapper::from(
        BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(700)
            .end_of_word_suffix("</w>".into())
            .build(),
    );
    let suffixed = trained(empty.clone(), suffixed, &none, &plain("Whitespace"));
    let unigram = |pre_tokenizer: &Value| {
        let trainer = UnigramTrainer::builder()
            .show_progress(false)
            .vocab_size(700)
            .unk_token(Some("<unk>".into()))
            .special_tokens(vec![tokenizers::AddedToken::from("<unk>", true)])
            .build()
            .expect("a trainer");
        let empty = json!({"type": "Unigram", "unk_id": null, "vocab": []});
        trained(empty, trainer.into(), &spaces, pre_tokenizer)
    };
    let pieces = unigram(&metaspace("always", true));
    let pieces_across = unigram(&none);
    let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true});
    let word_piece = trained(
        json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 20, "vocab": {}}),
        WordPieceTrainer::builder()
            .show_progress(false)
            .vocab_size(700)
            .special_tokens(vec![tokenizers::AddedToken::from("[UNK]", true)])
            .build()
            .into(),
        &bert,
        &plain("BertPreTokenizer"),
    );
    let word_level = trained(
        json!({"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}),
        WordLevelTrainer::builder()
            .show_progress(false)
            .vocab_size(500_usize)
            .special_tokens(vec![tokenizers::AddedToken::from("<unk>", true)])
            .build()
            .expect("a trainer")
            .into(),
        &none,
        &plain("Whitespace"),
    );
    let strange = sequence(&[
        split(json!({"Regex": "[\r\n]"}), "Isolated"),
        split(json!({"Regex": r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿ]+"}), "Isolated"),
        split(
            json!({"Regex": r"\s?[!-/:-~！-／：-～‘-‟　-。]+"}),
            "Isolated",
        ),
        split(json!({"Regex": r"\s+$"}), "Isolated"),
        split(json!({"Regex": "[一-龥ࠀ-一가-퟿]+"}), "Isolated"),
        json!({"type": "Digits", "individual_digits": true}),
        byte_level(false, false),
    ]);
    // How a word is split depends on whether its line goes on without a mark.
    let ends = r"\w(?=[\w ]*\n)|\w+|\s+|[^\w\s]+";
    let behaviours = sequence(&[
        split(json!({"Regex": r"\d+"}), "Contiguous"),
        split(json!({"String": "the"}), "MergedWithNext"),
        split(json!({"Regex": "[.,]"}), "MergedWithPrevious"),
        json!({"type": "Punctuation", "behavior": "Isolated"}),
        json!({"type": "Split", "pattern": {"Regex": r"\S+|\s"}, "behavior": "Removed", "invert": true}),
    ]);
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    let unicode = |form: &str| normalizers(&[plain(form), spaces.clone()]);
    let runs = replace(json!({"Regex": " {2,}"}), "▁");
    vec![
        kind(
            "GPT-2",
            true,
            &bytes,
            none.clone(),
            byte_level(true, false),
            false,
        ),
        kind(
            "prefix space",
            true,
            &bytes,
            none.clone(),
            byte_level(true, true),
            true,
        ),
        kind(
            "bytes, no split",
            true,
            &bytes,
            none.clone(),
            byte_level(false, false),
            true,
        ),
        kind(
            "Llama 3",
            true,
            &with(bytes.clone(), json!({"ignore_merges": true})),
            none.clone(),
            llama3.clone(),
            true,
        ),
        kind("Qwen 2", true, &bytes, plain("NFC"), llama3.clone(), true),
        kind("DeepSeek", true, &bytes, none.clone(), strange, false),
        kind(
            // Its space is a letter, which ends no whole word: its seams are before other signs.
            "byte-level normaliser",
            true,
            &bytes,
            plain("ByteLevel"),
            none.clone(),
            false,
        ),
        kind(
            "looks ahead",
            true,
            &bytes,
            none.clone(),
            sequence(&[
                split(json!({"Regex": ends}), "Isolated"),
                byte_level(false, false),
            ]),
            false,
        ),
        kind("Llama 2", true, &words, llama2.clone(), none.clone(), true),
        kind(
            "Llama 2, split",
            true,
            &words,
            none.clone(),
            metaspace("always", true),
            false,
        ),
        kind(
            "Mistral",
            true,
            &words,
            none.clone(),
            metaspace("first", false),
            false,
        ),
        kind(
            "Gemma",
            true,
            &words,
            spaces.clone(),
            split(json!({"String": " "}), "MergedWithPrevious"),
            true,
        ),
        kind(
            "Gemma, ignoring merges",
            false,
            &with(words.clone(), json!({"ignore_merges": true})),
            spaces.clone(),
            none.clone(),
            false,
        ),
        kind("NFKC", true, &words, unicode("NFKC"), none.clone(), true),
        kind("NFD", true, &words, unicode("NFD"), none.clone(), true),
        kind(
            "NFKD, lower case, no accents",
            true,
            &words,
            normalizers(&[
                plain("NFKD"),
                plain("StripAccents"),
                plain("Lowercase"),
                spaces.clone(),
            ]),
            none.clone(),
            false,
        ),
        kind(
            "Nmt and Strip",
            true,
            &words,
            normalizers(&[plain("Nmt"), strip, spaces.clone()]),
            none.clone(),
            false,
        ),
        kind(
            "runs of spaces",
            true,
            &words,
            normalizers(&[runs, spaces.clone()]),
            none.clone(),
            false,
        ),
        kind(
            "line ends replaced",
            true,
            &words,
            normalizers(&[
                replace(json!({"Regex": r"\s*\n\s*"}), "▁"),
                spaces.clone(),
                replace(json!({"String": "s▁"}), "z▁"),
            ]),
            none.clone(),
            false,
        ),
        kind(
            "tokens across words",
            true,
            &across,
            spaces.clone(),
            none.clone(),
            false,
        ),
        kind(
            "suffix",
            true,
            &suffixed,
            none.clone(),
            plain("Whitespace"),
            true,
        ),
        kind("behaviours", true, &words, none.clone(), behaviours, true),
        kind(
            "unigram",
            true,
            &pieces,
            none.clone(),
            metaspace("always", true),
            true,
        ),
        kind(
            "unigram, no split",
            true,
            &pieces,
            spaces.clone(),
            none.clone(),
            false,
        ),
        kind(
            "unigram across words",
            true,
            &pieces_across,
            spaces.clone(),
            none.clone(),
            false,
        ),
        kind(
            "word pieces",
            true,
            &word_piece,
            bert,
            plain("BertPreTokenizer"),
            true,
        ),
        kind(
            "words",
            true,
            &word_level,
            none.clone(),
            plain("WhitespaceSplit"),
            true,
        ),
        kind(
            // A token a line, so that half of the text has fewer.
            "words and lines",
            false,
            &word_level,
            none.clone(),
            json!({"type": "CharDelimiterSplit", "delimiter": "\n"}),
            true,
        ),
        kind(
            "scripts",
            false,
            &bytes,
            none.clone(),
            sequence(&[plain("UnicodeScripts"), byte_level(true, false)]),
            false,
        ),
        tiny("chain to the left", "abcde \n", |a, b| b < a),
        tiny("chain to the right", "abcde \n", |a, b| a < b),
    ]
});

/// GPT-2's character for a byte.
fn byte_character(byte: u8) -> Option<String> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = if printable(&byte) {
        u32::from(byte)
    } else {
        256 + (0..byte).filter(|byte| !printable(byte)).count() as u32
    };
    char::from_u32(code).map(String::from)
}

/// A BPE over few characters with all pairs of short tokens as merges, in an order that lets what comes
/// later in a text decide what comes before.
fn tiny(name: &'static str, alphabet: &str, first: fn(&str, &str) -> bool) -> Kind {
    let mut tokens: Vec<String> = alphabet.chars().map(String::from).collect();
    let letters: Vec<String> = tokens
        .iter()
        .filter(|token| *token != " ")
        .cloned()
        .collect();
    let mut merges: Vec<(String, String)> = Vec::new();
    for a in &letters {
        for b in &letters {
            if a != "\n" || b == "\n" {
                merges.push((a.clone(), b.clone()));
            }
        }
    }
    merges.sort_by(|x, y| {
        let (x, y) = (format!("{}{}", x.0, x.1), format!("{}{}", y.0, y.1));
        if first(&x, &y) {
            std::cmp::Ordering::Less
        } else {
            std::cmp::Ordering::Greater
        }
    });
    let pairs: Vec<(String, String)> = merges.clone();
    for (a, b) in &pairs {
        for c in &letters {
            merges.push((format!("{a}{b}"), c.clone()));
        }
    }
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    tokens.push(" a".into());
    merges.insert(0, (" ".into(), "a".into()));
    tokens.sort();
    tokens.dedup();
    let vocabulary: serde_json::Map<String, Value> = tokens
        .into_iter()
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let model = json!({"type": "BPE", "vocab": vocabulary, "merges": merges});
    kind(name, true, &model, Value::Null, Value::Null, false)
}
