//! Which ids start a sequence, and that text becomes its own tokens and nothing else.

mod support;

use massact::Result;
use massact::model::config::Config;
use massact::model::tokenizer::{Tokenizer, TokenizerFiles, Vocabulary};
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

/// The tokenizer that a folder with these files has.
fn parse_all(
    tokenizer: &Value,
    [config, special, added]: [Value; 3],
    model: Value,
) -> Result<Tokenizer> {
    let bytes = |value: Value| (!value.is_null()).then(|| value.to_string().into_bytes());
    let files = TokenizerFiles {
        vocabulary: Vocabulary::Fast(tokenizer.to_string().into_bytes()),
        config: bytes(config),
        special_tokens: bytes(special),
        added_tokens: bytes(added),
        ..TokenizerFiles::default()
    };
    Tokenizer::parse(&files, &Config::parse(model.to_string().as_bytes())?)
}

fn parse(config: Value, special: Value, model: Value) -> Result<Tokenizer> {
    parse_all(&tokenizer_json(), [config, special, Value::Null], model)
}

/// As [`tokenizer_json`], with nothing put before a text.
fn without_template() -> Value {
    let mut tokenizer = tokenizer_json();
    tokenizer["post_processor"] = Value::Null;
    tokenizer
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
            "an empty token, then the model",
            json!({"bos_token": "", "eos_token": ""}),
            none.clone(),
            json!({"bos_token_id": 4}),
            Some(4),
        ),
        (
            "a new token, with the id that transformers gives it",
            json!({"bos_token": "<new>"}),
            none.clone(),
            json!({"bos_token_id": 4}),
            Some(5),
        ),
        (
            "the map before the tokenizer's config",
            json!({"bos_token": "<s>"}),
            json!({"bos_token": "</s>"}),
            json!({}),
            Some(2),
        ),
        (
            "a null in the map",
            json!({"bos_token": "<s>"}),
            json!({"bos_token": null}),
            json!({}),
            None,
        ),
        (
            "the tokenizer's config alone once it has added_tokens_decoder",
            json!({"bos_token": "<s>", "added_tokens_decoder": {}}),
            json!({"bos_token": "</s>"}),
            json!({}),
            Some(1),
        ),
        (
            "a multimodal model's text part",
            none.clone(),
            none.clone(),
            json!({"text_config": {"bos_token_id": 3}}),
            Some(3),
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
        let files = [config, special, Value::Null];
        let tokenizer = parse_all(&without_template(), files, model)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(tokenizer.bos(), expected, "{what}");
    }
}

