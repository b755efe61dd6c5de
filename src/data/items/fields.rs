//! The fields of a row, with an error that names file, row and field.

use std::fmt::Display;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A row of a file, or an object in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    /// The file, as the user knows it.
    pub(super) file: &'a str,
    /// From 1.
    pub(super) row: u64,
    /// In front of field names: `choices.`
    prefix: &'a str,
    values: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(file: &'a str, row: u64, values: &'a Map<String, Value>) -> Self {
        Self {
            file,
            row,
            prefix: "",
            values,
        }
    }

    /// What is wrong with a field.
    pub(super) fn bad(&self, field: &str, reason: impl Display) -> Error {
        let (file, row, prefix) = (self.file, self.row, self.prefix);
        Error::new(
            format!("{file}: row {row}: field `{prefix}{field}`"),
            reason,
        )
        .remedy("docs/experiments.md lists the fields of each task's items")
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.values.get(field).is_some_and(|value| !value.is_null())
    }

    fn get(&self, field: &str) -> Result<&'a Value> {
        self.values.get(field).ok_or_else(|| {
            let there: Vec<&str> = self.values.keys().take(8).map(String::as_str).collect();
            self.bad(
                field,
                format!("is missing; the row has {}", there.join(", ")),
            )
        })
    }

    pub(super) fn text(&self, field: &str) -> Result<&'a str> {
        let value = self.get(field)?;
        value
            .as_str()
            .ok_or_else(|| self.bad(field, format!("is {}, not text", kind(value))))
    }

    fn list(&self, field: &str) -> Result<&'a [Value]> {
        match self.get(field)? {
            Value::Array(values) if values.is_empty() => Err(self.bad(field, "is an empty list")),
            Value::Array(values) => Ok(values),
            other => Err(self.bad(field, format!("is {}, not a list", kind(other)))),
        }
    }

    pub(super) fn texts(&self, field: &str) -> Result<Vec<&'a str>> {
        let values = self.list(field)?.iter().enumerate();
        values
            .map(|(place, value)| {
                value.as_str().ok_or_else(|| {
                    let kind = kind(value);
                    self.bad(field, format!("entry {place} is {kind}, not text"))
                })
            })
            .collect()
    }

    /// A list of 0 and 1, or false and true, of which one at least is 1.
    pub(super) fn flags(&self, field: &str) -> Result<Vec<bool>> {
        let values = self.list(field)?.iter().enumerate();
        let flags: Vec<bool> = values
            .map(|(place, value)| match value {
                Value::Bool(flag) => Ok(*flag),
                Value::Number(number) if number.as_u64() == Some(0) => Ok(false),
                Value::Number(number) if number.as_u64() == Some(1) => Ok(true),
                other => Err(self.bad(field, format!("entry {place} is {other}, not 0 or 1"))),
            })
            .collect::<Result<_>>()?;
        if flags.contains(&true) {
            Ok(flags)
        } else {
            Err(self.bad(field, "says that no choice is right"))
        }
    }

    /// A whole number, or text that is one; `first` is what the first of `count` choices is called.
    pub(super) fn index(&self, field: &str, first: usize, count: usize) -> Result<usize> {
        let value = self.get(field)?;
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64(),
        };
        number
            .and_then(|number| usize::try_from(number).ok()?.checked_sub(first))
            .filter(|index| *index < count)
            .ok_or_else(|| {
                let last = first + count - 1;
                self.bad(field, format!("is {value}, not one of {first} to {last}"))
            })
    }

    /// The fields of an object.
    pub(super) fn object(&self, field: &'a str, prefix: &'a str) -> Result<Self> {
        match self.get(field)? {
            Value::Object(values) => Ok(Self {
                prefix,
                values,
                ..*self
            }),
            other => Err(self.bad(field, format!("is {}, not an object", kind(other)))),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
