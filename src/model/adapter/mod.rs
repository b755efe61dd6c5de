//! LoRA adapters as peft stores them, put on the weights while they are read.
//!
//! An adapter is about modules, and so a tied head stays what the base's embedding is when the embedding's
//! module is adapted, as in the library's own forward pass. Every tensor of the adapter must find its place.
#![forbid(unsafe_code)]

mod missing;
mod names;
mod settings;
mod tensors;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    names::Modules,
    settings::Settings,
    tensors::{Kind, split},
};
use super::{
    dtype::DType,
    spec::DecoderSpec,
    weights::{self, Factor, LowRank, Stored, WeightStore},
};
use crate::{
    error::{Error, Result},
    files,
};

pub(crate) use settings::SETTINGS;

/// The file of its tensors, and the one that older versions of the library wrote.
const TENSORS: &str = "adapter_model.safetensors";
const PICKLED: &str = "adapter_model.bin";

/// An adapter that is on a model's weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterRecord {
    /// Its folder as given.
    pub path: String,
    /// The model that it says it was trained on.
    pub base: Option<String>,
    /// Rank of what is added, where no pattern says otherwise.
    pub r: usize,
    /// Factor on it, over the rank.
    pub lora_alpha: Value,
    /// Whether the factor is over the root of the rank.
    pub use_rslora: bool,
    /// Which modules, as its file names them.
    pub target_modules: Value,
    /// Modules that it has whole.
    pub modules_to_save: Value,
    /// Matrices that something is added to.
    pub adapted: usize,
    /// Tensors that are replaced.
    pub replaced: usize,
    /// Its files.
    pub files: Vec<AdapterFile>,
}

/// A file of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of the content, 64 hex digits.
    pub blake3: String,
}

/// An adapter's files, not yet on any weights.
#[derive(Debug)]
pub struct Adapter {
    path: String,
    settings: Settings,
    tensors: Tensors,
    files: Vec<AdapterFile>,
}

#[derive(Debug)]
enum Tensors {
    File(&'static str, PathBuf),
    Memory(Vec<u8>),
}

/// The two thin matrices of a module.
#[derive(Debug, Default)]
struct Pair {
    a: Option<Stored>,
    b: Option<Stored>,
}

/// An adapter that has been put on a model.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) record: AdapterRecord,
    /// Whether it is on an embedding or a head that were one tensor, and now are two.
    pub(super) unties: bool,
    /// What a user should know.
    pub(super) notice: Option<String>,
}

/// What is to be done with a model's tensors.
#[derive(Debug, Default)]
struct Work {
    /// By tensor and by whether it is an embedding's.
    pairs: BTreeMap<(String, bool), (String, Pair)>,
    replaced: Vec<(String, Stored)>,
}

impl Adapter {
    /// Reads the settings in `folder`, and finds the tensors.
    pub fn open(folder: &Path) -> Result<Self> {
        let settings = Settings::open(folder)?;
        let mut names = [TENSORS, PICKLED].into_iter();
        let Some(tensors) = names.find(|name| folder.join(name).is_file()) else {
            return Err(Error::new(
                folder.display(),
                format!("there is no {TENSORS} beside {SETTINGS}"),
            )
            .remedy("give the folder that PeftModel.save_pretrained(folder) has written"));
        };
        let file = |name: &str| {
            let path = folder.join(name);
            let read = files::open(&path).and_then(|mut file| {
                let mut hasher = blake3::Hasher::new();
                let bytes = std::io::copy(&mut file, &mut hasher)?;
                Ok((bytes, hasher.finalize()))
            });
            let (bytes, hash) = read.map_err(|error| Error::unread(&path, error))?;
            Ok(AdapterFile {
                name: name.to_owned(),
                bytes,
                blake3: hash.to_hex().to_string(),
            })
        };
        Ok(Self {
            path: folder.display().to_string(),
            settings,
            files: vec![file(SETTINGS)?, file(tensors)?],
            tensors: Tensors::File(tensors, folder.join(tensors)),
        })
    }

    /// From the contents of its two files.
    pub fn in_memory(settings: &[u8], tensors: Vec<u8>) -> Result<Self> {
        Ok(Self {
            path: "memory".to_owned(),
            settings: Settings::parse(SETTINGS, settings)?,
            files: Vec::new(),
            tensors: Tensors::Memory(tensors),
        })
    }

    /// The model that it was trained on, and the revision of that.
    pub(crate) fn base(folder: &Path) -> Result<(Option<String>, Option<String>)> {
        let settings = Settings::open(folder)?;
        Ok((settings.base, settings.revision))
    }

