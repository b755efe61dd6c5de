//! Whatever reads bytes that other programs wrote, fed with any bytes: the bodies that the fuzzer
//! (`fuzz/`) and the tests of damaged files share. An error is fine, and one line; a panic is not.

use std::path::{Path, PathBuf};

use massact::{
    Error, Result,
    data::{self, Role},
    hub::Hub,
    model::Model,
    progress::Progress,
    sweep::Plan,
};

/// What the bytes are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A GGUF file.
    Gguf,
    /// `model.safetensors` of a checkpoint.
    Safetensors,
    /// `model.safetensors.index.json` of one in shards.
    Index,
    /// `config.json` of a checkpoint.
    Config,
    /// `tokenizer.json`.
    Tokenizer,
    /// `tokenizer_config.json`.
    TokenizerConfig,
    /// Documents in a file of this ending.
    Documents(&'static str),
    /// A plan of a sweep.
    Plan,
}

/// Text that has something of everything.
pub(crate) const TEXT: &str = "The river, 12 boxes \u{1f980}\n  x<s></s>\u{0}";

/// Reads them in an empty folder; those that are one file of a checkpoint take the others from `beside`.
pub(crate) fn read(kind: Kind, bytes: &[u8], beside: &Path, folder: &Path) -> Result<()> {
    match kind {
        Kind::Gguf => {
            let model = Model::open(&write(folder, "model.gguf", bytes))?;
            encode(&model);
        }
        Kind::Safetensors => checkpoint(folder, beside, "model.safetensors", bytes)?,
        Kind::Index => checkpoint(folder, beside, "model.safetensors.index.json", bytes)?,
        Kind::Config => checkpoint(folder, beside, "config.json", bytes)?,
        Kind::Tokenizer => checkpoint(folder, beside, "tokenizer.json", bytes)?,
        Kind::TokenizerConfig => checkpoint(folder, beside, "tokenizer_config.json", bytes)?,
        Kind::Documents(ending) => {
            let path = write(folder, &format!("texts.{ending}"), bytes);
            let no_hub = || -> Result<Hub> { Err(Error::new("hub", "a local file needs none")) };
            let name = path.to_str().expect("UTF-8");
            let wanted = data::Wanted {
                field: None,
                role: Role::Corpus,
                seed: 1,
            };
            data::load(name, wanted, &no_hub, Progress::silent())?;
        }
        Kind::Plan => {
            let text = String::from_utf8_lossy(bytes);
            Plan::parse("plan.toml", &text, folder.to_owned())?;
        }
    }
    Ok(())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// The checkpoint with this file in the place of its own.
fn checkpoint(folder: &Path, beside: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    for entry in std::fs::read_dir(beside).expect("a checkpoint") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name");
        let target = folder.join(file);
        if path.is_file() && file != name && !target.exists() {
            std::fs::copy(&path, target).expect("copied");
        }
    }
    write(folder, name, bytes);
    let model = Model::open(folder)?;
    encode(&model);
    Ok(())
}

fn encode(model: &Model) {
    if let Some(tokenizer) = &model.tokenizer
        && let Ok(ids) = tokenizer.encode(TEXT)
    {
        for id in ids {
            drop(tokenizer.token(id));
        }
    }
}
