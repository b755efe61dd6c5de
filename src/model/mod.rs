//! Models: config.json to a description, weights by name, tokenizer.

pub mod config;
pub mod demo;
pub mod dtype;
pub mod families;
pub mod names;
pub mod random;
pub mod rope;
pub mod spec;
pub mod tokenizer;
pub mod weights;
mod zero_weights;

mod adapter;
mod check;
mod checkpoint;
mod config_keys;
mod gguf;
mod json;
mod kv_bias;
mod ledger;
mod per_layer;
mod place;
mod recognise;
mod rope_config;
mod tied;

pub(crate) use adapter::SETTINGS as ADAPTER_SETTINGS;
pub use adapter::{Adapter, AdapterFile, AdapterRecord};
pub use checkpoint::{Model, NormVectors};
pub use config_keys::ConfigRecord;
pub(crate) use gguf::file_at as gguf_file;
pub use ledger::WeightsRecord;
