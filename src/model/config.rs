//! Typed, checked access to `config.json`.
//!
//! Every getter names the key in its error and records it as read, so that what nothing reads can be
//! named ([`Config::unread`]). Families also name the settings that would change the mathematics in
//! ways massact does not compute ([`Config::refuse_unless`]).
//!
//! An absent key has the default of the family's config class. A null is a value: it stands for no
//! setting where that class has none by default, is false for a flag, and is refused elsewhere.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value};

use super::json;
use crate::{
    error::{Error, Result},
    files, lfs,
};

/// A parsed `config.json`, or a section of it.
#[derive(Debug, Clone, Default)]
pub struct Config {
    values: Map<String, Value>,
    /// Where a section lies, as `rope_scaling.`; empty for the file itself.
    place: String,
    /// Shared with the sections and with changed copies.
    ledger: Arc<Mutex<Ledger>>,
}

/// What happened to a config.
#[derive(Debug, Default)]
struct Ledger {
    /// Keys that were asked for, with their places.
    read: BTreeSet<String>,
    /// Those of them that were opened as sections.
    opened: BTreeSet<String>,
    /// Keys that the families of the config and of its sections know to have no effect.
    idle: BTreeSet<&'static str>,
    /// What a user should know, each once.
    notices: Vec<String>,
}

