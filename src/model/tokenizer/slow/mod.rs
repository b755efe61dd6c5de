//! Tokenizers without tokenizer.json, built from the files that it is otherwise made of, step by step
//! as transformers 5 builds them (`TokenizersBackend.convert_to_native_format`,
//! `convert_slow_tokenizer.py`, and the classes in `models/*/tokenization_*.py`).
#![forbid(unsafe_code)]

mod byte_level;
mod class;
mod merges;
mod pieces;
mod pipeline;
mod sentencepiece;
mod tiktoken;

use std::fmt;

use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use class::Class;

use super::{
    files::{Beside, Vocabulary},
    special::Special,
};
use crate::{
    error::{Error, Result},
    model::config::Config,
    panics,
};

/// What to do about files that no tokenizer can be made of.
const ANEW: &str = "download them again, or save a tokenizer.json with AutoTokenizer.from_pretrained(..).save_pretrained(..)";

/// A tokenizer before the tokens that only the files beside its vocabulary name.
pub(super) struct Built {
    pub(super) tokenizer: Tokenizer,
    pub(super) special: Special,
    /// What beside the vocabulary decides about ids, in words that change when it does.
    pub(super) settings: String,
}

/// Why these files are left alone, if they are: what transformers makes of them needs code that is not
/// here. A model without tokenizer runs on ids.
pub(super) fn unread(vocabulary: &Vocabulary, beside: &Beside, model: &Config) -> Option<String> {
    // tokenizer.json says what is done whatever the class.
    if matches!(vocabulary, Vocabulary::Fast(_)) {
        return None;
    }
    let class = match Class::of(&beside.config, model) {
        Ok(class) => class,
        Err(name) => return Some(format!("{name} is a tokenizer that massact does not know")),
    };
    let of_bytes = matches!(vocabulary, Vocabulary::Merges { .. });
    (of_bytes != class.is_byte_level()).then(|| {
        format!(
            "the tokenizer of this model ({class:?}) is not made of {}",
            vocabulary.name()
        )
    })
}

/// Builds what transformers would build.
pub(super) fn build(vocabulary: &Vocabulary, mut beside: Beside, model: &Config) -> Result<Built> {
    let class = Class::of(&beside.config, model).map_err(|name| {
        Error::new(vocabulary.name(), format!("{name} is not known")).remedy(ANEW)
    })?;
    for (role, token) in class.named() {
        default(&mut beside.config, role, token);
    }
    let invalid = |name: &str, reason: &dyn fmt::Display| {
        Error::new(name, format!("not a valid vocabulary: {reason}")).remedy(ANEW)
    };
    let settings = Settings::read(&beside.config);
    let built = match vocabulary {
        Vocabulary::Merges { vocab, merges } => {
            let vocab = merges::vocab(vocab).map_err(|reason| invalid("vocab.json", &reason))?;
            let merges = merges::merges(merges).map_err(|reason| invalid("merges.txt", &reason))?;
            let special = Special::read(&beside);
            // The library panics on some of what it refuses.
            panics::caught(|| byte_level::build(class, vocab, merges, settings))
                .unwrap_or_else(|| Err("the two files do not fit together".to_owned()))
                .map(|tokenizer| (tokenizer, special))
        }
        Vocabulary::Tiktoken(bytes) => {
            let special = Special::read(&beside);
            panics::caught(|| tiktoken::build(bytes, &special))
                .unwrap_or_else(|| Err("its ranks do not fit together".to_owned()))
                .map(|tokenizer| (tokenizer, special))
        }
        Vocabulary::SentencePiece(bytes) if tiktoken::is_it(bytes) => {
            let special = Special::read(&beside);
            panics::caught(|| tiktoken::build(bytes, &special))
                .unwrap_or_else(|| Err("its ranks do not fit together".to_owned()))
                .map(|tokenizer| (tokenizer, special))
        }
        Vocabulary::SentencePiece(bytes) => sentencepiece::Model::parse(bytes).and_then(|found| {
            panics::caught(|| pieces::build(class, &found, beside, settings))
                .unwrap_or_else(|| Err("its pieces do not fit together".to_owned()))
        }),
        Vocabulary::Fast(_) => Err("it is tokenizer.json".to_owned()),
    };
    let (tokenizer, special) = built.map_err(|reason| invalid(vocabulary.name(), &reason))?;
    Ok(Built {
        tokenizer,
        special,
        settings: format!("{class:?} {settings:?}"),
    })
}

/// Names a token by its role, unless a file does.
fn default(config: &mut Map<String, Value>, role: &str, token: &str) {
    config
        .entry(role)
        .or_insert_with(|| Value::String(token.to_owned()));
}

/// What tokenizer_config.json says of the text before it is cut.
#[derive(Debug, Clone, Copy)]
struct Settings {
    add_prefix_space: Option<bool>,
    /// Whether every piece of text between special tokens gets a space in front, as in the first
    /// releases of Llama; none where nothing is said.
    legacy: Option<bool>,
}

impl Settings {
    fn read(config: &Map<String, Value>) -> Self {
        Self {
            add_prefix_space: config.get("add_prefix_space").and_then(Value::as_bool),
            // Null is said, and no.
            legacy: config
                .get("legacy")
                .map(|legacy| legacy.as_bool() == Some(true)),
        }
    }
}
