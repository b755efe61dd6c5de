//! Weights: the files of a checkpoint, looked up by tensor name.
//!
//! `files.rs` finds the files, `safetensors.rs` reads what is in them, `quantisation/` sees which tensors
//! are parts of a packed one, `encodings/` decodes those, `gguf/` reads that format. The rest of the
//! program sees matrices only.

mod checksum;
mod encodings;
mod files;
pub(super) mod gguf;
mod matrix;
mod missing;
mod packed;
mod quantisation;
mod safetensors;
mod shard;
mod storage;
mod store;
mod torch;
mod view;

pub use encodings::{Encoding, Ggml, Kind, RowOrder};
pub(super) use encodings::{Factor, LowRank};
pub(super) use files::{add_adapter, add_adapter_in_memory};
pub use files::{in_memory, open};
pub use matrix::{AssembledMatrix, WeightMatrix};
pub use packed::{PackedMatrix, PackedRows, PackedTensor};
pub(super) use quantisation::Method;
pub use quantisation::recognise;
pub use shard::{Shard, Stored};
pub use storage::MappedFile;
pub(super) use store::Values;
pub use store::{Packing, StoredTensor, WeightStore};
pub use view::{Elements, MatrixView};
