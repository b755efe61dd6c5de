//! The tensors of a checkpoint by name: those that are stored as they are, and packed ones, of which
//! only the whole is seen.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use super::{
    checksum::Checksums,
    encodings::{Adapted, Base, Encoding, LowRank, Zeroed},
    missing::{self, MISMATCH},
    packed::{PackedMatrix, PackedTensor},
    shard::{Shard, Stored},
    storage::Storage,
    view::Elements,
};
use crate::{
    error::{Error, Result},
    mapped,
};

/// A tensor, however it is stored.
#[derive(Debug, Clone)]
enum Entry {
    Plain(Stored),
    Packed(PackedTensor),
}

impl Entry {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Plain(stored) => stored.shape(),
            Self::Packed(tensor) => tensor.shape(),
        }
    }

    /// What of the files it is read from.
    fn parts(&self) -> Vec<&Stored> {
        match self {
            Self::Plain(stored) => vec![stored],
            Self::Packed(tensor) => tensor.parts(),
        }
    }
}

/// A tensor that may be packed.
#[derive(Debug, Clone, Copy)]
pub(in crate::model) enum Values<'w> {
    /// As it is.
    Plain(&'w Stored, Elements<'w>),
    /// To be decoded.
    Packed(&'w PackedTensor),
}

/// All tensors of a checkpoint.
#[derive(Debug)]
pub struct WeightStore {
    shards: Vec<Arc<Shard>>,
    entries: HashMap<String, Entry>,
    /// How it is packed, in words; none if nothing is.
    packing: Option<Packing>,
    /// Taken beside the walks, once that is asked for.
    checksums: OnceLock<Checksums>,
    notice: Option<String>,
}

/// How the weights of a checkpoint are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// In words, as `GPTQ, 4 bits in groups of 128`.
    pub format: String,
    /// Whether whoever runs the model in this format quantises activations, too, which is not done here:
    /// what is studied are the weights.
    pub quantises_activations: bool,
}

/// One tensor as stored: shape and elements.
#[derive(Debug, Clone, Copy)]
pub struct StoredTensor<'w> {
    /// Dimensions, outermost first.
    pub shape: &'w [usize],
    /// The values, row-major.
    pub elements: Elements<'w>,
}

impl WeightStore {
    pub(super) fn empty() -> Self {
        Self {
            shards: Vec::new(),
            entries: HashMap::new(),
            packing: None,
            checksums: OnceLock::new(),
            notice: None,
        }
    }

    /// What a user should know of the choice of files.
    pub(in crate::model) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Says so.
    pub(super) fn say(&mut self, notice: String) {
        self.notice = Some(notice);
    }

    /// Adds a file, after those that are there.
    pub(super) fn add_file(
        &mut self,
        name: String,
        path: Option<PathBuf>,
        storage: Storage,
    ) -> Arc<Shard> {
        let shard = Arc::new(Shard::new(self.shards.len(), name, path, storage));
        self.shards.push(Arc::clone(&shard));
        shard
    }

    /// Adds a tensor, instead of one of the same name.
    pub(in crate::model) fn insert(&mut self, name: String, stored: Stored) {
        self.entries.insert(name, Entry::Plain(stored));
    }

    /// Adds a packed tensor, instead of one of the same name.
    pub(super) fn pack(&mut self, name: String, tensor: PackedTensor) {
        self.entries.insert(name, Entry::Packed(tensor));
    }

    /// The same tensor under another name, too.
    pub(in crate::model) fn copy(&mut self, from: &str, to: String) {
        if let Some(entry) = self.entries.get(from) {
            self.entries.insert(to, entry.clone());
        }
    }

    /// Adds a product of two thin matrices to the matrix `name`, whose stored rows are its inputs' if
    /// `by_input`, unless it is packed. Refuses one of another shape.
    pub(in crate::model) fn adapt(
        &mut self,
        name: &str,
        by_input: bool,
        added: LowRank,
    ) -> Result<()> {
        let (outputs, inputs) = (added.outputs.length, added.inputs.length);
        let shape = [outputs, inputs];
        let fits = |fits: bool| match fits {
            true => Ok(()),
            false => {
                let stored = self.shape(name);
                Err(added
                    .outputs
                    .stored
                    .error(format!(
                        "its matrices for `{name}` make one of shape {shape:?}, but the tensor has {:?}",
                        stored.unwrap_or_default()
                    ))
                    .remedy("give the model that the adapter was trained on"))
            }
        };
        let (base, by_input, shape) = match self.values(name)? {
            Values::Plain(stored, elements) => {
                let axes = if by_input { [inputs, outputs] } else { shape };
                fits(stored.shape() == axes)?;
                let base = Base::Plain(stored.clone(), elements.dtype, axes[1]);
                (base, by_input, shape.to_vec())
            }
            Values::Packed(tensor) => {
                fits(tensor.fits(&shape))?;
                let by_input = tensor.encoding().by_input();
                (
                    Base::Packed(Arc::clone(tensor.encoding())),
                    by_input,
                    tensor.shape().to_vec(),
                )
            }
        };
        let encoding = Encoding::Adapted(Adapted::new(base, by_input, added));
        self.pack(name.to_owned(), PackedTensor::new(shape, encoding));
        Ok(())
    }

