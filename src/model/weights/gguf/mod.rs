//! The GGUF format (version 2 and 3, little-endian), in one file or several: metadata, and tensors by
//! ggml's names, which become the model's names one by one.
//!
//! Format: `docs/gguf.md` of ggml.
#![forbid(unsafe_code)]

mod header;
mod metadata;
mod reader;
mod split;

use std::{collections::HashMap, path::Path, sync::Arc};

use safetensors::Dtype;

use super::{
    encodings::{Encoding, Ggml, Kind, RowOrder},
    packed::PackedTensor,
    shard::{Shard, Stored},
    storage::Storage,
    store::{Packing, WeightStore},
};
use crate::{
    error::{Error, Result},
    lfs,
};

pub(in crate::model) use header::MAGIC;
use header::{Header, Tensor};
pub(in crate::model) use metadata::Metadata;
pub(in crate::model) use split::{first_of_several, is_later_part};

/// Bytes at the start of a file that stand for its header in a fingerprint: beside the size and the time
/// of the last change they are only to tell files apart.
pub(super) const LONG_HEADER: usize = 1 << 20;

/// The files of a model, mapped.
#[derive(Debug)]
pub(in crate::model) struct GgufFiles {
    store: WeightStore,
    shards: Vec<Arc<Shard>>,
}

impl GgufFiles {
    /// Maps the file and the others of its model.
    pub(in crate::model) fn open(first: &Path) -> Result<Self> {
        let mut files = Self {
            store: WeightStore::empty(),
            shards: Vec::new(),
        };
        files.add(first)?;
        let parts = {
            let shard = &files.shards[0];
            let header = Header::read(shard.bytes(), shard.name())?;
            split::parts(&header.metadata, first)?
        };
        for part in parts {
            files.add(&part)?;
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let storage = Storage::map(path)?;
        lfs::refuse_pointer(path.display(), storage.bytes())?;
        let shard = self
            .store
            .add_file(name.into_owned(), Some(path.to_owned()), storage);
        self.shards.push(shard);
        Ok(())
    }

    /// What the files say of themselves.
    pub(in crate::model) fn read(&self) -> Result<Gguf<'_>> {
        let mut tensors = HashMap::new();
        let mut metadata = None;
        for shard in &self.shards {
            let header = Header::read(shard.bytes(), shard.name())?;
            for tensor in header.tensors {
                if let Some((_, twice)) = tensors.insert(tensor.name, (shard, tensor)) {
                    return Err(Error::new(
                        shard.name(),
                        format!("tensor `{}` lies in an earlier file, too", twice.name),
                    )
                    .remedy(reader::DAMAGED));
                }
            }
            metadata.get_or_insert(header.metadata);
        }
        let metadata = metadata.unwrap_or_default();
        split::check_count(&metadata, tensors.len())?;
        Ok(Gguf { metadata, tensors })
    }

    /// The weights, under the names that `gguf` gives them.
    pub(in crate::model) fn into_store(self, weights: Named) -> WeightStore {
        let mut store = self.store;
        let Named { entries, format } = weights;
        for (name, entry) in entries {
            match entry {
                Entry::Plain(stored) => store.insert(name, stored),
                Entry::Packed(tensor) => store.pack(name, tensor),
            }
        }
        store.set_packing(Packing {
            format,
            quantises_activations: false,
        });
        store
    }
}

/// What the files of a model say.
#[derive(Debug)]
pub(in crate::model) struct Gguf<'f> {
    /// Keys and values of the first file.
    pub(in crate::model) metadata: Metadata<'f>,
    tensors: HashMap<&'f str, (&'f Arc<Shard>, Tensor<'f>)>,
}

/// Tensors under the model's names.
#[derive(Debug)]
pub(in crate::model) struct Named {
    entries: Vec<(String, Entry)>,
    format: String,
}

#[derive(Debug)]
enum Entry {
    Plain(Stored),
    Packed(PackedTensor),
}

