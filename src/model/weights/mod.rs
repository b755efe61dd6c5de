//! Weights: safetensors files, one or sharded, looked up by tensor name.

mod storage;
mod store;
mod view;

pub use store::{Shard, StoredTensor, WeightStore};
pub use view::{Elements, MatrixView};
