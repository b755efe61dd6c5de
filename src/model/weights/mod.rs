//! Weights: the files of a checkpoint, looked up by tensor name.
//!
//! `files.rs` finds the files, `safetensors.rs`, `torch/` and `gguf/` read what is in them, `quantisation/`
//! sees which tensors are parts of a packed one, `encodings/` decodes those. The rest of the program sees
//! matrices only.

mod checksum;
mod encodings;
mod files;
pub(super) mod gguf;
mod matrix;
mod missing;
mod packed;
mod quantisation;
mod random;
mod safetensors;
mod shard;
mod storage;
mod store;
mod torch;
mod view;

pub use encodings::{
    Absmax, Awq, Blockwise, Byte, EightBits, Encoding, Ggml, Global, Gptq, Grid, GridNumber,
    IntRows, Kind, Mxfp4, Nvfp4, Random, RowOrder, RowZeros,
};
pub(super) use encodings::{Factor, LowRank};
pub(super) use files::{add_adapter, add_adapter_in_memory};
pub use files::{in_memory, index_of, open};
pub use gguf::take_for_blocks;
pub use matrix::{AssembledMatrix, WeightMatrix};
pub use packed::{PackedMatrix, PackedRows, PackedTensor};
pub(crate) use quantisation::MODELOPT;
pub use quantisation::recognise;
pub(super) use quantisation::{Method, beside, without_effect};
pub use random::RandomWeights;
pub use shard::{Shard, Stored};
pub use storage::MappedFile;
pub(super) use store::Values;
pub use store::{Packing, StoredTensor, WeightStore};
pub use view::{Elements, MatrixView};
