//! Tensor names of a checkpoint, whatever prefix it was saved with.
#![forbid(unsafe_code)]

use super::weights::WeightStore;
use crate::error::{Error, Result};

/// Builds complete tensor names.
#[derive(Debug)]
pub struct Names<'w> {
    prefix: &'static str,
    weights: &'w WeightStore,
}

impl<'w> Names<'w> {
    /// Finds which of `prefixes` the checkpoint uses by looking for its embedding table.
    pub fn detect(
        weights: &'w WeightStore,
        embedding: &str,
        prefixes: &[&'static str],
    ) -> Result<Self> {
        prefixes
            .iter()
            .find(|prefix| weights.contains(&format!("{prefix}{embedding}")))
            .map(|prefix| Self { prefix, weights })
            .ok_or_else(|| {
                let tried: Vec<String> = prefixes
                    .iter()
                    .map(|prefix| format!("`{prefix}{embedding}`"))
                    .collect();
                Error::new(
                    "weights",
                    format!("tensor {} is missing", tried.join(" or ")),
                )
                .remedy("the checkpoint does not match its config.json; download both again")
            })
    }

    /// A tensor of the base model.
    pub fn base(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A tensor of layer `index` in the module list `list`.
    pub fn layer(&self, list: &str, index: usize, name: &str) -> String {
        format!("{}{list}.{index}.{name}", self.prefix)
    }

    /// The shape of a stored tensor; none if it is not there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.weights.shape(name)
    }

    /// The head's weight: the embedding table when tied. As in transformers a stored `lm_head` of
    /// a tied model is ignored.
    pub fn head(&self, tied: bool, embedding: &str) -> String {
        if tied {
            embedding.to_owned()
        } else {
            self.root("lm_head.weight")
        }
    }

    /// A tensor beside the base model, such as the head's. Multimodal checkpoints keep the whole
    /// language model under one name.
    pub fn root(&self, name: &str) -> String {
        const WRAPPER: &str = "language_model.";
        if self.prefix.starts_with(WRAPPER) {
            format!("{WRAPPER}{name}")
        } else {
            name.to_owned()
        }
    }
}
