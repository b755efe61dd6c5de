//! The built-in demo checkpoint, so that every command works offline with no argument.
//!
//! `assets/demo/README.md` is its model card: what it was trained on, and exactly what the
//! amplification changed.
#![forbid(unsafe_code)]

use super::{
    Adapter, Model,
    config::Config,
    tokenizer::{TokenizerFiles, Vocabulary},
    weights,
};
use crate::error::Result;

/// Name of the checkpoint that runs without `--pretrained`.
pub const NAME: &str = "demo";
const UNAMPLIFIED: &str = "demo-unamplified";

/// The built-in checkpoints.
pub const NAMES: [&str; 2] = [NAME, UNAMPLIFIED];

const CONFIG: &[u8] = include_bytes!("../../assets/demo/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../assets/demo/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../assets/demo/tokenizer_config.json");

/// The files beside the weights of either checkpoint, by name.
pub const DESCRIPTIONS: [(&str, &[u8]); 3] = [
    ("config.json", CONFIG),
    ("tokenizer.json", TOKENIZER),
    ("tokenizer_config.json", TOKENIZER_CONFIG),
];

/// What a built-in checkpoint is, in one sentence.
pub fn notes(name: &str) -> &'static str {
    if name == UNAMPLIFIED {
        "the demo as it was trained, before amplification: nothing in it is massive"
    } else {
        "a 6-layer Llama trained on technical English with a planted attention sink at BOS, whose direction was then amplified 32 times so that the default thresholds hold (validation NLL +0.14 %)"
    }
}

/// Opens a built-in checkpoint, one of [`NAMES`].
pub fn open(name: &str) -> Result<Model> {
    open_with(name, None)
}

/// The same, with an adapter on its weights.
pub fn open_with(name: &str, adapter: Option<Adapter>) -> Result<Model> {
    let trained: &[u8] = include_bytes!("../../assets/demo/model.safetensors");
    let mut files = vec![("model.safetensors", trained.into())];
    if name == UNAMPLIFIED {
        // Only the tensors that the amplification changed, with their trained values.
        let before: &[u8] = include_bytes!("../../assets/demo/unamplified.safetensors");
        files.push(("unamplified.safetensors", before.into()));
    }
    let config = Config::parse(CONFIG)?;
    let tokenizer = TokenizerFiles {
        vocabulary: Vocabulary::Fast(TOKENIZER.to_vec()),
        config: Some(TOKENIZER_CONFIG.to_vec()),
        ..TokenizerFiles::default()
    };
    let weights = weights::in_memory(files)?;
    Model::assemble_with(&config, weights, Some(tokenizer), adapter)
}
