//! The header of a GGUF file: its metadata, and which tensors lie where.
#![forbid(unsafe_code)]

use std::{collections::HashSet, ops::Range};

use super::{
    metadata::{Metadata, Value},
    reader::Reader,
};
use crate::{
    error::{Error, Result},
    model::weights::encodings::Kind,
};

/// How every GGUF file begins.
pub(in crate::model) const MAGIC: &[u8; 4] = b"GGUF";
/// Dimensions that a tensor may have.
const DIMENSIONS: u32 = 4;
/// To what multiple of bytes tensors are placed if nothing is said.
const ALIGNMENT: u64 = 32;

/// What a file says of itself.
#[derive(Debug)]
pub(super) struct Header<'f> {
    pub(super) metadata: Metadata<'f>,
    pub(super) tensors: Vec<Tensor<'f>>,
}

/// A tensor of a file.
#[derive(Debug)]
pub(super) struct Tensor<'f> {
    pub(super) name: &'f str,
    /// Outermost first: the other way round than in the file.
    pub(super) shape: Vec<usize>,
    pub(super) kind: Kind,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
}

impl<'f> Header<'f> {
    /// Reads the header of a file; its name is for messages.
    pub(super) fn read(bytes: &'f [u8], name: &'f str) -> Result<Self> {
        let mut reader = Reader::new(bytes, name);
        if reader.take(4)? != MAGIC {
            return Err(
                Error::new(name, "not a GGUF file: it does not begin with `GGUF`").remedy(
                    "download it again, or give the folder of a checkpoint in transformers format",
                ),
            );
        }
        check_version(reader.u32()?, name)?;
        let (tensors, values) = (reader.u64()?, reader.u64()?);
        let mut metadata = Metadata::default();
        for _ in 0..values {
            let key = reader.text("a key")?;
            let kind = reader.u32()?;
            let value = Value::read(&mut reader, kind)?;
            if !metadata.insert(key, value) {
                return Err(reader.damaged(format!("the key `{key}` is there twice")));
            }
        }
        let alignment = metadata.unsigned("general.alignment")?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(reader.damaged(format!("the alignment is {alignment}, not a power of two")));
        }
        let mut places = Vec::new();
        for _ in 0..tensors {
            places.push(Place::read(&mut reader)?);
        }
        let start = (reader.at() as u64).checked_next_multiple_of(alignment);
        let layout = Layout {
            start,
            alignment,
            length: bytes.len(),
        };
        let tensors = layout.tensors(places, &reader)?;
        Ok(Self { metadata, tensors })
    }
}

fn check_version(version: u32, name: &str) -> Result<()> {
    match version {
        2 | 3 => Ok(()),
        // It is written in the byte order of the whole file.
        other if matches!(other.swap_bytes(), 1..=3) => Err(Error::new(
            name,
            "a big-endian GGUF file, which massact does not read",
        )
        .remedy("take the little-endian file of the same model")),
        1 => Err(Error::new(
            name,
            "a GGUF file of version 1, which massact does not read",
        )
        .remedy("convert the model again, with a llama.cpp of this day")),
        other => Err(Error::new(
            name,
            format!("a GGUF file of version {other}; massact reads 2 and 3"),
        )
        .remedy("download it again, or convert the model to version 3")),
    }
}

/// A tensor as the header describes it.
struct Place<'f> {
    name: &'f str,
    shape: Vec<usize>,
    values: u64,
    kind: Kind,
    offset: u64,
}

impl<'f> Place<'f> {
    fn read(reader: &mut Reader<'f>) -> Result<Self> {
        let name = reader.text("the name of a tensor")?;
        let dimensions = reader.u32()?;
        if !(1..=DIMENSIONS).contains(&dimensions) {
            return Err(reader.damaged(format!("tensor `{name}` has {dimensions} dimensions")));
        }
        let mut shape = Vec::new();
        let mut values = 1u64;
        for _ in 0..dimensions {
            let size = reader.u64()?;
            let all = values.checked_mul(size).filter(|all| *all != 0);
            let (Some(all), Ok(size)) = (all, usize::try_from(size)) else {
                return Err(reader.damaged(format!("tensor `{name}` has a dimension of {size}")));
            };
            values = all;
            shape.insert(0, size);
        }
        let code = reader.u32()?;
        let refused = |how: String| {
            Error::new(
                format!("tensor `{name}`"),
                format!("it is stored as {how}, which massact does not read"),
            )
            .remedy(format!(
                "take a file of other types; these are read: {}",
                Kind::read()
            ))
        };
        let kind = Kind::of(code).ok_or_else(|| refused(format!("ggml's type {code}")))?;
        if !kind.is_read() {
            return Err(refused(kind.name.to_owned()));
        }
        Ok(Self {
            name,
            shape,
            values,
            kind,
            offset: reader.u64()?,
        })
    }
}

/// Where tensors may lie.
struct Layout {
    /// Where the first one may begin.
    start: Option<u64>,
    alignment: u64,
    /// Bytes of the file.
    length: usize,
}

impl Layout {
    fn tensors<'f>(&self, places: Vec<Place<'f>>, reader: &Reader<'f>) -> Result<Vec<Tensor<'f>>> {
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        for place in places {
            let Place { name, kind, .. } = place;
            if !names.insert(name) {
                return Err(reader.damaged(format!("tensor `{name}` is described twice")));
            }
            let width = place.shape.last().copied().unwrap_or_default();
            if !width.is_multiple_of(kind.values) {
                return Err(reader.damaged(format!(
                    "tensor `{name}` has rows of {width} values, but {} comes in blocks of {}",
                    kind.name, kind.values
                )));
            }
            let Some(range) = self.range(&place) else {
                return Err(reader.damaged(format!(
                    "tensor `{name}` ({} of {:?}) does not lie in the file where the header says",
                    kind.name, place.shape
                )));
            };
            tensors.push(Tensor {
                name,
                shape: place.shape,
                kind,
                range,
            });
        }
        let mut in_order: Vec<&Tensor> = tensors.iter().collect();
        in_order.sort_by_key(|tensor| tensor.range.start);
        if let Some(pair) = in_order
            .windows(2)
            .find(|pair| pair[0].range.end > pair[1].range.start)
        {
            let [one, other] = [pair[0].name, pair[1].name];
            return Err(reader.damaged(format!("tensors `{one}` and `{other}` overlap")));
        }
        Ok(tensors)
    }

    fn range(&self, place: &Place<'_>) -> Option<Range<usize>> {
        let blocks = place.values / place.kind.values as u64;
        let length = blocks.checked_mul(place.kind.bytes as u64)?;
        if !place.offset.is_multiple_of(self.alignment) {
            return None;
        }
        let start = self.start?.checked_add(place.offset)?;
        let end = usize::try_from(start.checked_add(length)?).ok()?;
        (end <= self.length).then_some(start as usize..end)
    }
}
