//! Finding the tensors that a packed one is made of.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use fancy_regex::{Regex, RegexBuilder};
use safetensors::Dtype;

use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        weights::{
            encodings::{Blocks, Encoding},
            packed::PackedTensor,
            shard::Stored,
            store::{Packing, WeightStore},
        },
    },
};

/// Endings of tensors that say how to read others, and are in few bits themselves at times.
const SCALES: [&str; 5] = ["_scale", "_scale_inv", "_scale_2", "_zero_point", "_scales"];

/// What to do about a packing that is not read.
pub(super) const IN_16_BITS: &str =
    "take the checkpoint in 16 bits, or dequantise it and save it so";

/// What to do where two tensors cannot both be right.
pub(super) const DISAGREE: &str =
    "take the files from one model, or take the tensor that does not belong to it out of them";

/// What all methods that pack do: replace parts by what they make, and remember how.
#[derive(Debug)]
pub(super) struct Packer<'w> {
    weights: &'w mut WeightStore,
    encodings: BTreeSet<String>,
}

impl<'w> Packer<'w> {
    pub(super) fn new(weights: &'w mut WeightStore) -> Self {
        Self {
            weights,
            encodings: BTreeSet::new(),
        }
    }

    /// The names of all tensors that end so, without the ending, in order.
    pub(super) fn ending(&self, ending: &str) -> Vec<String> {
        let names = self.weights.names();
        let mut found: Vec<String> = names
            .filter_map(|name| name.strip_suffix(ending))
            .map(str::to_owned)
            .collect();
        found.sort_unstable();
        found
    }

    /// The names of all tensors but scales that are stored in one of these types, in order.
    pub(super) fn of_types(&self, types: &[Dtype]) -> Vec<String> {
        let stored = |name: &&str| {
            let stored = self.weights.stored(name);
            stored.is_some_and(|stored| types.contains(&stored.dtype()))
                && !SCALES.iter().any(|ending| name.ends_with(ending))
        };
        let mut found: Vec<String> = self
            .weights
            .names()
            .filter(stored)
            .map(str::to_owned)
            .collect();
        found.sort_unstable();
        found
    }

    /// Refuses tensors that end so: they change what the model computes.
    pub(super) fn refuse_any(&self, ending: &str, what: &str) -> Result<()> {
        match self.ending(ending).first() {
            None => Ok(()),
            Some(module) => Err(
                Error::new("weights", format!("tensor `{module}{ending}` {what}"))
                    .remedy("take the checkpoint in 16 bits, or another quantised form of it"),
            ),
        }
    }

    /// A tensor that may be there.
    pub(super) fn stored(&self, name: &str) -> Option<&Stored> {
        self.weights.stored(name)
    }

    /// Takes a part that may be there.
    pub(super) fn take(&mut self, name: &str) -> Option<Stored> {
        self.weights.take(name)
    }

    /// Takes a part without which the others, as `beside`, say nothing.
    pub(super) fn part(&mut self, name: &str, beside: &str) -> Result<Stored> {
        self.take(name).ok_or_else(|| {
            Error::new(
                "weights",
                format!("tensor `{name}` is missing beside `{beside}`"),
            )
            .remedy("download the checkpoint again, all of its files")
        })
    }

    /// Puts what was made in the place of its parts.
    pub(super) fn pack(&mut self, name: String, shape: Vec<usize>, encoding: Encoding) {
        self.encodings.insert(encoding.name());
        self.weights.pack(name, PackedTensor::new(shape, encoding));
    }

    /// How all was packed by the method of this name; none if nothing was.
    pub(super) fn packing(self, method: &str, quantises_activations: bool) -> Option<Packing> {
        if self.encodings.is_empty() {
            return None;
        }
        let encodings: Vec<String> = self.encodings.into_iter().collect();
        let encodings = encodings.join(", ");
        // What an encoding is called by itself needs no other name.
        let format = if encodings.starts_with(method) {
            encodings
        } else {
            format!("{method}: {encodings}")
        };
        Some(Packing {
            format,
            quantises_activations,
        })
    }
}

/// The order of a tensor's inputs, without which its groups are another's.
pub(super) fn no_order(name: &str, groups: &str, key: &str) -> Error {
    Error::new(
        "weights",
        format!("tensor `{groups}` is missing, and config.json (`{key}`) says that the inputs of `{name}` are grouped in an order of their own"),
    )
    .remedy("download the checkpoint again, all of its files")
}

/// A pattern for modules' names, made once: models have tens of thousands of them. One that takes too long
/// or too much matches nothing.
#[derive(Debug)]
pub(super) struct Pattern(Option<Regex>);

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let built = RegexBuilder::new(&format!("^(?:{pattern})"))
            .backtrack_limit(10_000)
            .delegate_size_limit(1 << 20)
            .build();
        Self(built.ok())
    }

    /// Whether it matches a name from the start on, as Python's re.match does.
    pub(super) fn matches(&self, module: &str) -> bool {
        let pattern = self.0.as_ref();
        pattern.is_some_and(|pattern| pattern.is_match(module).unwrap_or(false))
    }
}

/// A setting of `quantization_config` that massact does not read.
pub(super) fn refuse(key: &str, value: impl std::fmt::Display, why: &str) -> Error {
    Error::new(
        "config.json",
        format!("`quantization_config.{key}` is {value}: {why}"),
    )
    .remedy(IN_16_BITS)
}

/// Rows and columns of the blocks that share a scale.
pub(super) fn block_size(section: &Config, key: &str) -> Result<Option<Blocks>> {
    let Some(sizes) = section.indices_opt(key)? else {
        return Ok(None);
    };
    let whole: Vec<usize> = sizes
        .iter()
        .filter_map(|size| usize::try_from(*size).ok())
        .filter(|size| *size > 0)
        .collect();
    match (sizes.len(), whole.as_slice()) {
        (2, &[rows, columns]) => Ok(Some(Blocks::Of(rows, columns))),
        _ => Err(refuse(
            key,
            format_args!("{sizes:?}"),
            "expected two sizes of at least 1",
        )),
    }
}

/// A number of inputs that share a scale: 0, for all of them, where it is -1.
pub(super) fn group_size(section: &Config, default: usize) -> Result<usize> {
    group_size_of(section, "group_size", default)
}

/// The same, under this key.
pub(super) fn group_size_of(section: &Config, key: &str, default: usize) -> Result<usize> {
    match section.get(key).map(|value| value.as_i64()) {
        None => Ok(default),
        Some(Some(-1)) => Ok(0),
        Some(_) => section.size(key),
    }
}
