//! What a template makes of a conversation.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use minijinja::{
    Environment, ErrorKind, Value as JinjaValue, context,
    syntax::SyntaxConfig,
    value::{Kwargs, ValueKind},
};
use serde::{Deserialize, Serialize};
use serde_json::{Serializer, ser::Formatter};

/// Steps of a template, each of which stands for 64 bytes of text, too: a hundred times those of the longest known.
const FUEL: u64 = 200_000;

/// A user's turn, and the template that it is to be put into.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) source: String,
    /// The tokens that it may name, by role.
    pub(super) tokens: Vec<(String, String)>,
    /// What the user says.
    pub(super) text: String,
}

/// What the template makes of one message of a user, or why nothing.
pub(super) fn render(turn: &Turn) -> Result<String, String> {
    rendered(turn).map_err(|error| error.to_string())
}

fn rendered(turn: &Turn) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| {
        Err::<JinjaValue, _>(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_function("strftime_now", |format: String| today(&format));
    environment.add_filter("tojson", python_json);
    environment.add_test("iterable", |value: &JinjaValue| is_iterable(value));
    environment.add_test("sequence", |value: &JinjaValue| {
        is_iterable(value) && value.kind() != ValueKind::Iterable
    });
    // As the library of Python reads a file.
    let source = turn.source.replace("\r\n", "\n").replace('\r', "\n");
    let source = without_generation_tags(&source);
    let template = environment.template_from_str(&source)?;
    let tokens = turn.tokens.iter();
    let tokens = tokens.map(|(role, token)| (role.as_str(), token.as_str()));
    template.render(context! {
        messages => [context! { role => "user", content => turn.text.as_str() }],
        add_generation_prompt => true,
        tools => (),
        documents => (),
        ..JinjaValue::from_pairs(tokens)
    })
}

/// Whether Python could go through it: what is undefined has nothing, and None is no such thing.
fn is_iterable(value: &JinjaValue) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined
            | ValueKind::String
            | ValueKind::Bytes
            | ValueKind::Seq
            | ValueKind::Map
            | ValueKind::Iterable
    )
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
fn today(format: &str) -> Result<String, minijinja::Error> {
    jiff::fmt::strtime::format(format, jiff::Timestamp::now())
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// As `json.dumps` writes it, with the arguments that transformers' filter has.
fn python_json(value: &JinjaValue, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => {
            let reason = "tojson: separators are two texts";
            return Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason));
        }
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
    };
    let layout = Layout {
        item: item.to_owned(),
        key: key.to_owned(),
        indent,
        depth: 0,
        empty: true,
        ascii: ascii == Some(true),
    };
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, layout);
    if sorted == Some(true) {
        let mut document = serde_json::to_value(value).map_err(failed)?;
        document.sort_all_objects();
        document.serialize(&mut serializer).map_err(failed)?;
    } else {
        value.serialize(&mut serializer).map_err(failed)?;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// How Python lays out JSON.
struct Layout {
    item: String,
    key: String,
    indent: Option<usize>,
    depth: usize,
    /// Whether the list or object that is open has nothing yet.
    empty: bool,
    ascii: bool,
}

impl Layout {
    fn open(&mut self) {
        self.depth += 1;
        self.empty = true;
    }

    fn close(&mut self, to: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.depth -= 1;
        let empty = std::mem::take(&mut self.empty);
        if empty { Ok(()) } else { self.new_line(to) }
    }

    fn begin(&mut self, to: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            to.write_all(self.item.as_bytes())?;
        }
        self.new_line(to)
    }

    fn new_line(&self, to: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let Some(indent) = self.indent else {
            return Ok(());
        };
        to.write_all(b"\n")?;
        (0..self.depth * indent).try_for_each(|_| to.write_all(b" "))
    }
}

impl Formatter for Layout {
    fn begin_array<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.open();
        to.write_all(b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.close(to)?;
        to.write_all(b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.begin(to, first)
    }

    fn begin_object<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.open();
        to.write_all(b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        self.close(to)?;
        to.write_all(b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.begin(to, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(self.key.as_bytes())
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        to: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            if self.ascii && !c.is_ascii() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}")?;
                }
            } else {
                to.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }
}