/// What a tensor of the model is in the file.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) enum Form {
    /// The same, rows perhaps in another order.
    Rows(RowOrder),
    /// A vector that has 1 more than the model's.
    PlusOne,
    /// A vector that is the only row of a matrix.
    OneRow,
    /// One of those that are stacked along the first axis.
    Slice(usize),
}

impl<'f> Gguf<'f> {
    /// Names of all tensors, in order.
    pub(in crate::model) fn names(&self) -> Vec<&'f str> {
        let mut names: Vec<&str> = self.tensors.keys().copied().collect();
        names.sort_unstable();
        names
    }

    /// Shape of a tensor, outermost dimension first; none if it is not there.
    pub(in crate::model) fn shape(&self, name: &str) -> Option<&[usize]> {
        let (_, tensor) = self.tensors.get(name)?;
        Some(&tensor.shape)
    }

    /// The values of a vector in float32, if it is there.
    pub(in crate::model) fn vector(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let Some((shard, tensor)) = self.tensors.get(name) else {
            return Ok(None);
        };
        match (tensor.shape.as_slice(), stored(shard, tensor).elements()) {
            ([_], Some(elements)) => Ok(Some(elements.to_f32().into_owned())),
            _ => Err(not_plain(tensor)),
        }
    }

    /// The tensors under the names and in the forms that `place` gives, which may be several for one of
    /// the file, or none for one that is left out.
    pub(in crate::model) fn named(
        &self,
        place: impl Fn(&str, &[usize]) -> Result<Vec<(String, Form)>>,
    ) -> Result<Named> {
        let mut entries: Vec<(String, Entry)> = Vec::new();
        let mut names = HashMap::new();
        let mut values: HashMap<&str, usize> = HashMap::new();
        for file_name in self.names() {
            let (shard, tensor) = &self.tensors[file_name];
            let stored = stored(shard, tensor);
            if tensor.shape.len() > 1 {
                *values.entry(tensor.kind.name).or_default() +=
                    tensor.shape.iter().product::<usize>();
            }
            for (name, form) in place(file_name, &tensor.shape)? {
                if let Some(other) = names.insert(name.clone(), file_name) {
                    return Err(Error::new(
                        format!("tensor `{file_name}`"),
                        format!("it is `{name}` of the model, which `{other}` is, too"),
                    )
                    .remedy(reader::DAMAGED));
                }
                entries.push((name, entry(shard, tensor, &stored, &form)?));
            }
        }
        let most = values
            .iter()
            .max_by_key(|(name, values)| (**values, **name));
        let most = most.map_or("no matrices", |(name, _)| name);
        Ok(Named {
            entries,
            format: format!("GGUF, {most}"),
        })
    }
}

/// The bytes of a tensor of a type that is read.
fn stored(shard: &Arc<Shard>, tensor: &Tensor<'_>) -> Stored {
    let kind = tensor.kind;
    let plain = match kind.name {
        "F32" => Some(Dtype::F32),
        "F16" => Some(Dtype::F16),
        "BF16" => Some(Dtype::BF16),
        _ => None,
    };
    let mut shape = tensor.shape.clone();
    if let (None, Some(width)) = (plain, shape.last_mut()) {
        *width = *width / kind.values * kind.bytes;
    }
    let dtype = plain.unwrap_or(Dtype::U8);
    Stored::new(shard, dtype, shape, tensor.range.clone())
}

