//! Which ids start a sequence, and that text becomes its own tokens and nothing else.

mod support;

use massact::Result;
use massact::model::config::Config;
use massact::model::tokenizer::{Tokenizer, TokenizerFiles};
use serde_json::{Value, json};

/// Two words, two specials, and everything a saved tokenizer may carry for batching.
fn tokenizer_json() -> Value {
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false
        })
    };
    json!({
        "version": "1.0",
        "truncation": {
            "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
        },
        "padding": {
            "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"
        },
        "added_tokens": [special(1, "<s>"), special(2, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}}
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}}
            ],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
            }
        },
        "decoder": null,
        "model": {
            "type": "WordLevel",
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "one": 3, "two": 4},
            "unk_token": "<unk>"
        }
    })
}

fn parse(config: Value, special: Value, model: Value) -> Result<Tokenizer> {
    let bytes = |value: Value| (!value.is_null()).then(|| value.to_string().into_bytes());
    let files = TokenizerFiles {
        tokenizer: tokenizer_json().to_string().into_bytes(),
        config: bytes(config),
        special_tokens: bytes(special),
        ..TokenizerFiles::default()
    };
    Tokenizer::parse(&files, &Config::parse(model.to_string().as_bytes())?)
}

#[test]
fn bos_is_found_where_it_is_written() {
    let none = Value::Null;
    let object = |content: &str| json!({"__type": "AddedToken", "content": content});
    for (what, config, special, model, expected) in [
        (
            "a string",
            json!({"bos_token": "<s>"}),
            none.clone(),
            json!({}),
            Some(1),
        ),
        (
            "an object",
            json!({"bos_token": object("<s>")}),
            none.clone(),
            json!({}),
            Some(1),
        ),
        (
            "in the map",
            none.clone(),
            json!({"bos_token": "<s>"}),
            json!({}),
            Some(1),
        ),
        (
            "an object in the map",
            none.clone(),
            json!({"bos_token": object("<s>")}),
            json!({}),
            Some(1),
        ),
        (
            "null, then the map",
            json!({"bos_token": null}),
            json!({"bos_token": "<s>"}),
            json!({}),
            Some(1),
        ),
        (
            "no BOS, an EOS",
            json!({"eos_token": "</s>"}),
            none.clone(),
            json!({}),
            Some(2),
        ),
        (
            "null BOS, an EOS",
            json!({"bos_token": null, "eos_token": object("</s>")}),
            none.clone(),
            json!({}),
            Some(2),
        ),
        (
            "BOS before EOS",
            json!({"eos_token": "</s>"}),
            json!({"bos_token": "<s>"}),
            json!({}),
            Some(1),
        ),
        (
            "the tokenizer before the model",
            json!({"bos_token": "<s>"}),
            none.clone(),
            json!({"bos_token_id": 4}),
            Some(1),
        ),
        (
            "the tokenizer's EOS before the model's BOS",
            json!({"eos_token": "</s>"}),
            none.clone(),
            json!({"bos_token_id": 4}),
            Some(2),
        ),
        (
            "the model's id",
            json!({}),
            none.clone(),
            json!({"bos_token_id": 4}),
            Some(4),
        ),
        (
            "the model's list",
            none.clone(),
            none.clone(),
            json!({"bos_token_id": [3, 4]}),
            Some(3),
        ),
        (
            "the model's EOS",
            none.clone(),
            none.clone(),
            json!({"eos_token_id": 2}),
            Some(2),
        ),
        (
            "the model's EOS list",
            none.clone(),
            none.clone(),
            json!({"bos_token_id": null, "eos_token_id": [4, 2]}),
            Some(4),
        ),
        (
            "a token that is none",
            json!({"bos_token": "<nope>"}),
            none.clone(),
            json!({"bos_token_id": 4}),
            Some(4),
        ),
        (
            "ids that are none",
            none.clone(),
            none.clone(),
            json!({"bos_token_id": -1, "eos_token_id": "x"}),
            None,
        ),
        (
            "an empty list",
            none.clone(),
            none.clone(),
            json!({"eos_token_id": []}),
            None,
        ),
        ("nothing", none.clone(), none, json!({}), None),
    ] {
        let tokenizer =
            parse(config, special, model).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(tokenizer.bos(), expected, "{what}");
    }
}

#[test]
fn text_is_neither_cut_padded_nor_framed() {
    let tokenizer = parse(Value::Null, Value::Null, json!({})).expect("parses");
    assert_eq!(
        tokenizer.encode("one two one two one").expect("ids"),
        [3, 4, 3, 4, 3]
    );
    assert_eq!(tokenizer.encode("one").expect("ids"), [3]);
    assert_eq!(tokenizer.encode("").expect("ids"), [0u32; 0]);
    assert_eq!(tokenizer.encode("three").expect("ids"), [0]);
    // Written-out specials are those tokens, as in transformers.
    assert_eq!(tokenizer.encode("one</s> two").expect("ids"), [3, 2, 4]);
}

/// Long texts are encoded on another thread; the ids are those of the parts.
#[test]
fn long_texts_have_the_same_ids() {
    let tokenizer = parse(Value::Null, Value::Null, json!({})).expect("parses");
    let ids = tokenizer.encode(&"one two ".repeat(100_000)).expect("ids");
    assert_eq!(ids.len(), 200_000);
    assert!(ids.chunks(2).all(|pair| pair == [3, 4]));
}

#[test]
fn tokens_are_shown_as_text() {
    let tokenizer = parse(Value::Null, Value::Null, json!({})).expect("parses");
    for (id, text) in [(1, "<s>"), (3, "one"), (99, "<99>")] {
        assert_eq!(tokenizer.token(id), text);
    }
}

#[test]
fn a_tokenizer_that_is_cut_anywhere_is_an_error() {
    massact::panics::install();
    let whole = tokenizer_json().to_string();
    let model = Config::parse(b"{}").expect("a config");
    for end in 0..whole.len() {
        let files = TokenizerFiles {
            tokenizer: whole.as_bytes()[..end].to_vec(),
            ..TokenizerFiles::default()
        };
        let error = Tokenizer::parse(&files, &model)
            .expect_err("cut")
            .to_string();
        assert!(
            error.starts_with("tokenizer.json: ") && error.contains("; "),
            "{error}"
        );
    }
    // Parts that are missing or of another kind: valid or an error, but no panic.
    let whole = tokenizer_json();
    for key in whole.as_object().expect("an object").keys() {
        for other in [
            json!(null),
            json!(3),
            json!("x"),
            json!([]),
            json!({}),
            json!({"type": "x"}),
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ] {
            let mut changed = whole.clone();
            changed[key] = other;
            let files = TokenizerFiles {
                tokenizer: changed.to_string().into_bytes(),
                ..TokenizerFiles::default()
            };
            if let Ok(tokenizer) = Tokenizer::parse(&files, &model) {
                let _ = tokenizer.encode("one two");
            }
        }
    }
}
