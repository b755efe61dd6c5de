//! Sentencepiece's byte-pair encoding: pieces with scores, bytes for what no piece covers.
//!
//! As transformers converts it (`LlamaConverter`, `GemmaConverter`, `generate_merges`): two pieces merge
//! where together they are one, the better its score the earlier.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{Role, Tokens, document};
use crate::{
    error::{Error, Result},
    model::weights::gguf::Metadata,
};

const SCORES: &str = "tokenizer.ggml.scores";
const PREFIX: &str = "tokenizer.ggml.add_space_prefix";
/// Bytes of the longest piece; sentencepiece's are far shorter.
const LONGEST: usize = 1024;

/// tokenizer.json of a vocabulary with scores.
pub(super) fn json(metadata: &Metadata<'_>, vocabulary: &Tokens<'_>) -> Result<Value> {
    let error = |key: &str, reason: String| {
        Error::new(format!("`{key}`"), reason).remedy(super::super::keys::REMEDY)
    };
    let Some(scores) = metadata.numbers(SCORES)? else {
        return Err(error(SCORES, "it is missing".to_owned()));
    };
    if scores.len() != vocabulary.tokens.len() {
        let (scores, tokens) = (scores.len(), vocabulary.tokens.len());
        return Err(error(
            SCORES,
            format!("it has {scores} entries for {tokens} tokens"),
        ));
    }
    if vocabulary
        .tokens
        .iter()
        .any(|(text, _)| text.len() > LONGEST)
    {
        return Err(error(
            super::TOKENS,
            format!("a piece has more than {LONGEST} bytes"),
        ));
    }
    let bytes = (0..=255u8).all(|byte| {
        vocabulary
            .ids
            .contains_key(format!("<0x{byte:02X}>").as_str())
    });
    let unknown = vocabulary
        .tokens
        .iter()
        .find(|(_, role)| *role == Role::Unknown);
    let unknown = match unknown {
        Some((text, _)) => Some(*text),
        None => vocabulary.named(metadata, "tokenizer.ggml.unknown_token_id")?,
    };
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": bytes,
        "ignore_merges": false,
        "vocab": vocabulary.json(),
        "merges": merges(vocabulary, &scores),
    });
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let (normalizer, pre_tokenizer) = if metadata.flag(PREFIX)?.unwrap_or(true) {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        let prefix = json!({"type": "Prepend", "prepend": "▁"});
        (
            json!({"type": "Sequence", "normalizers": [prefix, spaces]}),
            Value::Null,
        )
    } else {
        (spaces, Value::Null)
    };
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    Ok(document(
        vocabulary,
        [normalizer, pre_tokenizer, decoder],
        model,
    ))
}

/// Pairs of pieces, the best first: by the score of what they make, then the longer first part.
fn merges<'f>(vocabulary: &Tokens<'f>, scores: &[f64]) -> Vec<[&'f str; 2]> {
    let normal = |text: &str| {
        let id = vocabulary.ids.get(text)?;
        matches!(vocabulary.tokens[*id].1, Role::Normal | Role::UserDefined).then_some(*id)
    };
    let mut found = Vec::new();
    for (whole, (text, _)) in vocabulary.tokens.iter().enumerate() {
        if normal(text) != Some(whole) {
            continue;
        }
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if normal(left).is_some() && normal(right).is_some() {
                let lengths = (left.chars().count(), right.chars().count());
                found.push((scores[whole], lengths, [left, right]));
            }
        }
    }
    // As Python's the sort keeps the order of what is equal.
    found.sort_by(|a, b| (b.0.total_cmp(&a.0)).then(b.1.cmp(&a.1)));
    found.into_iter().map(|(_, _, pair)| pair).collect()
}
