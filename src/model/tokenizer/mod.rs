//! Tokenising, and which id starts a sequence.
#![forbid(unsafe_code)]

mod charsmap;
mod chat;
mod crossing;
mod files;
mod growth;
mod prefix;
mod seam;
mod slow;
mod special;
mod start;
mod unbroken;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use serde_json::Value;
use tokenizers::{AddedToken, models::ModelWrapper};

use chat::ChatTemplate;
pub use files::{TokenizerFiles, Vocabulary, vocabulary_of};
use growth::Rules;
use special::Special;
use start::Start;

use super::config::Config;
use crate::{
    error::{Error, Result},
    interrupt, panics,
};

/// Bytes of text that take a noticeable time.
const LONG_TEXT: usize = 1 << 18;
/// Tokens that are named in a notice.
const NAMED: usize = 4;

/// A checkpoint's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    bos: Option<u32>,
    /// Whether the files beside a vocabulary without tokenizer.json say that a text begins with BOS.
    adds_bos: bool,
    file: blake3::Hash,
    /// The file with its tokens, for messages.
    name: &'static str,
    notices: Vec<String>,
    chat: ChatTemplate,
}

impl Tokenizer {
    /// Parses the files; `model` supplies the ids when the tokenizer's files name no BOS or EOS.
    pub fn parse(files: &TokenizerFiles, model: &Config) -> Result<Self> {
        let name = files.vocabulary.name();
        let mut notices = Vec::new();
        let mut file = blake3::Hasher::new();
        for part in files.vocabulary.parts() {
            file.update(part);
        }
        let mut adds_bos = false;
        let beside = files.beside()?;
        let template = chat::template(files.chat_template.as_deref(), &beside.config);
        let (mut inner, special, post_processor) = match &files.vocabulary {
            Vocabulary::Fast(text) => {
                let (mut inner, post_processor) = fast(text)?;
                notices.extend(without_dropout(&mut inner));
                (inner, Special::read(&beside), post_processor)
            }
            other => {
                adds_bos = beside.config.get("add_bos_token") == Some(&Value::Bool(true));
                let built = slow::build(other, beside, model)?;
                file.update(built.settings.as_bytes());
                (built.tokenizer, built.special, None)
            }
        };
        let adding = special.to_add(&inner);
        if !adding.is_empty() {
            file.update(format!("{adding:?}").as_bytes());
            notices.extend(add(&mut inner, adding, &special, name)?);
        }
        let chat = ChatTemplate::new(template, special.texts());
        let start = Start::choose(&inner, &special, post_processor.as_ref(), model);
        notices.extend(start.notice);
        Ok(Self {
            inner: Arc::new(inner),
            bos: start.id,
            adds_bos,
            file: file.finalize(),
            name,
            notices,
            chat,
        })
    }

    /// What the checkpoint's chat template makes of a conversation in which a user has said `text`, up to where the
    /// model is to continue.
    pub fn chat(&self, text: &str) -> Result<String> {
        self.chat.turn(text)
    }

    /// Why the files are left alone, if they are: a model without tokenizer runs on ids.
    pub(super) fn unread(files: &TokenizerFiles, model: &Config) -> Result<Option<String>> {
        Ok(slow::unread(&files.vocabulary, &files.beside()?, model))
    }

    /// What a user should know of how it was read, one line each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Ids of `text`, without any special token added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.interruptible(text, encode)
    }

    /// Ids of `text` with the special tokens that the tokenizer puts around any text by itself, as
    /// transformers does where nobody asks otherwise.
    pub fn encode_marked(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.interruptible(text, encode_marked)?;
        let bos = self.bos.filter(|_| self.adds_bos);
        Ok(bos.into_iter().chain(ids).collect())
    }

    /// The first ids of what [`Tokenizer::encode`] makes of `text`: at least `count`, or all that there
    /// are. Reads no more of the text than it must.
    pub fn encode_start(&self, text: &str, count: usize) -> Result<Vec<u32>> {
        match prefix::encode(self, text, count)? {
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
        // The library panics on a text where rules of normalisation are damaged.
        let work = move |inner: &tokenizers::Tokenizer, text: &str| {
            panics::caught(|| work(inner, text))
                .unwrap_or_else(|| Err(unusable(&"a part of it is not of the expected form")))
        };
        if text.len() < LONG_TEXT {
            return work(&self.inner, text);
        }
        unbroken::check(text)?;
        // The library cannot be stopped, so that Ctrl-C has to leave its thread behind.
        let (inner, text) = (Arc::clone(&self.inner), text.to_owned());
        let (sender, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .spawn(move || {
                // Nobody receives after an interrupt.
                let _ = sender.send(work(&inner, &text));
            })
            .map_err(|error| {
                Error::new(self.name, format!("no thread for a long text: {error}"))
                    .remedy("raise the limit on memory or processes that the shell or the job sets")
            })?;
        loop {
            match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(self.name, "the tokenizer failed on this text")
                        .remedy("report the text and the model's name"));
                }
            }
        }
    }

    /// The text of one id, as a person would recognise it.
    pub fn token(&self, id: u32) -> String {
        // The library panics on some ids where rules of decoding are damaged.
        match panics::caught(|| self.inner.decode(&[id], false)) {
            Some(Ok(text)) if !text.is_empty() => text,
            _ => self
                .inner
                .id_to_token(id)
                .unwrap_or_else(|| format!("<{id}>")),
        }
    }

    /// BLAKE3 of what makes a text's ids: the files of its tokens, what is done to a text where these do
    /// not say it, and the tokens added to them.
    pub fn file(&self) -> blake3::Hash {
        self.file
    }

    /// The id that starts a sequence, where there is one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }
}

