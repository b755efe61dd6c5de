//! The files that a tokenizer is read from.
#![forbid(unsafe_code)]

use std::path::Path;

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    lfs,
    model::json,
};

/// The files that a tokenizer is read from; only the first is required.
#[derive(Debug, Default)]
pub struct TokenizerFiles {
    /// `tokenizer.json`
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`
    pub config: Option<Vec<u8>>,
    /// `special_tokens_map.json`
    pub special_tokens: Option<Vec<u8>>,
    /// `added_tokens.json`
    pub added_tokens: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// Reads the files of `folder`; none when it has no tokenizer.json.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let read = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    lfs::refuse_pointer(path.display(), &bytes)?;
                    Ok(Some(bytes))
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::new(path.display(), error)),
            }
        };
        let Some(tokenizer) = read("tokenizer.json")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            tokenizer,
            config: read("tokenizer_config.json")?,
            special_tokens: read("special_tokens_map.json")?,
            added_tokens: read("added_tokens.json")?,
        }))
    }

    /// The files beside tokenizer.json.
    pub(super) fn beside(&self) -> Result<Beside> {
        Ok(Beside {
            config: object("tokenizer_config.json", self.config.as_deref())?,
            special_tokens: object("special_tokens_map.json", self.special_tokens.as_deref())?,
            added_tokens: object("added_tokens.json", self.added_tokens.as_deref())?,
        })
    }
}

/// The files beside tokenizer.json; empty where they are not there.
pub(super) struct Beside {
    pub(super) config: Map<String, Value>,
    pub(super) special_tokens: Map<String, Value>,
    pub(super) added_tokens: Map<String, Value>,
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
