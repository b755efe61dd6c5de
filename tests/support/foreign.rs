//! Whatever reads bytes that other programs wrote, fed with any bytes: the bodies that the fuzzer
//! (`fuzz/`) and the tests of damaged files share. An error is fine, and one line; a panic is not.

use std::path::{Path, PathBuf};

use massact::{
    Error, Result,
    data::{
        self, Role,
        items::{self, Reading, TaskSource},
    },
    hub::Hub,
    model::{
        Adapter, Model,
        config::Config,
        tokenizer::{Tokenizer, TokenizerFiles, Vocabulary},
        weights::{self, WeightMatrix},
    },
    progress::Progress,
    sweep::{Folder, Plan},
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
    /// `chat_template.jinja`, made into the text of a conversation.
    ChatTemplate,
    /// The vocabulary of an older tokenizer, by the name of its file.
    Vocabulary(&'static str),
    /// `pytorch_model.bin`.
    Torch,
    /// A LoRA adapter's file of this name.
    Adapter(&'static str),
    /// Documents in a file of this ending.
    Documents(&'static str),
    /// Multiple-choice items of the known set of this name, or of one's own, in a file of this ending.
    Items(&'static str, &'static str),
    /// A plan of a sweep.
    Plan,
    /// The tasks of a sweep, as a plan was made into them.
    Manifest,
}

/// Text that has something of everything.
pub(crate) const TEXT: &str = "The river, 12 boxes \u{1f980}\n  x<s></s>\u{0}";

/// Reads them in an empty folder; those that are one file of a checkpoint take the others from `beside`.
pub(crate) fn read(kind: Kind, bytes: &[u8], beside: &Path, folder: &Path) -> Result<()> {
    match kind {
        Kind::Gguf => {
            let model = Model::open(&write(folder, "model.gguf", bytes))?;
            decode(&model);
            encode(&model);
        }
        Kind::Safetensors => decode(&checkpoint(folder, beside, "model.safetensors", bytes)?),
        Kind::Index => {
            checkpoint(folder, beside, "model.safetensors.index.json", bytes)?;
        }
        Kind::Config => decode(&checkpoint(folder, beside, "config.json", bytes)?),
        Kind::Tokenizer => encode(&checkpoint(folder, beside, "tokenizer.json", bytes)?),
        Kind::TokenizerConfig => {
            encode(&checkpoint(folder, beside, "tokenizer_config.json", bytes)?);
        }
        Kind::ChatTemplate => {
            let model = checkpoint(folder, beside, "chat_template.jinja", bytes)?;
            if let Some(tokenizer) = &model.tokenizer {
                tokenizer.chat(TEXT)?;
            }
        }
        Kind::Vocabulary(name) => vocabulary(name, bytes, beside)?,
        Kind::Torch => {
            write(folder, "pytorch_model.bin", bytes);
            let weights = weights::open(folder)?;
            for name in weights.names() {
                drop(weights.get(name));
            }
        }
        Kind::Adapter(name) => {
            beside_it(folder, beside, name, bytes);
            let adapter = Adapter::open(folder)?;
            decode(&Model::open_with(&base(beside), Some(adapter))?);
        }
        Kind::Items(set, ending) => {
            let path = write(folder, &format!("items.{ending}"), bytes);
            let model = Model::open(beside)?;
            let task = TaskSource::local(set, &path)?;
            let reading = Reading::default();
            items::load(&task, reading, &model, &no_hub, Progress::silent())?;
        }
        Kind::Documents(ending) => {
            let path = write(folder, &format!("texts.{ending}"), bytes);
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
        Kind::Manifest => {
            write(folder, "manifest.jsonl", bytes);
            let folder = Folder::at(folder);
            let manifest = folder.manifest()?;
            for task in &manifest.tasks {
                folder.state(task)?;
            }
            folder.finished(&manifest)?;
        }
    }
    Ok(())
}

/// The checkpoint that an adapter of the tests was made for.
fn base(adapter: &Path) -> PathBuf {
    let known = std::fs::read_to_string(adapter.join("reference.json")).expect("a reference");
    let (_, behind) = known.split_once("\"base\": \"").expect("its base");
    let (name, _) = behind.split_once('"').expect("a name");
    adapter.join("../../checkpoints").join(name)
}

fn no_hub() -> Result<Hub> {
    Err(Error::new("hub", "a local file needs none"))
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

/// The folder's files with this one in the place of its own.
fn beside_it(folder: &Path, beside: &Path, name: &str, bytes: &[u8]) {
    for entry in std::fs::read_dir(beside).expect("a folder") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name");
        let target = folder.join(file);
        if path.is_file() && file != name && !target.exists() {
            // Not `copy`, which the fuzzer's timer interrupts.
            let own = std::fs::read(&path).expect("read");
            std::fs::write(target, own).expect("copied");
        }
    }
    write(folder, name, bytes);
}

fn checkpoint(folder: &Path, beside: &Path, name: &str, bytes: &[u8]) -> Result<Model> {
    beside_it(folder, beside, name, bytes);
    Model::open(folder)
}

/// A tokenizer of the bytes, with its other files from `beside`.
fn vocabulary(name: &str, bytes: &[u8], beside: &Path) -> Result<()> {
    let read = |name: &str| std::fs::read(beside.join(name));
    let config = Config::parse(&read("config.json").expect("a config"))?;
    let other = |name: &str| read(name).expect("half of a vocabulary");
    let bytes = bytes.to_vec();
    let vocabulary = match name {
        "tokenizer.model" => Vocabulary::SentencePiece(bytes),
        "tiktoken.model" => Vocabulary::Tiktoken(bytes),
        "vocab.json" => Vocabulary::Merges {
            vocab: bytes,
            merges: other("merges.txt"),
        },
        "merges.txt" => Vocabulary::Merges {
            vocab: other("vocab.json"),
            merges: bytes,
        },
        _ => panic!("{name} is no vocabulary"),
    };
    let files = TokenizerFiles {
        vocabulary,
        config: read("tokenizer_config.json").ok(),
        special_tokens: read("special_tokens_map.json").ok(),
        added_tokens: read("added_tokens.json").ok(),
        ..TokenizerFiles::default()
    };
    Tokenizer::parse(&files, &config)?.encode(TEXT).map(drop)
}

/// A row of every matrix after the other.
pub(crate) fn decode(model: &Model) {
    let spec = &model.spec;
    let rows = |matrix: Result<WeightMatrix<'_>>, width: usize| {
        let Ok(matrix) = matrix else { return };
        let mut row = vec![0.0; width];
        for output in 0..matrix.out_features() {
            matrix.write_output(output, &mut row);
        }
    };
    rows(model.token_embedding(), spec.embedding.width);
    rows(model.head(), spec.head.linear.in_features);
    for layer in &spec.layers {
        for linear in layer.linears() {
            rows(model.matrix(linear), linear.in_features);
        }
    }
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
