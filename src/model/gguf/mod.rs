//! A model from a GGUF file: its metadata become a config.json and a tokenizer.json, its tensors get the
//! names that they have in transformers, and then it is a checkpoint like any other.
#![forbid(unsafe_code)]

mod architectures;
mod keys;
mod names;
mod place;
mod rope;
mod tokenizer;

use std::path::Path;

use super::{
    config::Config,
    tokenizer::TokenizerFiles,
    weights::{
        WeightStore,
        gguf::{Gguf, GgufFiles},
    },
};
use crate::error::{Error, Result};
use keys::Keys;
pub(super) use keys::REMEDY;
use names::Heads;
pub(crate) use place::file_at;

/// Layers that are looked through; what says that it has more is refused later.
const MOST_LAYERS: u64 = 1 << 12;

/// Opens the model whose first or only file this is.
pub(super) fn open(file: &Path) -> Result<(Config, WeightStore, Option<TokenizerFiles>)> {
    let files = GgufFiles::open(file)?;
    let (config, tokenizer, weights) = {
        let gguf = files.read()?;
        let (config, heads, architecture) = config(&gguf)?;
        let tokenizer = tokenizer::files(&gguf.metadata, &config)?;
        let weights = gguf.named(|tensor, shape| {
            if rope::TENSORS.contains(&tensor) {
                return Ok(Vec::new());
            }
            architecture.naming.place(tensor, shape, heads)
        })?;
        (config, tokenizer, weights)
    };
    Ok((config, files.into_store(weights), tokenizer))
}

fn config<'g>(gguf: &'g Gguf<'g>) -> Result<(Config, Heads, &'static architectures::Architecture)> {
    let kind = gguf.metadata.text("general.type")?.unwrap_or("model");
    let Some(name) = gguf.metadata.text("general.architecture")? else {
        return Err(Error::new("`general.architecture`", "it is missing").remedy(keys::REMEDY));
    };
    if kind != "model" {
        return Err(Error::new(
            "`general.type`",
            format!("the file holds no model, but something else: `{kind}`"),
        )
        .remedy("give the file of the model itself"));
    }
    let architecture = architectures::find(name)?;
    let keys = Keys {
        architecture: name,
        gguf,
    };
    let (settings, head_dim) = architecture.settings(&keys)?;
    let config = Config::parse(&settings.text())?;
    let unread = gguf.metadata.unread(&format!("{name}."));
    if !unread.is_empty() {
        let unread: Vec<String> = unread.iter().map(|key| format!("`{key}`")).collect();
        config.notice(format!(
            "nothing reads the file's {}; check that the results do not depend on it",
            unread.join(", ")
        ));
    }
    let heads = Heads {
        count: config.heads("num_attention_heads")?,
        dims: usize::try_from(head_dim).unwrap_or(usize::MAX),
    };
    Ok((config, heads, architecture))
}