    /// Sets single values of a matrix, or of a stack of them, to zero, by (line, position); the lines are the
    /// inputs' if `by_input`, unless it is packed: then as it is. Whoever calls has checked the places.
    pub(in crate::model) fn zero(
        &mut self,
        name: &str,
        by_input: bool,
        places: &[(usize, usize)],
    ) -> Result<()> {
        let (base, by_input, shape) = match self.values(name)? {
            Values::Plain(stored, elements) => {
                let mut shape = stored.shape().to_vec();
                let base = Base::Plain(stored.clone(), elements.dtype, shape[shape.len() - 1]);
                if by_input {
                    let last = shape.len() - 1;
                    shape.swap(last - 1, last);
                }
                (base, by_input, shape)
            }
            Values::Packed(tensor) => (
                Base::Packed(Arc::clone(tensor.encoding())),
                tensor.encoding().by_input(),
                tensor.shape().to_vec(),
            ),
        };
        let encoding = Encoding::Zeroed(Zeroed::new(base, by_input, places));
        self.pack(name.to_owned(), PackedTensor::new(shape, encoding));
        Ok(())
    }

    /// Takes away a tensor that is part of a packed one; none if it is not stored as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Stored> {
        match self.entries.remove(name)? {
            Entry::Plain(stored) => Some(stored),
            packed @ Entry::Packed(_) => {
                self.entries.insert(name.to_owned(), packed);
                None
            }
        }
    }

    /// A tensor that is stored as it is, whatever its elements; none if there is none.
    pub(super) fn stored(&self, name: &str) -> Option<&Stored> {
        match self.entries.get(name)? {
            Entry::Plain(stored) => Some(stored),
            Entry::Packed(_) => None,
        }
    }

    /// Number of tensors.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How the weights are packed; none if none is.
    pub fn packing(&self) -> Option<&Packing> {
        self.packing.as_ref()
    }

    /// Says how the weights are packed.
    pub(super) fn set_packing(&mut self, packing: Packing) {
        self.packing = Some(packing);
    }

    /// The tensor `name`, if it has to be decoded.
    pub fn packed(&self, name: &str) -> Option<&PackedTensor> {
        match self.entries.get(name)? {
            Entry::Packed(tensor) => Some(tensor),
            Entry::Plain(_) => None,
        }
    }

    /// Whether the tensor `name` has to be decoded.
    pub fn is_packed(&self, name: &str) -> bool {
        self.packed(name).is_some()
    }

    /// How the values of the tensor `name` are stored: its type, or its encoding.
    pub fn stored_as(&self, name: &str) -> Option<String> {
        Some(match self.entries.get(name)? {
            Entry::Plain(stored) => match stored.elements() {
                Some(elements) => elements.dtype.to_string(),
                None => format!("{:?}", stored.dtype()),
            },
            Entry::Packed(tensor) => tensor.encoding().name(),
        })
    }

    /// The files, in reading order.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// Whether a tensor of this name is stored.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Dimensions of the tensor `name`, if it is stored.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(Entry::shape)
    }

    /// Names of all tensors, in no order. What a packed tensor is made of has none.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The tensor `name`, which must exist and hold floats that compute, or be packed.
    pub(in crate::model) fn values(&self, name: &str) -> Result<Values<'_>> {
        match self.entry(name)? {
            Entry::Packed(tensor) => Ok(Values::Packed(tensor)),
            Entry::Plain(stored) => match stored.elements() {
                Some(elements) => Ok(Values::Plain(stored, elements)),
                None => Err(stored
                    .error(format!("tensor `{name}` is stored as {:?}", stored.dtype()))
                    .remedy(
                        "config.json does not say how it is packed; take weights and config.json from one model, or convert the checkpoint to float32, bfloat16 or float16",
                    )),
            },
        }
    }

    /// The tensor `name`; it must exist and hold floats of a supported width.
    pub fn get(&self, name: &str) -> Result<StoredTensor<'_>> {
        match self.values(name)? {
            Values::Plain(stored, elements) => Ok(StoredTensor {
                shape: stored.shape(),
                elements,
            }),
            Values::Packed(tensor) => {
                let encoding = tensor.encoding().name();
                Err(Error::new(
                    self.describe(),
                    format!(
                        "tensor `{name}` is packed ({encoding}) where plain numbers are needed"
                    ),
                )
                .remedy("take the checkpoint in 16 or 32 bits"))
            }
        }
    }

    /// The last matrix of the packed tensor `name`.
    pub fn last_packed(&self, name: &str) -> Result<PackedMatrix<'_>> {
        match self.values(name)? {
            Values::Packed(tensor) => {
                let [stack @ .., _, inputs] = tensor.shape() else {
                    return Err(Error::new(
                        self.describe(),
                        format!("tensor `{name}` is no matrix"),
                    ));
                };
                let count: usize = stack.iter().product();
                Ok(PackedMatrix::new(tensor, count.saturating_sub(1), *inputs))
            }
            Values::Plain(..) => Err(Error::new(
                self.describe(),
                format!("tensor `{name}` is not packed"),
            )),
        }
    }

    /// The tensor `name`, which must have exactly this shape.
    pub fn get_shaped(&self, name: &str, shape: &[usize]) -> Result<StoredTensor<'_>> {
        // The dtype first: a tensor of a wrong one often has a wrong shape, too.
        let tensor = self.get(name)?;
        self.check_shape(name, shape)?;
        Ok(tensor)
    }

    /// The bytes of the tensor `name`, whatever its elements; it must not be packed.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        match self.entry(name)? {
            Entry::Plain(stored) => Ok(stored.bytes()),
            Entry::Packed(_) => self.get(name).map(|tensor| tensor.elements.bytes),
        }
    }

    /// The tensor `name`, which must hold integers of 32 or 64 bits.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let stored = match self.entry(name)? {
            Entry::Plain(stored) => stored,
            Entry::Packed(_) => return self.get(name).map(|_| Vec::new()),
        };
        stored.integers().ok_or_else(|| {
            stored
                .error(format!(
                    "tensor `{name}` is stored as {:?} where integers are needed",
                    stored.dtype()
                ))
                .remedy(MISMATCH)
        })
    }

    /// Index of the file that has the tensor `name`, unless it is packed; of several, the one that counts.
    pub fn shard_of(&self, name: &str) -> Option<usize> {
        Some(self.stored(name)?.part().0)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let names = self.entries.keys().map(String::as_str);
            missing::tensor(name, self.describe(), names)
        })
    }

    /// Refuses another shape than this one.
    pub(in crate::model) fn check_shape(&self, name: &str, shape: &[usize]) -> Result<()> {
        let entry = self.entry(name)?;
        let fits = match entry {
            Entry::Plain(stored) => stored.shape() == shape,
            Entry::Packed(tensor) => tensor.fits(shape),
        };
        if fits {
            return Ok(());
        }
        let stored = entry.shape();
        Err(Error::new(
            self.describe(),
            format!("tensor `{name}` has shape {stored:?}, but config.json implies {shape:?}"),
        )
        .remedy(MISMATCH))
    }

    /// What of the files these tensors are read from.
    fn parts<'s>(&'s self, names: &'s [String]) -> impl Iterator<Item = &'s Stored> {
        names
            .iter()
            .filter_map(|name| self.entries.get(name.as_str()))
            .flat_map(Entry::parts)
    }

    /// Asks the kernel to read these tensors ahead of their use.
    pub fn prefetch(&self, names: &[String]) {
        self.parts(names).for_each(Stored::prefetch);
    }

    /// Drops these tensors from the resident set; reading them again is still correct.
    pub fn release(&self, names: &[String]) {
        let parts = self.parts(names).map(Stored::part);
        match self.checksums.get() {
            Some(checksums) => checksums.take(parts.collect()),
            None => parts.for_each(|(shard, range): (usize, Range<usize>)| {
                self.shards[shard].release(range);
            }),
        }
    }

    /// A digest of what is cheap to know of all files; it changes when one of them does.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for shard in &self.shards {
            shard.fingerprint(&mut hasher);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// An error if what was read is not what is in the files: one became shorter, was written to, or its
    /// disk failed. To be asked when all has been read.
    pub fn intact(&self) -> Result<()> {
        mapped::check()?;
        self.shards.iter().try_for_each(|shard| shard.intact())
    }

    /// From now on takes the files' checksums beside the walks, from what [`WeightStore::release`]
    /// gives back; unless the hub's cache knows them already.
    pub fn take_checksums(&self) {
        if self
            .shards
            .iter()
            .all(|shard| shard.blob_sha256().is_some())
        {
            return;
        }
        self.checksums
            .get_or_init(|| Checksums::start(&self.shards));
    }

    /// The BLAKE3 of every file, in the order of [`WeightStore::shards`]: what no walk has read is
    /// read now.
    pub fn checksums(&self) -> Result<Vec<blake3::Hash>> {
        let checksums = self
            .checksums
            .get_or_init(|| Checksums::start(&self.shards));
        checksums.finish()
    }

    fn describe(&self) -> String {
        match self.shards.as_slice() {
            [only] => only.name().to_owned(),
            _ => format!("{} files of weights", self.shards.len()),
        }
    }
}