/// The tokenizer of tokenizer.json, and what it does with the ids of a text, which is not done here.
fn fast(text: &[u8]) -> Result<(tokenizers::Tokenizer, Option<Value>)> {
    let invalid = |reason: &dyn std::fmt::Display| {
        Error::new("tokenizer.json", format!("not a valid tokenizer: {reason}"))
            .remedy("download it again, or save it anew with AutoTokenizer.save_pretrained")
    };
    // The library panics on some files, among them those that are cut short.
    let rules: Rules = serde_json::from_slice(text).map_err(|error| invalid(&error))?;
    rules.check().map_err(|reason| invalid(&reason))?;
    let mut inner = panics::caught(|| tokenizers::Tokenizer::from_bytes(text))
        .ok_or_else(|| invalid(&"a part of it is not of the expected form"))?
        .map_err(|error| invalid(&error))?;
    // Settings for batching that a saved tokenizer may carry; windows are cut here.
    inner.with_padding(None);
    inner
        .with_truncation(None)
        .map_err(|error| Error::new("tokenizer.json", error))?;
    let post_processor = Some(rules.post_processor).filter(|rule| !rule.is_null());
    Ok((inner, post_processor))
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    ids(tokenizer, text, false)
}

fn encode_marked(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    ids(tokenizer, text, true)
}

fn ids(tokenizer: &tokenizers::Tokenizer, text: &str, special: bool) -> Result<Vec<u32>> {
    let encoding = tokenizer
        .encode_fast(text, special)
        .map_err(|error| unusable(&error))?;
    Ok(encoding.get_ids().to_vec())
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::new("tokenizer", format!("it cannot encode the text: {error}"))
        .remedy("save the tokenizer anew with AutoTokenizer.save_pretrained")
}

/// Switches off what makes the tokens of a text a matter of chance.
fn without_dropout(tokenizer: &mut tokenizers::Tokenizer) -> Option<String> {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return None;
    };
    let dropout = model.dropout.filter(|dropout| *dropout > 0.0)?;
    let mut model = model.clone();
    model.dropout = None;
    tokenizer.with_model(model);
    Some(format!(
        "tokenizer.json drops merges at random (dropout {dropout}), which is switched off"
    ))
}

/// Adds tokens that the vocabulary lacks or has with other properties, and says which are new.
fn add(
    tokenizer: &mut tokenizers::Tokenizer,
    adding: Vec<AddedToken>,
    special: &Special,
    name: &str,
) -> Result<Option<String>> {
    let new = adding.iter().map(|token| token.content.clone());
    let mut new: Vec<String> = new
        .filter(|content| tokenizer.token_to_id(content).is_none())
        .collect();
    // A token may have two roles; those that are new have ids in this order.
    let mut seen = HashSet::new();
    new.retain(|content| seen.insert(content.clone()));
    panics::caught(|| tokenizer.add_tokens(adding))
        .and_then(|added| added.ok())
        .ok_or_else(|| {
            Error::new(
                "tokenizer_config.json",
                "it names tokens that cannot be added",
            )
            .remedy("save the tokenizer anew with AutoTokenizer.save_pretrained")
        })?;
    let described = new.iter().filter_map(|content| {
        let id = tokenizer.token_to_id(content)?;
        let stated = special
            .stated_id(content)
            .filter(|stated| *stated != u64::from(id));
        let stated = stated.map_or_else(String::new, |stated| format!(", stated is {stated}"));
        Some(format!("`{content}` (id {id}{stated})"))
    });
    let described: Vec<String> = described.collect();
    if described.is_empty() {
        return Ok(None);
    }
    let more = match described.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Ok(Some(format!(
        "tokens that {name} lacks and the files beside it name are added, as transformers does: {}{more}",
        described[..described.len().min(NAMED)].join(", ")
    )))
}