/// What tokenizer.json puts before a text comes after a named BOS and before everything else.
#[test]
fn bos_of_the_template() {
    let sequence = |inner: Value| json!({"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}, inner]});
    let template = tokenizer_json()["post_processor"].clone();
    let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": true, "add_prefix_space": true});
    let mut ends_only = template.clone();
    ends_only["single"]
        .as_array_mut()
        .expect("pieces")
        .remove(0);
    for (what, processor, config, model, expected, notices) in [
        (
            "a template",
            template.clone(),
            json!({}),
            json!({"bos_token_id": 1}),
            1,
            0,
        ),
        (
            "within a sequence",
            sequence(template.clone()),
            json!({}),
            json!({}),
            1,
            0,
        ),
        ("RoBERTa's", roberta, json!({}), json!({}), 1, 0),
        (
            "before EOS and the model's",
            template.clone(),
            json!({"bos_token": "", "eos_token": "</s>"}),
            json!({"bos_token_id": 0}),
            1,
            1,
        ),
        (
            "behind a named one",
            template,
            json!({"bos_token": "</s>"}),
            json!({"bos_token_id": [4, 2]}),
            2,
            1,
        ),
        (
            "one that only ends",
            ends_only,
            json!({}),
            json!({"bos_token_id": 4}),
            4,
            0,
        ),
    ] {
        let mut tokenizer = tokenizer_json();
        tokenizer["post_processor"] = processor;
        let files = [config, Value::Null, Value::Null];
        let tokenizer = parse_all(&tokenizer, files, model).expect(what);
        assert_eq!(tokenizer.bos(), Some(expected), "{what}");
        assert_eq!(
            tokenizer.notices().len(),
            notices,
            "{what}: {:?}",
            tokenizer.notices()
        );
    }
}

/// A choice between files that disagree is said, with the id.
#[test]
fn disagreements_about_bos_are_told() {
    let notices = |config: Value, model: Value| {
        let files = [config, Value::Null, Value::Null];
        let tokenizer = parse_all(&without_template(), files, model).expect("parses");
        tokenizer.notices().to_vec()
    };
    let told = notices(json!({"bos_token": "<s>"}), json!({"bos_token_id": 0}));
    assert!(
        told.len() == 1 && told[0].contains("id 1 (`<s>`)") && told[0].contains("bos_token_id 0"),
        "{told:?}"
    );
    let told = notices(json!({"eos_token": "</s>"}), json!({"bos_token_id": 4}));
    assert!(
        told.len() == 1 && told[0].contains("id 2 (`</s>`), the tokenizer's EOS"),
        "{told:?}"
    );
    for (config, model) in [
        (json!({"bos_token": "<s>"}), json!({"bos_token_id": 1})),
        (json!({"bos_token": "<s>"}), json!({"bos_token_id": [0, 1]})),
        (json!({"bos_token": "<s>"}), json!({})),
        // Models whose BOS is their EOS.
        (json!({"eos_token": "</s>"}), json!({"bos_token_id": 2})),
    ] {
        assert_eq!(notices(config, model), [""; 0]);
    }
}

/// Tokens that only the files beside tokenizer.json know; ids are transformers' (AutoTokenizer).
#[test]
fn tokens_beside_the_tokenizer_are_added_as_transformers_does() {
    let none = Value::Null;
    let decoder = |id: &str, special: bool| {
        let token = json!({"content": "<x>", "lstrip": false, "rstrip": false, "normalized": false, "single_word": false, "special": special});
        json!({"bos_token": "<s>", "added_tokens_decoder": {id: token}})
    };
    let split = [3, 0, 4];
    for (what, files, ids, says) in [
        (
            "nowhere",
            [json!({"bos_token": "<s>"}), none.clone(), none.clone()],
            &split[..],
            "",
        ),
        (
            "added_tokens.json",
            [none.clone(), none.clone(), json!({"<x>": 5})],
            &[3, 5, 4],
            "`<x>` (id 5)",
        ),
        (
            "another id is stated",
            [none.clone(), none.clone(), json!({"<x>": 99})],
            &[3, 5, 4],
            "(id 5, stated is 99)",
        ),
        (
            "added_tokens_decoder",
            [decoder("7", true), none.clone(), none.clone()],
            &[3, 5, 4],
            "(id 5, stated is 7)",
        ),
        (
            "not special",
            [decoder("5", false), none.clone(), none.clone()],
            &[3, 5, 4],
            "`<x>` (id 5)",
        ),
        (
            "the older file does not count beside it",
            [decoder("5", true), none.clone(), json!({"<y>": 6})],
            &[3, 5, 4],
            "`<x>` (id 5)",
        ),
        (
            "additional_special_tokens",
            [
                json!({"bos_token": "<s>", "additional_special_tokens": ["<x>"]}),
                none.clone(),
                none.clone(),
            ],
            &[3, 5, 4],
            "`<x>` (id 5)",
        ),
        (
            "extra_special_tokens",
            [
                json!({"bos_token": "<s>", "extra_special_tokens": {"image_token": "<x>"}}),
                none.clone(),
                none.clone(),
            ],
            &[3, 5, 4],
            "`<x>` (id 5)",
        ),
        (
            "in the map",
            [
                none.clone(),
                json!({"additional_special_tokens": ["<x>"]}),
                none.clone(),
            ],
            &[3, 5, 4],
            "`<x>` (id 5)",
        ),
        (
            "the padding's, and a role of its own",
            [
                json!({"pad_token": "<p>", "image_token": "<x>"}),
                none.clone(),
                none.clone(),
            ],
            &[3, 6, 4],
            "`<p>` (id 5), `<x>` (id 6)",
        ),
        (
            "known, with a role",
            [json!({"bos_token": "two"}), none.clone(), none.clone()],
            &split,
            "",
        ),
    ] {
        let tokenizer = parse_all(&tokenizer_json(), files, json!({})).expect(what);
        assert_eq!(tokenizer.encode("one <x> two").expect("ids"), ids, "{what}");
        let told = tokenizer.notices().join("\n");
        assert!(told.contains(says), "{what}: {told}");
        assert_eq!(
            told.contains("are added"),
            !says.is_empty(),
            "{what}: {told}"
        );
    }
    // Of a token with two roles the later one's properties stay: no blank is taken in front of it.
    let token =
        json!({"__type": "AddedToken", "content": "<x>", "lstrip": true, "normalized": false});
    let files = [
        json!({"bos_token": token, "pad_token": "<x>"}),
        none.clone(),
        none.clone(),
    ];
    let mut spaces = tokenizer_json();
    spaces["pre_tokenizer"] = json!({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false});
    let tokenizer = parse_all(&spaces, files, json!({})).expect("parses");
    assert_eq!(tokenizer.encode("one <x>").expect("ids"), [3, 0, 5]);
    assert_eq!(tokenizer.notices()[0].matches("<x>").count(), 1);
    // Equal files beside unequal ones make other ids: one hash must not stand for both.
    let hash = |added: Value| {
        let files = [Value::Null, Value::Null, added];
        parse_all(&tokenizer_json(), files, json!({}))
            .expect("parses")
            .file()
    };
    assert_ne!(hash(json!({"<x>": 5})), hash(Value::Null));
}

/// Merges that are dropped at random would make other ids in every run.
#[test]
fn dropout_is_switched_off() {
    let mut tokenizer = without_template();
    let vocab: serde_json::Map<String, Value> = ["a", "b", "ab", "abab", "abababab"]
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token.to_owned(), json!(id)))
        .collect();
    tokenizer["model"] = json!({
        "type": "BPE", "dropout": 0.5, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "vocab": vocab, "merges": [["a", "b"], ["ab", "ab"], ["abab", "abab"]]
    });
    tokenizer["added_tokens"] = json!([]);
    let files = [Value::Null, Value::Null, Value::Null];
    let parsed = parse_all(&tokenizer, files, json!({})).expect("parses");
    for _ in 0..20 {
        assert_eq!(parsed.encode("abababab").expect("ids"), [4]);
    }
    assert!(
        parsed.notices()[0].contains("dropout 0.5"),
        "{:?}",
        parsed.notices()
    );
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
            vocabulary: Vocabulary::Fast(whole.as_bytes()[..end].to_vec()),
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
                vocabulary: Vocabulary::Fast(changed.to_string().into_bytes()),
                ..TokenizerFiles::default()
            };
            if let Ok(tokenizer) = Tokenizer::parse(&files, &model) {
                let _ = tokenizer.encode("one two");
            }
        }
    }
}