    /// Puts it on the weights of a model. `prefixes` are those of the family's names.
    pub(super) fn apply(
        self,
        spec: &DecoderSpec,
        prefix: &'static str,
        prefixes: &[&'static str],
        weights: &mut WeightStore,
    ) -> Result<Applied> {
        let stored = match self.tensors {
            Tensors::File(name, path) => weights::add_adapter(weights, name, path),
            Tensors::Memory(bytes) => weights::add_adapter_in_memory(weights, TENSORS, bytes),
        }?;
        let modules = Modules::new(spec, prefix, prefixes, weights)?;
        let settings = self.settings;
        let work = Work::sort(&settings, &modules, stored)?;
        let missing = missing::of(&settings, &modules, &work, weights)?;
        if work.pairs.is_empty() && !missing.is_empty() {
            return Err(settings.damaged(format!(
                "the adapter has no tensors for any module that `target_modules` names: {}",
                missing::list(&missing)
            )));
        }
        let (adapted, replaced) = (work.pairs.len(), work.replaced.len());
        let unties = work.carry_out(&settings, &modules, weights)?;
        let record = AdapterRecord {
            path: self.path,
            base: settings.base,
            r: settings.r,
            lora_alpha: settings.lora_alpha,
            use_rslora: settings.rslora,
            target_modules: settings.target_modules,
            modules_to_save: settings.modules_to_save,
            adapted,
            replaced,
            files: self.files,
        };
        Ok(Applied {
            record,
            unties,
            notice: missing::notice(&missing),
        })
    }
}

impl Work {
    /// Finds the place of every tensor.
    fn sort(
        settings: &Settings,
        modules: &Modules,
        stored: BTreeMap<String, Stored>,
    ) -> Result<Self> {
        let mut work = Self::default();
        for (name, tensor) in stored {
            let (module, kind) =
                split(&name).map_err(|what| settings.error(format!("tensor `{name}`: {what}")))?;
            let place = |part: &str| match modules.find(&format!("{module}.{part}")) {
                Some(place) if !modules.is_shared(&place.tensor) => Ok(place),
                None if !modules.are_shared() => Err(nowhere(settings, &name)),
                _ => Err(settings.of_one_user(&name)),
            };
            if let Kind::Whole(part) = &kind {
                work.replaced.push((place(part)?.tensor.clone(), tensor));
                continue;
            }
            let place = place("weight")?;
            if place.axes.is_none() {
                return Err(nowhere(settings, &name));
            }
            if !settings.targets(&module)? {
                return Err(settings.error(format!(
                    "tensor `{name}` is there, but `target_modules` does not name its module, and the library would leave it out"
                )));
            }
            let table = matches!(kind, Kind::TableA | Kind::TableB);
            let key = (place.tensor.clone(), table);
            let (_, pair) = work.pairs.entry(key).or_insert((module, Pair::default()));
            let part = match kind {
                Kind::A | Kind::TableA => &mut pair.a,
                _ => &mut pair.b,
            };
            if part.replace(tensor).is_some() {
                return Err(settings.error(format!(
                    "tensor `{name}` is there under a second spelling, too"
                )));
            }
        }
        if work.pairs.is_empty() && work.replaced.is_empty() {
            return Err(settings.damaged("the adapter has no tensor"));
        }
        Ok(work)
    }

    fn carry_out(
        self,
        settings: &Settings,
        modules: &Modules,
        weights: &mut WeightStore,
    ) -> Result<bool> {
        let touched = self.pairs.keys().map(|(tensor, _)| tensor);
        let touched = touched.chain(self.replaced.iter().map(|(tensor, _)| tensor));
        let unties = modules.untie(touched.map(String::as_str).collect(), weights);
        for (tensor, stored) in self.replaced {
            if stored.elements().is_none() {
                return Err(settings.error(format!(
                    "`{tensor}` is stored as {:?}, not in floats that compute",
                    stored.dtype()
                )));
            }
            weights.insert(tensor, stored);
        }
        for ((tensor, table), (module, pair)) in self.pairs {
            let (Some(a), Some(b)) = (pair.a, pair.b) else {
                return Err(
                    settings.damaged(format!("`{module}` has only one of its two matrices"))
                );
            };
            let (rank, scale) = settings.of_module(&module)?;
            let shapes = format!("{:?} and {:?}", a.shape(), b.shape());
            if !finite(&a) || !finite(&b) {
                return Err(settings.damaged(format!(
                    "the matrices of `{module}` have values that are infinite or not a number"
                )));
            }
            // A table's A has a column an entry, and B a row a dimension: as outputs and inputs the other way
            // round.
            let (inputs, outputs) = match table {
                false => (factor(a, true, rank), factor(b, false, rank)),
                true => (factor(b, false, rank), factor(a, true, rank)),
            };
            let (Some(inputs), Some(outputs)) = (inputs, outputs) else {
                return Err(settings.damaged(format!(
                    "the matrices of `{module}`, {shapes}, are not floats of rank {rank}"
                )));
            };
            let by_input = modules.of(&tensor).is_some_and(|place| place.by_input());
            weights.adapt(
                &tensor,
                by_input,
                LowRank {
                    inputs,
                    outputs,
                    rank,
                    scale,
                },
            )?;
        }
        Ok(unties)
    }
}

/// That a tensor has no place.
fn nowhere(settings: &Settings, name: &str) -> Error {
    settings.error(format!(
        "tensor `{name}` belongs to no module that the model has and massact reads"
    ))
}

/// Whether all values are, where they are floats.
fn finite(stored: &Stored) -> bool {
    let values = stored.elements().map(|elements| elements.to_f32());
    values.is_none_or(|values| values.iter().all(|value| value.is_finite()))
}

/// One of two matrices, of two axes, the first of which is the rank if `rank_first`; none if it is none.
fn factor(stored: Stored, rank_first: bool, rank: usize) -> Option<Factor> {
    let dtype: DType = stored.elements()?.dtype;
    let &[rows, columns] = stored.shape() else {
        return None;
    };
    let (own, length) = match rank_first {
        true => (rows, columns),
        false => (columns, rows),
    };
    (own == rank && length > 0).then_some(Factor {
        stored,
        dtype,
        rank_first,
        length,
    })
}