impl Config {
    /// Reads `config.json` in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = files::read(&path, files::DESCRIPTION).map_err(|error| {
            Error::new(path.display(), error)
                .remedy("give a folder with a Hugging Face checkpoint, or a hub id")
        })?;
        lfs::refuse_pointer(path.display(), &text)?;
        Self::parse(&text)
    }

    /// Parses the text of a `config.json`.
    pub fn parse(text: &[u8]) -> Result<Self> {
        match json::parse(text) {
            Ok(Value::Object(values)) => Ok(Self {
                values,
                ..Self::default()
            }),
            Ok(_) => Err(Error::new("config.json", "not a JSON object")
                .remedy("correct it, or take the file of the original model")),
            Err(error) => Err(
                Error::new("config.json", format!("not valid JSON: {error}"))
                    .remedy("correct it, or take the file of the original model"),
            ),
        }
    }

    /// The value of `key`, which may be null.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        let value = self.values.get(key)?;
        // A key that a changed copy lacks is not read by asking the copy.
        self.ledger().read.insert(format!("{}{key}", self.place));
        Some(value)
    }

    /// The value of `key`; a JSON null counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// Whether `key` is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something about the config to the user.
    pub fn notice(&self, text: String) {
        let mut ledger = self.ledger();
        if !ledger.notices.contains(&text) {
            ledger.notices.push(text);
        }
    }

    /// Says that these keys have no effect, here and in sections.
    pub fn without_effect(&self, keys: &[&'static str]) {
        self.ledger().idle.extend(keys);
    }

    /// What [`Config::without_effect`] was told.
    pub fn idle(&self) -> BTreeSet<&'static str> {
        self.ledger().idle.clone()
    }

    /// What [`Config::notice`] was told.
    pub fn notices(&self) -> Vec<String> {
        self.ledger().notices.clone()
    }

    /// The keys that nothing asked for and that `known` does not know, with their places, as
    /// `rope_scaling.factor`; of a section that nothing opened the key alone.
    pub fn unread(&self, known: impl Fn(&str) -> bool) -> Vec<String> {
        let ledger = self.ledger();
        let mut found = Vec::new();
        unread(&self.values, &self.place, &ledger, &known, &mut found);
        found
    }

    /// With these values where the key is absent; a null stays.
    #[must_use]
    pub fn with_defaults(&self, defaults: &[(&str, usize)]) -> Self {
        let mut config = self.clone();
        for (key, value) in defaults {
            let value = || Value::from(*value);
            config.values.entry(*key).or_insert_with(value);
        }
        config
    }

    /// With these numbers where the key is absent; a null stays.
    #[must_use]
    pub fn with_numbers(&self, defaults: &[(&str, f64)]) -> Self {
        let mut config = self.clone();
        for (key, value) in defaults {
            let value = || Value::from(*value);
            config.values.entry(*key).or_insert_with(value);
        }
        config
    }

    /// With the settings under their own names: each pair is another name and the key it stands for.
    /// As in transformers the other name counts where both are there.
    #[must_use]
    pub fn renamed(&self, names: &[(&str, &str)]) -> Self {
        let mut config = self.clone();
        for (other, key) in names {
            let Some(value) = self.get(other) else {
                continue;
            };
            let replaced = config.values.insert((*key).to_owned(), value.clone());
            if let Some(replaced) = replaced.filter(|replaced| !same(replaced, value)) {
                self.notice(format!(
                    "config.json: `{key}` is {replaced} and `{other}`, another name for it, is {value}: {value} counts, as in transformers"
                ));
            }
        }
        config
    }

    /// With this value of `key`.
    #[must_use]
    pub fn with(&self, key: &str, value: Value) -> Self {
        let mut config = self.clone();
        config.values.insert(key.to_owned(), value);
        config
    }

    /// All keys.
    pub fn keys(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }

    /// Without these keys.
    #[must_use]
    pub fn without(&self, keys: &[&str]) -> Self {
        let mut config = self.clone();
        config.values.retain(|key, _| !keys.contains(&key.as_str()));
        config
    }

    /// `model_type`.
    pub fn model_type(&self) -> Result<&str> {
        self.get("model_type")
            .and_then(Value::as_str)
            .ok_or_else(|| {
                Error::new("config.json", "`model_type` is missing")
                    .remedy("massact reads the layout of transformers' save_pretrained")
            })
    }

    /// A count of at least 1, required.
    pub fn size(&self, key: &str) -> Result<usize> {
        self.size_opt(key)?.ok_or_else(|| missing(key))
    }

    /// A count of at least 1, or `default`.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        match self.raw(key) {
            None => Ok(default),
            Some(Value::Null) => Err(wrong(key, &Value::Null, "a positive integer")),
            Some(_) => self.size(key),
        }
    }

    /// A count of at least 1, if present and not null.
    pub fn size_opt(&self, key: &str) -> Result<Option<usize>> {
        // No dimension of a decoder comes near this; it keeps products of two inside u64.
        const LARGEST: u64 = 1 << 31;
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(size @ 1..=LARGEST) => Ok(Some(size as usize)),
                Some(0) if key == "sliding_window" => Err(no_window(key)),
                Some(1..) => Err(wrong(key, value, "at most 2147483648")),
                _ => Err(wrong(key, value, "a positive integer")),
            },
        }
    }

    /// A number of heads: small enough to keep a tensor name for each.
    pub fn heads(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            heads @ ..=4096 => Ok(heads),
            heads => Err(wrong(key, &Value::from(heads), "at most 4096 heads")),
        }
    }

    /// A number of experts: small enough to look each up.
    pub fn experts(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            experts @ ..=4096 => Ok(experts),
            experts => Err(wrong(key, &Value::from(experts), "at most 4096 experts")),
        }
    }

    /// The number of layers: a count small enough to describe each of them in memory.
    pub fn layers(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            layers @ ..=10_000 => Ok(layers),
            layers => Err(wrong(key, &Value::from(layers), "at most 10000 layers")),
        }
    }

    /// A finite number, or `default`.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.raw(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| wrong(key, value, "a number")),
        }
    }

    /// A boolean, or `default`; null is false, as in Python.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.raw(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(false),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| wrong(key, value, "true or false")),
        }
    }

    /// A string, or `default`.
    pub fn text_or<'c>(&'c self, key: &str, default: &'c str) -> Result<&'c str> {
        match self.raw(key) {
            None => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| wrong(key, value, "a string")),
        }
    }

    /// A finite number, if present.
    pub fn number_opt(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(_) => self.number_or(key, 0.0).map(Some),
        }
    }

    /// The first of these keys that is there, or the first of all: old configs name some settings
    /// otherwise.
    pub fn either<'k>(&self, keys: &[&'k str]) -> &'k str {
        let found = keys.iter().find(|key| self.get(key).is_some());
        found.or(keys.first()).copied().unwrap_or_default()
    }

    /// A list of whole numbers from 0 on, if present.
    pub fn indices_opt(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.list(key, "a list of whole numbers", Value::as_u64)
    }

    /// A list of numbers, if present.
    pub fn numbers_opt(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.list(key, "a list of numbers", Value::as_f64)
    }

    /// A list of strings, if present.
    pub fn texts_opt(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.list(key, "a list of strings", |value| {
            value.as_str().map(str::to_owned)
        })
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        item: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let items = value.as_array();
        items
            .and_then(|items| items.iter().map(item).collect())
            .map(Some)
            .ok_or_else(|| wrong(key, value, expected))
    }

    /// A list that must have an entry per layer.
    pub fn check_per_layer<T>(&self, key: &str, list: &[T], layers: usize) -> Result<()> {
        if list.len() == layers {
            return Ok(());
        }
        Err(Error::new(
            "config.json",
            format!("`{key}` has {} entries for {layers} layers", list.len()),
        )
        .remedy("correct it in config.json, or take the file of the original model"))
    }

    /// A setting that is there but must not be, whatever its value.
    pub fn refuse(&self, key: &str, why: &str) -> Error {
        let value = self.get(key).unwrap_or(&Value::Null);
        Error::new("config.json", format!("`{key}` is {value}: {why}"))
            .remedy("run `massact models` for what is supported")
    }

    /// The object under `key`, if present.
    pub fn section(&self, key: &str) -> Result<Option<Config>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(values)) => {
                let place = format!("{}{key}", self.place);
                self.ledger().opened.insert(place.clone());
                Ok(Some(Config {
                    values: values.clone(),
                    place: format!("{place}."),
                    ledger: Arc::clone(&self.ledger),
                }))
            }
            Some(value) => Err(wrong(key, value, "an object")),
        }
    }

    /// Refuses a setting that changes the mathematics in a way massact does not compute.
    pub fn refuse_unless(&self, key: &str, allowed: &Value) -> Result<()> {
        match self.get(key) {
            Some(value) if !same(value, allowed) => Err(Error::new(
                "config.json",
                format!("`{key}` is {value}, which massact does not compute (only {allowed})"),
            )
            .remedy("run `massact models` for what is supported")),
            _ => Ok(()),
        }
    }
}

