//! How a model wants a conversation written: its chat template (transformers `chat_template_utils.py`,
//! `_compile_jinja_template`, and `apply_chat_template`).
#![forbid(unsafe_code)]

mod apart;
mod render;

use std::fmt::Display;

use serde_json::{Map, Value};

pub use self::apart::{ARGUMENT, serve, use_own_program};
use self::{apart::rendered, render::Turn};
use crate::error::{Error, Result};

/// The file that has the template, before tokenizer_config.json.
pub(super) const FILE: &str = "chat_template.jinja";
/// Of several templates the one that counts.
const DEFAULT: &str = "default";
/// Bytes of a template: several times those of the longest known.
const LONGEST: usize = 256 << 10;

/// A checkpoint's template, or why it cannot be told which it is; none without one.
pub(super) type Source = Option<std::result::Result<String, String>>;

/// Of the file, or of tokenizer_config.json.
pub(super) fn template(file: Option<&[u8]>, config: &Map<String, Value>) -> Source {
    match (file, config.get("chat_template")) {
        (Some(file), _) => match std::str::from_utf8(file) {
            Ok(text) => Some(Ok(text.to_owned())),
            Err(_) => Some(Err("the template is not UTF-8".to_owned())),
        },
        (None, None | Some(Value::Null)) => None,
        (None, Some(Value::String(text))) => Some(Ok(text.clone())),
        (None, Some(list)) => Some(of_several(list)),
    }
}

/// A template, and the tokens that it may name.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    source: Source,
    /// By role.
    tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    pub(super) fn new(source: Source, tokens: Vec<(String, String)>) -> Self {
        Self { source, tokens }
    }

    /// What the model is to continue after a user has said `text`.
    pub(super) fn turn(&self, text: &str) -> Result<String> {
        let source = match &self.source {
            Some(Ok(source)) => source,
            Some(Err(reason)) => return Err(bad(reason)),
            None => {
                return Err(Error::new(
                    "--chat",
                    format!("the checkpoint has no chat template ({FILE}, or `chat_template` in tokenizer_config.json)"),
                )
                .remedy("leave out --chat, or take a checkpoint that was trained on conversations"));
            }
        };
        if source.len() > LONGEST {
            let reason = format!("{} bytes are more than {LONGEST}", source.len());
            return Err(bad(&reason));
        }
        rendered(Turn {
            source: source.clone(),
            tokens: self.tokens.clone(),
            text: text.to_owned(),
        })?
        .map_err(|reason| bad(&reason))
    }
}

fn bad(reason: &dyn Display) -> Error {
    Error::new("chat template", reason)
        .remedy("leave out --chat, or correct the template in the checkpoint's folder")
}

/// `[{"name": .., "template": ..}, ..]`
fn of_several(list: &Value) -> std::result::Result<String, String> {
    const KEY: &str = "`chat_template` in tokenizer_config.json";
    let Some(templates) = list.as_array() else {
        return Err(format!(
            "{KEY} is neither a text nor a list of texts with names"
        ));
    };
    let name = |one: &Value| one.get("name").and_then(Value::as_str).map(str::to_owned);
    let default = templates
        .iter()
        .find(|one| name(one).as_deref() == Some(DEFAULT));
    match default {
        Some(default) => match default.get("template").and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("{KEY} has one named `{DEFAULT}` that has no text")),
        },
        None => {
            let names: Vec<String> = templates.iter().filter_map(name).collect();
            Err(format!(
                "{KEY} has several, and none named `{DEFAULT}`: {}",
                names.join(", ")
            ))
        }
    }
}
