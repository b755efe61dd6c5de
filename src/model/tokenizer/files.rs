//! The files that a tokenizer is read from.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::{Map, Value};

use super::chat;
use crate::{
    error::{Error, Result},
    files, lfs,
    model::json,
};

/// The file that a tokenizer's tokens are in.
#[derive(Debug)]
pub enum Vocabulary {
    /// `tokenizer.json`, which says all there is to know.
    Fast(Vec<u8>),
    /// `vocab.json` and `merges.txt`.
    Merges {
        /// Tokens and their ids.
        vocab: Vec<u8>,
        /// What is put together first.
        merges: Vec<u8>,
    },
    /// `tokenizer.model`, of sentencepiece.
    SentencePiece(Vec<u8>),
    /// `tiktoken.model`
    Tiktoken(Vec<u8>),
}

impl Default for Vocabulary {
    fn default() -> Self {
        Self::Fast(Vec::new())
    }
}

impl Vocabulary {
    /// Reads the files that `folder` has; none if it has none.
    fn open(folder: &Path) -> Result<Option<Self>> {
        let names = vocabulary_of(folder).iter();
        let contents = names.map(|name| required(&folder.join(name), files::VOCABULARY));
        let mut contents = contents.collect::<Result<Vec<_>>>()?;
        Ok(match (vocabulary_of(folder), contents.pop()) {
            (&[FAST], Some(bytes)) => Some(Self::Fast(bytes)),
            (&[SENTENCE_PIECE], Some(bytes)) => Some(Self::SentencePiece(bytes)),
            (&[TIKTOKEN], Some(bytes)) => Some(Self::Tiktoken(bytes)),
            (_, Some(merges)) => contents.pop().map(|vocab| Self::Merges { vocab, merges }),
            (_, None) => None,
        })
    }

    /// The file's name, the first of two.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Fast(_) => FAST,
            Self::Merges { .. } => VOCAB,
            Self::SentencePiece(_) => SENTENCE_PIECE,
            Self::Tiktoken(_) => TIKTOKEN,
        }
    }

    /// The content of its files.
    pub(super) fn parts(&self) -> Vec<&[u8]> {
        match self {
            Self::Fast(bytes) | Self::SentencePiece(bytes) | Self::Tiktoken(bytes) => vec![bytes],
            Self::Merges { vocab, merges } => vec![vocab, merges],
        }
    }
}

/// The files that tokens may be in, in the order of preference: of the first that are all there they are
/// read.
const VOCABULARIES: [&[&str]; 4] = [&[FAST], &[SENTENCE_PIECE], &[TIKTOKEN], &[VOCAB, MERGES]];

/// The files of `folder` that its tokens are read from.
pub fn vocabulary_of(folder: &Path) -> &'static [&'static str] {
    let is_there = |name: &&str| files::is_there(&folder.join(name));
    let whole = |names: &&&[&str]| names.iter().all(is_there);
    VOCABULARIES.iter().find(whole).copied().unwrap_or_default()
}

const FAST: &str = "tokenizer.json";
const SENTENCE_PIECE: &str = "tokenizer.model";
const TIKTOKEN: &str = "tiktoken.model";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";

/// The files that a tokenizer is read from; only the first is required.
#[derive(Debug, Default)]
pub struct TokenizerFiles {
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// `tokenizer_config.json`
    pub config: Option<Vec<u8>>,
    /// `special_tokens_map.json`
    pub special_tokens: Option<Vec<u8>>,
    /// `added_tokens.json`
    pub added_tokens: Option<Vec<u8>>,
    /// `chat_template.jinja`
    pub chat_template: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// Reads the files of `folder`; none when it has no tokens.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let read = |name: &str| {
            let path = folder.join(name);
            files::is_there(&path)
                .then(|| required(&path, files::DESCRIPTION))
                .transpose()
        };
        let Some(vocabulary) = Vocabulary::open(folder)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            vocabulary,
            config: read("tokenizer_config.json")?,
            special_tokens: read("special_tokens_map.json")?,
            added_tokens: read("added_tokens.json")?,
            chat_template: read(chat::FILE)?,
        }))
    }

    /// The files beside the vocabulary.
    pub(super) fn beside(&self) -> Result<Beside> {
        Ok(Beside {
            config: object("tokenizer_config.json", self.config.as_deref())?,
            special_tokens: object("special_tokens_map.json", self.special_tokens.as_deref())?,
            added_tokens: object("added_tokens.json", self.added_tokens.as_deref())?,
        })
    }
}

/// The files beside the vocabulary; empty where they are not there.
pub(super) struct Beside {
    pub(super) config: Map<String, Value>,
    pub(super) special_tokens: Map<String, Value>,
    pub(super) added_tokens: Map<String, Value>,
}

fn required(path: &Path, most: u64) -> Result<Vec<u8>> {
    let bytes = files::read(path, most).map_err(|error| Error::unread(path, error))?;
    lfs::refuse_pointer(path.display(), &bytes)?;
    Ok(bytes)
}

fn object(name: &str, text: Option<&[u8]>) -> Result<Map<String, Value>> {
    let Some(text) = text else {
        return Ok(Map::new());
    };
    let error = |reason: String| {
        Error::new(name, reason)
            .remedy("correct it, or save the tokenizer anew with AutoTokenizer.save_pretrained")
    };
    match json::parse(text) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(error("not a JSON object".to_owned())),
        Err(reason) => Err(error(format!("not valid JSON: {reason}"))),
    }
}
