//! Weights: safetensors files, one or sharded, looked up by tensor name.

mod checksum;
mod matrix;
mod missing;
mod mxfp4;
mod storage;
mod store;
mod torch;
mod view;

pub use matrix::{AssembledMatrix, WeightMatrix};
pub(super) use mxfp4::{
    BLOCK as MXFP4_BLOCK, BLOCK_BYTES as MXFP4_BLOCK_BYTES, decode as decode_mxfp4,
};
pub use storage::MappedFile;
pub use store::{Shard, StoredTensor, WeightStore};
pub use view::{Elements, MatrixView};