/// A tensor of the model from one of the file.
fn entry(shard: &Arc<Shard>, tensor: &Tensor<'_>, stored: &Stored, form: &Form) -> Result<Entry> {
    let shape = tensor.shape.as_slice();
    let plain = stored.elements();
    let wrong = |what: &str| {
        Err(Error::new(
            format!("tensor `{}`", tensor.name),
            format!("its shape is {shape:?}, expected {what}"),
        )
        .remedy(
            "the file is damaged, or of a model that massact does not know by this architecture",
        ))
    };
    match (form, shape, plain) {
        (Form::Rows(RowOrder::Kept), _, Some(_)) => Ok(Entry::Plain(stored.clone())),
        (Form::Rows(order), [rows], Some(elements)) if order.fits(*rows) => {
            let own = elements.to_f32();
            let moved = (0..*rows).map(|row| own[order.stored(row)]);
            Ok(computed(shard, moved))
        }
        (Form::PlusOne, [_], Some(elements)) => {
            let own = elements.to_f32();
            Ok(computed(shard, own.iter().map(|value| value - 1.0)))
        }
        (Form::PlusOne | Form::Rows(_), [_], None) => Err(not_plain(tensor)),
        (Form::Rows(order), [rows, _], _) if order.fits(*rows) => {
            Ok(Entry::Packed(packed(tensor, stored.clone(), shape, *order)))
        }
        (Form::Rows(RowOrder::Kept), ..) => Ok(Entry::Packed(packed(
            tensor,
            stored.clone(),
            shape,
            RowOrder::Kept,
        ))),
        (Form::Rows(_), ..) => wrong("rows of whole heads"),
        (Form::OneRow, [width] | [1, width], _) => {
            let shape = [1, *width];
            Ok(match plain {
                Some(_) => Entry::Plain(stored.part_of(0, 1, shape.to_vec())),
                None => Entry::Packed(packed(tensor, stored.clone(), &shape, RowOrder::Kept)),
            })
        }
        (Form::Slice(index), [count, rest @ ..], _) if index < count && !rest.is_empty() => {
            let part = stored.part_of(*index, *count, rest.to_vec());
            match (plain, rest) {
                (Some(_), _) => Ok(Entry::Plain(part)),
                (None, [_, _]) => Ok(Entry::Packed(packed(tensor, part, rest, RowOrder::Kept))),
                (None, _) => Err(not_plain(tensor)),
            }
        }
        (Form::OneRow, ..) => wrong("one row"),
        (Form::Slice(_), ..) => wrong("a stack"),
        (Form::PlusOne, ..) => wrong("a vector"),
    }
}

/// A vector that is not in the file as it is.
fn computed(shard: &Arc<Shard>, values: impl ExactSizeIterator<Item = f32>) -> Entry {
    let shape = vec![values.len()];
    let bytes = values.flat_map(f32::to_le_bytes).collect();
    Entry::Plain(Stored::in_order(shard, Dtype::F32, shape, bytes))
}

/// Rows of blocks, of the shape `[.., out, in]`.
fn packed(tensor: &Tensor<'_>, stored: Stored, shape: &[usize], order: RowOrder) -> PackedTensor {
    let rows = shape[..shape.len() - 1].iter().product();
    let stored = stored.part_of(0, 1, vec![rows, stored.bytes().len() / rows]);
    let encoding = Ggml::new(stored, tensor.kind, order);
    PackedTensor::new(shape.to_vec(), Encoding::Ggml(encoding))
}

/// Takes the tensor `name`, which is stored as bytes `[rows, bytes of a row]`, for blocks of the type of
/// this number.
pub fn take_for_blocks(
    store: &mut WeightStore,
    name: &str,
    code: u32,
    order: RowOrder,
) -> Result<()> {
    let misfit = || {
        Error::new(
            format!("tensor `{name}`"),
            format!("it is not rows of blocks of type {code}"),
        )
    };
    let kind = Kind::of(code).filter(Kind::is_read).ok_or_else(misfit)?;
    let stored = store.take(name).ok_or_else(misfit)?;
    let &[rows, bytes] = stored.shape() else {
        return Err(misfit());
    };
    if !bytes.is_multiple_of(kind.bytes) || !order.fits(rows) || rows == 0 {
        return Err(misfit());
    }
    let shape = vec![rows, bytes / kind.bytes * kind.values];
    let encoding = Encoding::Ggml(Ggml::new(stored, kind, order));
    store.pack(name.to_owned(), PackedTensor::new(shape, encoding));
    Ok(())
}

fn not_plain(tensor: &Tensor<'_>) -> Error {
    Error::new(
        format!("tensor `{}`", tensor.name),
        format!(
            "it is stored as {} of {:?} where plain numbers are needed",
            tensor.kind.name, tensor.shape
        ),
    )
    .remedy("take another file of the model: llama.cpp keeps vectors in float32")
}
