//! From pairs of texts to tokens, as both harnesses do (`_encode_pair` in lm-eval, `tok_encode_pair` in
//! lighteval): white space at the context's end goes to the continuation, and the continuation's tokens
//! are those of the whole text behind as many as the context alone has.

use std::path::PathBuf;

use super::{
    item::{Choice, Convention, Read, Right},
    python::rstrip,
};
use crate::{
    error::{Error, Result},
    interrupt,
    model::{Model, tokenizer::Tokenizer},
};

/// The items of a task, ready to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name in the results.
    pub name: String,
    /// Whose prompts.
    pub convention: Convention,
    /// Whether it has an accuracy by likelihood a character, too.
    pub normed: bool,
    /// In the file's order.
    pub items: Vec<TaskItem>,
}

/// A question with its answers.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskItem {
    /// Its row in the file, from 1.
    pub row: u64,
    /// Which answers are right.
    pub right: Right,
    /// The answers.
    pub choices: Vec<Request>,
}

/// One answer: how likely are the last tokens after those before them?
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the model reads: context and continuation without its last token.
    pub ids: Vec<u32>,
    /// The position that predicts the continuation's first token.
    pub from: usize,
    /// The continuation's last token, which need not be read.
    pub last: u32,
    /// Characters of the answer.
    pub characters: usize,
}

impl Request {
    /// Tokens of the continuation.
    pub fn tokens(&self) -> usize {
        self.ids.len() - self.from
    }
}

/// Makes tokens of items.
pub(super) struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    /// The text of the token that starts a sequence; a text that begins with it gets no other.
    start: Option<String>,
    /// Whether every text begins with that token; none for what the tokenizer does by itself.
    add_start: Option<bool>,
    /// Tokens that the model reads at most.
    longest: usize,
}

impl<'a> Encoder<'a> {
    pub(super) fn of(tokenizer: &'a Tokenizer, model: &Model, add_start: Option<bool>) -> Self {
        Self {
            tokenizer,
            start: tokenizer.bos().map(|id| tokenizer.token(id)),
            add_start,
            longest: model.spec.longest().map_or(usize::MAX, |(count, _)| count),
        }
    }

    pub(super) fn items(
        &self,
        items: &[Read],
        files: &[(String, PathBuf)],
    ) -> Result<Vec<TaskItem>> {
        let encoded = items.iter().map(|Read { file, item }| {
            interrupt::check()?;
            let choices = item.choices.iter().enumerate().map(|(index, choice)| {
                self.request(choice).map_err(|reason| match reason {
                    Refused::Tokenizer(error) => error,
                    Refused::Choice(reason) => Error::new(
                        format!("{}: row {}: choice {index}", files[*file].0, item.row),
                        reason,
                    )
                    .remedy("change the item or leave it out"),
                })
            });
            Ok(TaskItem {
                row: item.row,
                right: item.right.clone(),
                choices: choices.collect::<Result<_>>()?,
            })
        });
        encoded.collect()
    }

    fn request(&self, choice: &Choice) -> Result<Request, Refused> {
        let (context, continuation) = self.pair(&choice.context, &choice.continuation)?;
        if context.is_empty() {
            return Err(Refused::Choice("its context has no token".to_owned()));
        }
        let Some(last) = continuation.last().copied() else {
            return Err(Refused::Choice(
                "it has no token behind those of the context".to_owned(),
            ));
        };
        if continuation.len() > self.longest {
            return Err(Refused::Choice(format!(
                "it has {} tokens, but the model has {} positions",
                continuation.len(),
                self.longest
            )));
        }
        let count = continuation.len();
        let mut ids = context;
        ids.extend(continuation);
        ids.pop();
        // What is too long loses its beginning.
        ids.drain(..ids.len().saturating_sub(self.longest));
        Ok(Request {
            from: ids.len() - count,
            ids,
            last,
            characters: choice.characters,
        })
    }

    fn pair(&self, context: &str, continuation: &str) -> Result<(Vec<u32>, Vec<u32>), Refused> {
        if context.is_empty() {
            let mut tokens = self.tokenizer.encode(continuation)?;
            let Some(start) = self.tokenizer.bos() else {
                return Err(Refused::Choice(
                    "its context is empty, and the tokenizer has no token to begin with".to_owned(),
                ));
            };
            if tokens.first() == Some(&start) {
                tokens.remove(0);
            }
            return Ok((vec![start], tokens));
        }
        let whole = format!("{context}{continuation}");
        let context = self.encode(rstrip(context))?;
        let mut whole = self.encode(&whole)?;
        let continuation = whole.split_off(context.len().min(whole.len()));
        Ok((context, continuation))
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, Refused> {
        let marked = self.start.as_ref();
        let begins = marked.is_some_and(|start| text.starts_with(start.as_str()));
        if begins {
            return Ok(self.tokenizer.encode(text)?);
        }
        Ok(match self.add_start {
            None => self.tokenizer.encode_marked(text)?,
            Some(add) => {
                let start = self.tokenizer.bos().filter(|_| add);
                let ids = self.tokenizer.encode(text)?;
                start.into_iter().chain(ids).collect()
            }
        })
    }
}

/// Why a choice is no request.
enum Refused {
    Tokenizer(Error),
    Choice(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Tokenizer(error)
    }
}
