//! Tokenising, and which ids serve as BOS and EOS.
#![forbid(unsafe_code)]

mod crossing;
mod seam;
mod start;

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use serde::de::IgnoredAny;
use serde_json::Value;

use super::config::Config;
use crate::{
    error::{Error, Result},
    interrupt, panics,
};

/// Bytes of text that take a noticeable time.
const LONG_TEXT: usize = 1 << 18;

/// A checkpoint's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    bos: Option<u32>,
    file: blake3::Hash,
}

/// The files that a tokenizer is read from; only the first is required.
#[derive(Debug, Default)]
pub struct TokenizerFiles {
    /// `tokenizer.json`
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`
    pub config: Option<Vec<u8>>,
    /// `special_tokens_map.json`
    pub special_tokens: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// Reads the files of `folder`; none when it has no tokenizer.json.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let read = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = folder.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
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
        }))
    }
}

impl Tokenizer {
    /// Parses the files; `model` supplies the ids when the tokenizer's files name no BOS or EOS.
    pub fn parse(files: &TokenizerFiles, model: &Config) -> Result<Self> {
        let invalid = |reason: &dyn std::fmt::Display| {
            Error::new("tokenizer.json", format!("not a valid tokenizer: {reason}"))
                .remedy("download it again, or save it anew with AutoTokenizer.save_pretrained")
        };
        // The library panics on some files, among them those that are cut short.
        serde_json::from_slice::<IgnoredAny>(&files.tokenizer).map_err(|error| invalid(&error))?;
        let mut inner = panics::caught(|| tokenizers::Tokenizer::from_bytes(&files.tokenizer))
            .ok_or_else(|| invalid(&"a part of it is not of the expected form"))?
            .map_err(|error| invalid(&error))?;
        // Settings for batching that a saved tokenizer may carry; windows are cut here.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| Error::new("tokenizer.json", error))?;
        let mut described = Vec::new();
        for (name, bytes) in [
            ("tokenizer_config.json", &files.config),
            ("special_tokens_map.json", &files.special_tokens),
        ] {
            if let Some(bytes) = bytes {
                let value: Value = serde_json::from_slice(bytes).map_err(|error| {
                    Error::new(name, format!("not valid JSON: {error}")).remedy("download it again")
                })?;
                described.push(value);
            }
        }
        let special = |role: &str| {
            described
                .iter()
                .find_map(|file| token_text(file.get(role)?))
                .and_then(|text| inner.token_to_id(text))
        };
        // As the reference: a tokenizer without BOS uses its EOS.
        let bos = special("bos_token")
            .or_else(|| special("eos_token"))
            .or_else(|| config_id(model, "bos_token_id"))
            .or_else(|| config_id(model, "eos_token_id"));
        Ok(Self {
            inner: Arc::new(inner),
            bos,
            file: blake3::hash(&files.tokenizer),
        })
    }

    /// Ids of `text`, without any special token added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.interruptible(text, encode)
    }

    /// The first ids of what [`Tokenizer::encode`] makes of `text`: at least `count`, or all that there
    /// are. Reads no more of the text than it must.
    pub fn encode_start(&self, text: &str, count: usize) -> Result<Vec<u32>> {
        match start::encode(self, text, count)? {
            Some(ids) => Ok(ids),
            None => self.encode(text),
        }
    }

    /// Does `work` on a text so that Ctrl-C ends it.
    fn interruptible<T: Send + 'static>(
        &self,
        text: &str,
        work: fn(&tokenizers::Tokenizer, &str) -> Result<T>,
    ) -> Result<T> {
        if text.len() < LONG_TEXT {
            return work(&self.inner, text);
        }
        // The library cannot be stopped, so that Ctrl-C has to leave its thread behind.
        let (inner, text) = (Arc::clone(&self.inner), text.to_owned());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // Nobody receives after an interrupt.
            let _ = sender.send(work(&inner, &text));
        });
        loop {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(
                        Error::new("tokenizer.json", "the tokenizer failed on this text")
                            .remedy("report the text and the model's name"),
                    );
                }
            }
        }
    }

    /// The text of one id, as a person would recognise it.
    pub fn token(&self, id: u32) -> String {
        match self.inner.decode(&[id], false) {
            Ok(text) if !text.is_empty() => text,
            _ => self
                .inner
                .id_to_token(id)
                .unwrap_or_else(|| format!("<{id}>")),
        }
    }

    /// BLAKE3 of tokenizer.json: equal files make the same ids of a text.
    pub fn file(&self) -> blake3::Hash {
        self.file
    }

    /// The id that starts a sequence, where there is one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer
        .encode_fast(text, false)
        .map_err(|error| unusable(&error))?;
    Ok(encoding.get_ids().to_vec())
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::new(
        "tokenizer.json",
        format!("it cannot encode the text: {error}"),
    )
    .remedy("the file may be damaged; download it again")
}

/// A special token is stored as a string or as an object with its `content`.
fn token_text(value: &Value) -> Option<&str> {
    value
        .as_str()
        .or_else(|| value.get("content").and_then(Value::as_str))
}

/// An id of config.json; some families list several, the first counts.
fn config_id(config: &Config, key: &str) -> Option<u32> {
    let value = config.get(key)?;
    let id = value
        .as_u64()
        .or_else(|| value.as_array()?.first()?.as_u64())?;
    u32::try_from(id).ok()
}