/// The part of [`Config::unread`] that lies at `place`.
fn unread(
    values: &Map<String, Value>,
    place: &str,
    ledger: &Ledger,
    known: &impl Fn(&str) -> bool,
    found: &mut Vec<String>,
) {
    for (key, value) in values {
        let path = format!("{place}{key}");
        match value {
            // Switches nothing on.
            Value::Null => {}
            _ if known(&path) => {}
            Value::Object(inner) if ledger.opened.contains(&path) => {
                unread(inner, &format!("{path}."), ledger, known, found);
            }
            _ if ledger.read.contains(&path) => {}
            _ => found.push(path),
        }
    }
}

/// Equality that lets 1 equal 1.0.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

/// A window that hides every token from itself: what transformers then computes is no attention.
fn no_window(key: &str) -> Error {
    Error::new(
        "config.json",
        format!("`{key}` is 0: no token would see any, and transformers then averages over all, later ones too, which massact does not compute"),
    )
    .remedy("set it to null for attention without a window")
}

fn missing(key: &str) -> Error {
    Error::new("config.json", format!("`{key}` is missing or null"))
        .remedy("add it to config.json, or take the file of the original model")
}

fn wrong(key: &str, value: &Value, expected: &str) -> Error {
    Error::new(
        "config.json",
        format!("`{key}` is {value}, expected {expected}"),
    )
    .remedy("correct it in config.json, or take the file of the original model")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).expect("valid test config")
    }

    #[test]
    fn null_is_a_value_and_types_are_checked() {
        let c = config(r#"{"a": null, "b": 0, "c": 1.5, "d": "x", "e": -3}"#);
        assert_eq!(c.size_opt("a"), Ok(None));
        assert_eq!(c.number_opt("a"), Ok(None));
        assert_eq!(c.flag_or("a", true), Ok(false));
        assert!(c.size_or("a", 7).is_err());
        assert!(c.number_or("a", 7.0).is_err());
        assert!(c.text_or("a", "7").is_err());
        assert!(
            c.size("a")
                .is_err_and(|e| e.to_string().contains("`a` is missing or null"))
        );
        for key in ["b", "c", "d", "e"] {
            let message = c.size(key).expect_err(key).to_string();
            assert!(message.contains(&format!("`{key}`")), "{message}");
        }
        assert_eq!(c.number_or("c", 0.0), Ok(1.5));
        assert!(c.flag_or("d", true).is_err());
    }

    #[test]
    fn refuses_by_name() {
        let c = config(r#"{"pretraining_tp": 2, "x": 1.0}"#);
        let message = c
            .refuse_unless("pretraining_tp", &Value::from(1))
            .expect_err("2 is not 1")
            .to_string();
        assert!(message.contains("pretraining_tp"), "{message}");
        assert_eq!(c.refuse_unless("x", &Value::from(1)), Ok(()));
        assert_eq!(c.refuse_unless("absent", &Value::from(1)), Ok(()));
    }

    #[test]
    fn what_nothing_asked_for_is_named() {
        let c = config(
            r#"{"read": 1, "listed": 2, "left": 3, "opened": {"x": 1, "y": 2}, "closed": {"z": 1}}"#,
        );
        let changed = c.with_defaults(&[("absent", 5)]).without(&["left"]);
        assert_eq!(changed.size("read"), Ok(1));
        assert_eq!(changed.size_opt("left"), Ok(None));
        let section = changed.section("opened").expect("valid").expect("there");
        assert_eq!(section.size("x"), Ok(1));
        assert_eq!(
            c.unread(|key| key == "listed"),
            ["closed", "left", "opened.y"]
        );
    }

    #[test]
    fn the_other_name_counts_and_is_said_to() {
        let c = config(r#"{"own": 1, "other": 2, "alias": 3}"#);
        let renamed = c.renamed(&[("other", "own"), ("alias", "absent"), ("none", "own")]);
        assert_eq!(renamed.size("own"), Ok(2));
        assert_eq!(renamed.size("absent"), Ok(3));
        let [notice] = &c.notices()[..] else {
            panic!("{:?}", c.notices());
        };
        assert!(notice.contains("`own` is 1 and `other`"), "{notice}");
    }

    #[test]
    fn rejects_what_is_not_an_object() {
        for text in ["[]", "3", "", "{", "\u{feff}{}"] {
            assert!(Config::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
