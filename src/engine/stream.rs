//! Micro-batches on their way through the layers, and what they carry.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, rc::Rc};

use super::batch::Batch;
use crate::{
    backend::Backend,
    error::{Error, Result},
};

/// A micro-batch on its way through the layers.
pub(super) struct Stream<B: Backend> {
    pub(super) batch: Batch,
    /// The residual stream.
    pub(super) hidden: B::Tensor,
    pub(super) carried: Carried<B>,
}

/// What layers left for later ones, beside the residual stream.
pub(super) struct Carried<B: Backend> {
    /// Keys and values that are read again, by the layer that made them.
    shared: BTreeMap<usize, [B::Tensor; 2]>,
    /// Residual streams beside the first.
    pub(super) others: Vec<B::Tensor>,
    /// The residual stream before the first layer, where layers read it again.
    pub(super) embedding: Option<B::Tensor>,
    /// The keys that the last indexer picked; none where every query sees all.
    pub(super) choice: Option<Rc<B::KeyMask>>,
}

impl<B: Backend> Carried<B> {
    /// Before the first layer: the other residual streams alone.
    pub(super) fn new(others: Vec<B::Tensor>) -> Self {
        Self {
            shared: BTreeMap::new(),
            others,
            embedding: None,
            choice: None,
        }
    }

    /// Leaves the keys and values of `layer` for later layers.
    pub(super) fn keep(&mut self, layer: usize, keys_and_values: [B::Tensor; 2]) {
        self.shared.insert(layer, keys_and_values);
    }

    /// The keys and values that `layer` left.
    pub(super) fn of(&self, layer: usize) -> Result<&[B::Tensor; 2]> {
        let left = self.shared.get(&layer);
        left.ok_or_else(|| {
            missing(format!(
                "layer {layer} left no keys and values for later ones"
            ))
        })
    }

    /// The residual stream before the first layer.
    pub(super) fn embedding(&self) -> Result<&B::Tensor> {
        let left = self.embedding.as_ref();
        left.ok_or_else(|| missing("the embedding was not kept for later layers"))
    }

    /// The same of some rows, in this order: those of whole sequences. `whole` says that it is all of
    /// them, as they are.
    pub(super) fn of_rows(&self, backend: &B, rows: &[usize], whole: bool) -> Result<Self> {
        let copy = |tensor: &B::Tensor| {
            if whole {
                backend.duplicate(tensor)
            } else {
                backend.gather_rows(tensor, rows)
            }
        };
        let shared = self.shared.iter();
        let shared = shared.map(|(layer, [k, v])| Ok((*layer, [copy(k)?, copy(v)?])));
        let choice = match &self.choice {
            Some(choice) if !whole => Some(Rc::new(backend.gather_choices(choice, rows)?)),
            choice => choice.clone(),
        };
        Ok(Self {
            shared: shared.collect::<Result<_>>()?,
            others: self.others.iter().map(copy).collect::<Result<_>>()?,
            embedding: self.embedding.as_ref().map(copy).transpose()?,
            choice,
        })
    }
}

fn missing(what: impl std::fmt::Display) -> Error {
    Error::new("attention", what).remedy("this is a defect of massact; please report it")
}
