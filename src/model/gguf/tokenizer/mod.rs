//! The tokenizer that a file's metadata describe, as the tokenizer.json that the original model has.
#![forbid(unsafe_code)]

mod byte_level;
mod pieces;
mod split;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        tokenizer::{TokenizerFiles, Vocabulary},
        weights::gguf::Metadata,
    },
};

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";

/// What a token is, by the numbers of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens of a file, by id.
struct Tokens<'f> {
    tokens: Vec<(&'f str, Role)>,
    ids: HashMap<&'f str, usize>,
}

/// tokenizer.json and what lies beside it; none, with a notice, where the file does not say how the
/// model's texts are split.
pub(super) fn files(metadata: &Metadata<'_>, config: &Config) -> Result<Option<TokenizerFiles>> {
    let Some(model) = metadata.text(MODEL)? else {
        return Ok(None);
    };
    let without = |reason: String| {
        config.notice(format!(
            "{reason}, so that texts cannot be tokenised; give --token-ids"
        ));
        Ok(None)
    };
    let built = match model {
        "none" | "no_vocab" => return Ok(None),
        "gpt2" => {
            let Some(split) = split::of(metadata)? else {
                let pre = metadata.text(split::KEY)?.unwrap_or("nothing");
                return without(format!(
                    "`{}` says {pre}, which is no way of splitting a text that massact knows",
                    split::KEY
                ));
            };
            byte_level::json(metadata, &Tokens::read(metadata)?, &split)?
        }
        "llama" => pieces::json(metadata, &Tokens::read(metadata)?)?,
        other => {
            return without(format!(
                "`{MODEL}` is `{other}`, which massact does not build"
            ));
        }
    };
    Ok(Some(TokenizerFiles {
        vocabulary: Vocabulary::Fast(built.to_string().into_bytes()),
        config: Some(special(metadata)?.to_string().into_bytes()),
        ..TokenizerFiles::default()
    }))
}

/// tokenizer_config.json: which tokens begin and end a text, and how conversations are written.
fn special(metadata: &Metadata<'_>) -> Result<Value> {
    let tokens = metadata.texts(TOKENS)?.unwrap_or_default();
    let mut roles = Map::new();
    for (role, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
    ] {
        let id = metadata
            .unsigned(key)?
            .and_then(|id| usize::try_from(id).ok());
        if let Some(token) = id.and_then(|id| tokens.get(id)) {
            roles.insert(role.to_owned(), json!(token));
        }
    }
    if let Some(template) = metadata.text("tokenizer.chat_template")? {
        roles.insert("chat_template".to_owned(), json!(template));
    }
    Ok(Value::Object(roles))
}

impl<'f> Tokens<'f> {
    fn read(metadata: &Metadata<'f>) -> Result<Self> {
        let error = |key: &str, reason: String| {
            Error::new(format!("`{key}`"), reason).remedy(super::keys::REMEDY)
        };
        let texts = metadata.texts(TOKENS)?.unwrap_or_default();
        if texts.is_empty() {
            return Err(error(TOKENS, "there are no tokens".to_owned()));
        }
        let roles = match metadata.numbers(TYPES)? {
            None => vec![1.0; texts.len()],
            Some(roles) if roles.len() == texts.len() => roles,
            Some(roles) => {
                return Err(error(
                    TYPES,
                    format!("it has {} entries for {} tokens", roles.len(), texts.len()),
                ));
            }
        };
        let mut ids = HashMap::new();
        let mut tokens = Vec::new();
        for (id, (text, role)) in texts.into_iter().zip(roles).enumerate() {
            let role = match role as i64 {
                2 => Role::Unknown,
                3 => Role::Control,
                4 => Role::UserDefined,
                5 => Role::Unused,
                6 => Role::Byte,
                _ => Role::Normal,
            };
            if role != Role::Unused && ids.insert(text, id).is_some() {
                return Err(error(TOKENS, format!("`{text}` is there twice")));
            }
            tokens.push((text, role));
        }
        Ok(Self { tokens, ids })
    }

    /// The token with the id that a key names.
    fn named(&self, metadata: &Metadata<'_>, key: &str) -> Result<Option<&'f str>> {
        let id = metadata
            .unsigned(key)?
            .and_then(|id| usize::try_from(id).ok());
        Ok(id.and_then(|id| self.tokens.get(id)).map(|(text, _)| *text))
    }

    /// All tokens that a text may have, with their ids.
    fn json(&self) -> Value {
        let ids = self.ids.iter();
        Value::Object(
            ids.map(|(text, id)| ((*text).to_owned(), json!(id)))
                .collect(),
        )
    }

    /// Tokens that are found in a text before it is split.
    fn added(&self) -> Value {
        let added = self
            .tokens
            .iter()
            .enumerate()
            .filter_map(|(id, (text, role))| {
                let special = matches!(role, Role::Control | Role::Unknown);
                let added = (special || *role == Role::UserDefined) && !text.is_empty();
                added.then(|| {
                    json!({
                        "id": id, "content": text, "single_word": false, "lstrip": false,
                        "rstrip": false, "normalized": false, "special": special,
                    })
                })
            });
        added.collect()
    }
}

/// A tokenizer.json.
fn document(vocabulary: &Tokens<'_>, steps: [Value; 3], model: Value) -> Value {
    let [normalizer, pre_tokenizer, decoder] = steps;
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": decoder,
        "model": model,
    })
}
