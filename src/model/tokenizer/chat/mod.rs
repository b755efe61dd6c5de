//! How a model wants a conversation written: its chat template (transformers `chat_template_utils.py`,
//! `_compile_jinja_template`, and `apply_chat_template`).
#![forbid(unsafe_code)]

mod namespaces;

use std::{
    fmt::Display,
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use minijinja::{
    Environment, ErrorKind, Value as JinjaValue, context, syntax::SyntaxConfig, value::Kwargs,
};
use serde::Serialize;
use serde_json::{
    Map, Serializer, Value,
    ser::{Formatter, PrettyFormatter},
};

use crate::{
    error::{Error, Result},
    panics,
};

/// The file that has the template, before tokenizer_config.json.
pub(super) const FILE: &str = "chat_template.jinja";
/// Of several templates the one that counts.
const DEFAULT: &str = "default";
/// Steps of a template, each of which stands for 64 bytes of text, too: a hundred times those of the longest known.
const FUEL: u64 = 200_000;
/// Bytes of a template: several times those of the longest known.
const LONGEST: usize = 256 << 10;
/// What the library's recursion needs for each byte of a template, almost thrice over, and beside it for values that
/// a template nests while it runs: a chain of operators is as deep as it is long.
const STACK: usize = 1 << 10;
const STACK_BESIDE: usize = 64 << 20;
/// What takes so long is not counted in steps, such as slices of slices.
const PATIENCE: Duration = Duration::from_secs(3);

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
        let (done, result) = mpsc::channel();
        let (source, tokens, text) = (source.clone(), self.tokens.clone(), text.to_owned());
        let stack = STACK_BESIDE + STACK * source.len();
        thread::Builder::new()
            .stack_size(stack)
            .spawn(move || {
                // Where it panics nothing is sent.
                panics::caught(|| render(&source, &tokens, &text)).map(|text| done.send(text))
            })
            .map_err(|error| bad(&error))?;
        // A thread that is not waited for ends with the program.
        result.recv_timeout(PATIENCE).unwrap_or_else(|why| {
            Err(bad(&match why {
                RecvTimeoutError::Timeout => "it takes too long",
                RecvTimeoutError::Disconnected => "it cannot be followed",
            }))
        })
    }
}

/// What the template makes of one message of a user.
fn render(source: &str, tokens: &[(String, String)], text: &str) -> Result<String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| bad(&error))?;
    environment.set_syntax(syntax.clone());
    namespaces::allow_plain_data(&mut environment);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| {
        Err::<JinjaValue, _>(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_function("strftime_now", |format: String| today(&format));
    environment.add_filter("tojson", python_json);
    let source = without_generation_tags(source);
    let source = namespaces::filtered(&source, syntax).map_err(|error| bad(&error))?;
    let template = environment
        .template_from_str(&source)
        .map_err(|error| bad(&error))?;
    let tokens = tokens.iter();
    let tokens = tokens.map(|(role, token)| (role.as_str(), token.as_str()));
    let rendered = template.render(context! {
        messages => [context! { role => "user", content => text }],
        add_generation_prompt => true,
        tools => (),
        documents => (),
        ..JinjaValue::from_pairs(tokens)
    });
    rendered.map_err(|error| bad(&error))
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

/// Tags that mark for training what the assistant says, and write nothing, become comments, which trim white
/// space as they did.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // Behind `{%`, since `{%}` is the start of a tag and not all of one.
        let Some(length) = rest[start + 2..].find("%}") else {
            break;
        };
        let end = start + 2 + length;
        let inner = &rest[start + 2..end];
        let name = inner.trim_matches(['-', '+']).trim();
        out.push_str(&rest[..start]);
        if ["generation", "endgeneration"].contains(&name) {
            let sign = |there: Option<char>| there.filter(|c| ['-', '+'].contains(c));
            out.push_str("{#");
            out.extend(sign(inner.chars().next()));
            out.extend(sign(inner.chars().last()));
            out.push_str("#}");
        } else {
            out.push_str(&rest[start..end + 2]);
        }
        rest = &rest[end + 2..];
    }
    out + rest
}

/// Now, as Python's `strftime` writes it; in UTC, so that a day is the same one everywhere.
fn today(format: &str) -> std::result::Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, jiff::Timestamp::now())
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// As `json.dumps(.., ensure_ascii=False)` writes it, with spaces behind commas and colons.
fn python_json(
    value: &JinjaValue,
    options: Kwargs,
) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    match indent {
        Some(spaces) => {
            let spaces = vec![b' '; spaces.min(64)];
            json_by(value, PrettyFormatter::with_indent(&spaces))
        }
        None => json_by(value, Spaced),
    }
}

fn json_by(
    value: &JinjaValue,
    formatter: impl Formatter,
) -> std::result::Result<String, minijinja::Error> {
    let mut out = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut out, formatter))
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Compact JSON with Python's spaces.
struct Spaced;

impl Spaced {
    fn separate(to: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        Self::separate(to, first)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        Self::separate(to, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}
