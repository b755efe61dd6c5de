//! Keys and values of a GGUF file. Arrays stay where they are and are read when they are asked for.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::reader::Reader;
use crate::error::{Error, Result};

/// Arrays within arrays that are followed.
const DEEPEST: usize = 8;

/// A value.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) enum Value<'f> {
    /// Any unsigned type.
    Unsigned(u64),
    /// Any signed type.
    Signed(i64),
    /// float32 or float64.
    Float(f64),
    /// One byte.
    Flag(bool),
    /// Perhaps not UTF-8.
    Text(&'f [u8]),
    /// Elements of one type.
    Array(Array<'f>),
}

/// An array whose bytes were walked once, so that they are known to be there.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) struct Array<'f> {
    /// Type of the elements.
    kind: u32,
    count: u64,
    bytes: &'f [u8],
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

impl<'f> Value<'f> {
    /// Reads a value of type `kind`.
    pub(super) fn read(reader: &mut Reader<'f>, kind: u32) -> Result<Self> {
        Self::read_within(reader, kind, 0)
    }

    fn read_within(reader: &mut Reader<'f>, kind: u32, depth: usize) -> Result<Self> {
        let Some(size) = size(kind) else {
            return match kind {
                TEXT => reader.string().map(Self::Text),
                ARRAY => Array::read(reader, depth).map(Self::Array),
                _ => Err(reader.damaged(format!("there is no type {kind} of values"))),
            };
        };
        let taken = reader.take(size)?;
        let mut bytes = [0; 8];
        bytes[..taken.len()].copy_from_slice(taken);
        let bits = u64::from_le_bytes(bytes);
        Ok(match kind {
            1 => Self::Signed(i64::from(bits as i8)),
            3 => Self::Signed(i64::from(bits as i16)),
            5 => Self::Signed(i64::from(bits as i32)),
            11 => Self::Signed(bits as i64),
            6 => Self::Float(f64::from(f32::from_bits(bits as u32))),
            12 => Self::Float(f64::from_bits(bits)),
            7 => Self::Flag(bits != 0),
            _ => Self::Unsigned(bits),
        })
    }

    /// A whole number that is not negative.
    fn unsigned(self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(value as f64),
            Self::Signed(value) => Some(value as f64),
            Self::Float(value) => Some(value).filter(|value| value.is_finite()),
            Self::Flag(flag) => Some(f64::from(u8::from(flag))),
            _ => None,
        }
    }
}

/// Bytes of a value of a type with a fixed size.
fn size(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

impl<'f> Array<'f> {
    fn read(reader: &mut Reader<'f>, depth: usize) -> Result<Self> {
        let (kind, count) = (reader.u32()?, reader.u64()?);
        let start = reader.clone();
        match size(kind) {
            Some(size) => {
                let Some(length) = size.checked_mul(count) else {
                    return Err(reader.damaged("an array is longer than the file"));
                };
                reader.take(length)?;
            }
            None if depth == DEEPEST => {
                return Err(reader.damaged("arrays lie in arrays without end"));
            }
            // An element takes at least eight bytes, so that this ends with the file.
            None => {
                for _ in 0..count {
                    Value::read_within(reader, kind, depth + 1)?;
                }
            }
        }
        let length = (reader.at() - start.at()) as u64;
        let bytes = start.clone().take(length)?;
        Ok(Self { kind, count, bytes })
    }

    /// The elements.
    pub(in crate::model) fn iter(&self) -> impl Iterator<Item = Value<'f>> + use<'f> {
        let mut reader = Reader::new(self.bytes, "array");
        let kind = self.kind;
        // It was read before.
        (0..self.count).map_while(move |_| Value::read(&mut reader, kind).ok())
    }
}

/// All keys with their values; remembers which were asked for.
#[derive(Debug, Default)]
pub(in crate::model) struct Metadata<'f> {
    values: BTreeMap<&'f str, Value<'f>>,
    read: RefCell<BTreeSet<String>>,
}

impl<'f> Metadata<'f> {
    /// Adds a value; false if the key is there.
    pub(super) fn insert(&mut self, key: &'f str, value: Value<'f>) -> bool {
        self.values.insert(key, value).is_none()
    }

    /// The value of `key`.
    pub(in crate::model) fn get(&self, key: &str) -> Option<Value<'f>> {
        let value = *self.values.get(key)?;
        self.read.borrow_mut().insert(key.to_owned());
        Some(value)
    }

    /// Whether the value of `key` is a list.
    pub(in crate::model) fn is_list(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some(Value::Array(_)))
    }

    /// Keys that begin with `start` and that nothing asked for.
    pub(in crate::model) fn unread(&self, start: &str) -> Vec<&'f str> {
        let read = self.read.borrow();
        let keys = self.values.keys().copied();
        keys.filter(|key| key.starts_with(start) && !read.contains(*key))
            .collect()
    }

    /// A whole number, if the key is there.
    pub(in crate::model) fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number", Value::unsigned)
    }

    /// A finite number, if the key is there.
    pub(in crate::model) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite number", Value::number)
    }

    /// A flag, if the key is there.
    pub(in crate::model) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        })
    }

    /// A text, if the key is there.
    pub(in crate::model) fn text(&self, key: &str) -> Result<Option<&'f str>> {
        self.typed(key, "a text", |value| match value {
            Value::Text(bytes) => str::from_utf8(bytes).ok(),
            _ => None,
        })
    }

    /// A list of texts, if the key is there.
    pub(in crate::model) fn texts(&self, key: &str) -> Result<Option<Vec<&'f str>>> {
        self.list(key, "a list of texts in UTF-8", |value| match value {
            Value::Text(bytes) => str::from_utf8(bytes).ok(),
            _ => None,
        })
    }

    /// A list of finite numbers, if the key is there.
    pub(in crate::model) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.list(key, "a list of finite numbers", Value::number)
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        item: impl Fn(Value<'f>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        self.typed(key, expected, |value| match value {
            Value::Array(array) => array.iter().map(&item).collect(),
            _ => None,
        })
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(Value<'f>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| {
            Error::new(format!("`{key}`"), format!("it is not {expected}")).remedy(
                "the file's metadata are damaged or of a later version; convert the model again",
            )
        })
    }
}
