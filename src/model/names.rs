//! Tensor names of a checkpoint, whatever prefix it was saved with.
#![forbid(unsafe_code)]

use super::weights::WeightStore;
use crate::error::{Error, Result};

/// What multimodal checkpoints put in front of the whole language model.
const WRAPPER: &str = "language_model.";
/// The head's tensor, as most families call it; GPT-NeoX and DeepSeek-V4 call it otherwise.
const HEADS: [&str; 3] = [HEAD, "embed_out.weight", "head.weight"];
pub(super) const HEAD: &str = "lm_head.weight";

/// Builds complete tensor names.
#[derive(Debug)]
pub struct Names<'w> {
    prefix: &'static str,
    /// Beginnings of names behind the prefix and the layer's number, and what this checkpoint has there.
    renamed: &'static [(&'static str, &'static str)],
    weights: &'w WeightStore,
}

impl<'w> Names<'w> {
    /// Finds which of `prefixes` the checkpoint uses by looking for its embedding table, or, where
    /// a head serves as one, for any tensor that begins so.
    pub fn detect(
        weights: &'w WeightStore,
        embedding: &str,
        prefixes: &[&'static str],
    ) -> Result<Self> {
        let by_table = |prefix: &&&str| weights.contains(&format!("{prefix}{embedding}"));
        let by_name = |prefix: &&&str| weights.names().any(|name| name.starts_with(**prefix));
        let has_head =
            |prefix: &&'static str| head_names(prefix).any(|name| weights.contains(&name));
        let mut found = prefixes.iter().find(by_table);
        if found.is_none() && prefixes.iter().any(has_head) {
            found = prefixes.iter().find(by_name);
        }
        let names = found.map(|prefix| Self {
            prefix,
            renamed: &[],
            weights,
        });
        names.ok_or_else(|| {
            let tried: Vec<String> = prefixes
                .iter()
                .map(|prefix| format!("`{prefix}{embedding}`"))
                .collect();
            Error::new(
                "weights",
                format!("tensor {} is missing", tried.join(" or ")),
            )
            .remedy("take weights and config.json from one model: these do not fit together")
        })
    }

    /// Of a checkpoint whose prefix is known.
    pub(super) fn with_prefix(weights: &'w WeightStore, prefix: &'static str) -> Self {
        Self {
            prefix,
            renamed: &[],
            weights,
        }
    }

    /// What the base model's names begin with.
    pub(super) fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// The same checkpoint, whose tensors are called otherwise: each pair is the beginning of a name
    /// and what stands in its place.
    #[must_use]
    pub fn renamed(&self, renamed: &'static [(&'static str, &'static str)]) -> Self {
        Self { renamed, ..*self }
    }

    fn own(&self, name: &str) -> String {
        let found = self
            .renamed
            .iter()
            .find_map(|(from, to)| Some((to, name.strip_prefix(from)?)));
        found.map_or_else(|| name.to_owned(), |(to, rest)| format!("{to}{rest}"))
    }

    /// A tensor of the base model.
    pub fn base(&self, name: &str) -> String {
        format!("{}{}", self.prefix, self.own(name))
    }

    /// A tensor of layer `index` in the module list `list`.
    pub fn layer(&self, list: &str, index: usize, name: &str) -> String {
        format!(
            "{}{}.{index}.{}",
            self.prefix,
            self.own(list),
            self.own(name)
        )
    }

    /// The shape of a stored tensor; none if it is not there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.weights.shape(name)
    }

    /// The head's weight: the embedding table when the config ties them. What is stored has the
    /// last word on that ([`super::tied`]).
    pub fn head(&self, tied: bool, embedding: &str) -> String {
        if tied {
            embedding.to_owned()
        } else {
            self.stored_head().unwrap_or_else(|| self.root(HEAD))
        }
    }

    /// The head's weight as it is stored; none if it is not.
    pub(super) fn stored_head(&self) -> Option<String> {
        head_names(self.prefix).find(|name| self.weights.contains(name))
    }

    /// A tensor beside the base model, such as the head's. Multimodal checkpoints keep the whole
    /// language model under one name.
    pub fn root(&self, name: &str) -> String {
        beside(self.prefix, name)
    }
}

pub(super) fn beside(prefix: &str, name: &str) -> String {
    if prefix.starts_with(WRAPPER) {
        format!("{WRAPPER}{name}")
    } else {
        name.to_owned()
    }
}

/// Names that the head may have: beside the base model, or at the very root.
fn head_names(prefix: &'static str) -> impl Iterator<Item = String> {
    let places = |name: &str| [beside(prefix, name), name.to_owned()];
    HEADS.into_iter().flat_map(places)
}
