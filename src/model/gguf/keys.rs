//! The settings of an architecture in a file's metadata, and the config.json that is made of them.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    model::weights::gguf::Gguf,
};

/// What to do about settings that do not fit.
pub(in crate::model) const REMEDY: &str =
    "the file's metadata are damaged or of a later version; convert the model again";

/// The keys of one architecture, which begin with its name.
pub(super) struct Keys<'g> {
    pub(super) architecture: &'g str,
    pub(super) gguf: &'g Gguf<'g>,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// An error about a setting.
    pub(super) fn error(&self, name: &str, reason: impl std::fmt::Display) -> Error {
        Error::new(format!("`{}`", self.key(name)), reason).remedy(REMEDY)
    }

    /// A whole number, which may be a list of one number for every layer if all are the same.
    pub(super) fn size_opt(&self, name: &str) -> Result<Option<u64>> {
        let key = self.key(name);
        let metadata = &self.gguf.metadata;
        if !metadata.is_list(&key) {
            return metadata.unsigned(&key);
        }
        let list = metadata.numbers(&key)?.unwrap_or_default();
        match list.as_slice() {
            [first, rest @ ..] if rest.iter().all(|other| other == first) && *first >= 0.0 => {
                Ok(Some(*first as u64))
            }
            _ => Err(Error::new(
                format!("`{key}`"),
                "it differs between layers, which massact does not compute",
            )
            .remedy("run `massact models` for what is supported")),
        }
    }

    /// A whole number, which must be there.
    pub(super) fn size(&self, name: &str) -> Result<u64> {
        self.size_opt(name)?
            .ok_or_else(|| self.error(name, "it is missing"))
    }

    /// A finite number, if it is there.
    pub(super) fn number_opt(&self, name: &str) -> Result<Option<f64>> {
        self.gguf.metadata.number(&self.key(name))
    }

    /// A finite number, which must be there.
    pub(super) fn number(&self, name: &str) -> Result<f64> {
        self.number_opt(name)?.ok_or_else(|| self.missing(name))
    }

    /// A key that must be there is not.
    pub(super) fn missing(&self, name: &str) -> Error {
        self.error(name, "it is missing")
    }

    /// A flag, if it is there.
    pub(super) fn flag_opt(&self, name: &str) -> Result<Option<bool>> {
        self.gguf.metadata.flag(&self.key(name))
    }

    /// A text, if it is there.
    pub(super) fn text_opt(&self, name: &str) -> Result<Option<&str>> {
        self.gguf.metadata.text(&self.key(name))
    }

    /// A list of numbers or flags, if it is there and a list.
    pub(super) fn list_opt(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let key = self.key(name);
        if self.gguf.metadata.is_list(&key) {
            self.gguf.metadata.numbers(&key)
        } else {
            Ok(None)
        }
    }

    /// Refuses a setting unless it is absent or has this value.
    pub(super) fn refuse_unless(&self, name: &str, allowed: f64) -> Result<()> {
        match self.number_opt(name)? {
            Some(value) if value != allowed => Err(Error::new(
                format!("`{}`", self.key(name)),
                format!("it is {value}, which massact does not compute (only {allowed})"),
            )
            .remedy("run `massact models` for what is supported")),
            _ => Ok(()),
        }
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, tensor: &str) -> bool {
        self.gguf.shape(tensor).is_some()
    }

    /// Outputs of a matrix, which must be there.
    pub(super) fn rows(&self, tensor: &str) -> Result<u64> {
        let shape = self.gguf.shape(tensor);
        let rows = shape.and_then(|shape| shape.len().checked_sub(2).map(|axis| shape[axis]));
        rows.map(|rows| rows as u64).ok_or_else(|| {
            Error::new(format!("tensor `{tensor}`"), "it is missing, or no matrix")
                .remedy("download the file again")
        })
    }
}

/// A config.json in the making.
#[derive(Default)]
pub(super) struct Settings(Map<String, Value>);

impl Settings {
    /// Adds a setting.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Takes a setting away.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    /// Takes settings away that the family does not have.
    pub(super) fn without(&mut self, keys: &[&str]) {
        self.0.retain(|key, _| !keys.contains(&key.as_str()));
    }

    /// The finished text.
    pub(super) fn text(self) -> Vec<u8> {
        Value::Object(self.0).to_string().into_bytes()
    }
}
