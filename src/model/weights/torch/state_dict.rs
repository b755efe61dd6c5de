//! From a pickle's values to tensors with names, each checked against the bytes that are there.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::{
    CONVERT, DAMAGED, TorchTensor,
    pickle::{Tensor, Unpickled, Value},
    zip::Archive,
};
use crate::error::{Error, Result};

/// Dimensions of a weight; more are none of a language model.
const DIMENSIONS: usize = 8;
/// Keys that are named in an error.
const NAMED: usize = 4;

/// The tensors of the dictionary that a pickle is, by name.
pub(super) fn tensors(
    subject: &str,
    unpickled: &Unpickled<'_>,
    archive: &Archive<'_>,
) -> Result<Vec<TorchTensor>> {
    // Of a key that is set twice the last value counts, as in Python.
    let mut named: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    for (key, value) in unpickled.entries() {
        if let Some(name) = unpickled.text(key) {
            let tensor = match value {
                Value::Tensor(index) => Some(index),
                _ => None,
            };
            named.insert(name, tensor);
        }
    }
    // What is no tensor cannot be a weight; a file without any is something else.
    if named.values().all(Option::is_none) {
        return Err(without_tensors(subject, named.keys().copied()));
    }
    let tensors = named
        .into_iter()
        .filter_map(|(name, tensor)| Some((name, tensor?)));
    tensors
        .map(|(name, index)| {
            let tensor = unpickled.tensors.get(index as usize);
            let found = tensor.and_then(|tensor| place(unpickled, archive, tensor));
            found
                .ok_or_else(|| {
                    let reason = format!(
                        "not a valid PyTorch file: tensor `{name}` is not within the bytes that it names"
                    );
                    Error::new(subject, reason).remedy(DAMAGED)
                })
                .map(|found| TorchTensor {
                    name: name.to_owned(),
                    ..found
                })
        })
        .collect()
}

fn without_tensors<'n>(subject: &str, keys: impl Iterator<Item = &'n str>) -> Error {
    let keys: Vec<String> = keys
        .take(NAMED)
        .map(|key| format!("`{}`", key.chars().take(80).collect::<String>()))
        .collect();
    let reason = match keys.as_slice() {
        [] => "it holds no tensors".to_owned(),
        keys => format!(
            "it holds no tensors by name but {}: a state of training rather than a model",
            keys.join(", ")
        ),
    };
    Error::new(subject, reason).remedy(CONVERT)
}

/// Where a tensor lies in the file; none if it reaches beyond its storage, or that beyond the file.
fn place(unpickled: &Unpickled<'_>, archive: &Archive<'_>, tensor: &Tensor) -> Option<TorchTensor> {
    let storage = unpickled.storages.get(tensor.storage as usize)?;
    let numbers = |value: Value| {
        let values = unpickled.tuple(value)?;
        let numbers = values.iter().map(|value| match value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        });
        (values.len() <= DIMENSIONS).then(|| numbers.collect::<Option<Vec<usize>>>())?
    };
    let (shape, strides) = (numbers(tensor.shape)?, numbers(tensor.strides)?);
    if shape.len() != strides.len() {
        return None;
    }
    let size = bytes_of(storage.dtype);
    let entry = archive.get(&format!("data/{}", unpickled.text(storage.key)?))?;
    let stored = usize::try_from(storage.length).ok()?;
    if stored.checked_mul(size)? > entry.len() {
        return None;
    }
    let elements = shape
        .iter()
        .try_fold(1usize, |all, count| all.checked_mul(*count))?;
    let offset = usize::try_from(tensor.offset).ok()?;
    // One past the last element.
    let end = match elements {
        0 => offset,
        _ => {
            let mut dimensions = shape.iter().zip(&strides);
            let last = dimensions.try_fold(offset, |at, (count, stride)| {
                at.checked_add((count - 1).checked_mul(*stride)?)
            })?;
            last.checked_add(1)?
        }
    };
    // Elements that lie on each other would let a small file describe a large tensor.
    if end > stored || elements > stored {
        return None;
    }
    Some(TorchTensor {
        name: String::new(),
        dtype: storage.dtype,
        range: entry.start + offset * size..entry.start + end * size,
        strides: (!is_contiguous(&shape, &strides)).then_some(strides),
        shape,
    })
}

/// Whether elements lie row after row without gaps.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    let dimensions = shape.iter().zip(strides).rev();
    for (count, stride) in dimensions {
        // Of a single one the distance to the next says nothing.
        if *count != 1 && *stride != expected {
            return shape.contains(&0);
        }
        expected = expected.wrapping_mul(*count);
    }
    true
}

/// The elements of `size` bytes row after row; none of them lies beyond `bytes`.
pub(super) fn in_order(bytes: &[u8], shape: &[usize], strides: &[usize], size: usize) -> Vec<u8> {
    let count: usize = shape.iter().product();
    let mut ordered = Vec::with_capacity(count * size);
    let mut index = vec![0; shape.len()];
    let mut place = 0;
    for _ in 0..count {
        ordered.extend_from_slice(&bytes[place * size..(place + 1) * size]);
        // The last dimension first, as the digits of a number.
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            place += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            place -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    ordered
}

/// Bytes of an element.
pub(super) fn bytes_of(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F64 | Dtype::I64 => 8,
        Dtype::F32 | Dtype::I32 => 4,
        Dtype::F16 | Dtype::BF16 | Dtype::I16 => 2,
        _ => 1,
    }
}
