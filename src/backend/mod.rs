//! What a device computes: the operations that the forward pass is made of.
//!
//! The engine is generic over [`Backend`]; it never sees a pointer or a thread. Tensors are
//! row-major matrices, one row a token. Each trait is one idea, in a file of the same name here, in
//! `cpu/` and in `cuda/`, and an operation has one name from the trait to the kernel.

mod attention;
mod cells;
mod compression;
mod convolutions;
pub mod cpu;
pub mod cuda;
mod elementwise;
mod experts;
mod inner_products;
mod key_choice;
mod magnitudes;
mod norms;
mod precision;
mod products;
mod profiles;
mod recurrences;
mod rotations;
mod row_scaling;
mod rows;
mod stored;
mod streams;
mod tensors;
mod vocabulary;

pub use attention::{
    Attention, AttentionCapture, AttentionMaps, AttentionOutput, AttentionRequest, KvBias,
    OutputParts,
};
pub use cells::{Cells, Change};
pub use compression::{Compression, entries_of, with_entries};
pub use convolutions::{Convolutions, Filter};
pub use elementwise::{Elementwise, Xielu};
pub use experts::Experts;
pub use inner_products::InnerProducts;
pub use key_choice::{KeyChoice, KeyMask};
pub use magnitudes::{Entry, Magnitudes, Statistics, StatisticsRequest};
pub use norms::{NormWeights, Norms};
pub use precision::{Precision, Target};
pub use products::Products;
pub use profiles::{
    BINS_PER_OCTAVE, CentralMoments, HISTOGRAM_BINS, LARGE, LOWEST_EXPONENT, Profile,
    ProfileRequest, Profiles, QUANTILES,
};
pub use recurrences::{DeltaRequest, Recurrences, SelectiveScanRequest, StateSpaceRequest};
pub use rotations::{Rotation, Rotations};
pub use row_scaling::RowScaling;
pub use rows::RowOperations;
pub use stored::{Moments, Rescaling, StoredTensors};
pub use streams::{StreamRequest, Streams};
pub use tensors::Tensors;
pub use vocabulary::{HeadRequest, Vocabulary};

use std::ops::Range;

/// Rows of a tensor that belong to one sequence.
pub type Rows = Range<usize>;

/// A device that runs decoder layers: all operations.
pub trait Backend:
    Attention
    + Cells
    + Compression
    + Convolutions
    + Elementwise
    + Experts
    + InnerProducts
    + KeyChoice
    + Magnitudes
    + Norms
    + Products
    + Profiles
    + Recurrences
    + Rotations
    + RowOperations
    + RowScaling
    + StoredTensors
    + Streams
    + Tensors
    + Vocabulary
{
}

impl<B> Backend for B where
    B: Attention
        + Cells
        + Compression
        + Convolutions
        + Elementwise
        + Experts
        + InnerProducts
        + KeyChoice
        + Magnitudes
        + Norms
        + Products
        + Profiles
        + Recurrences
        + Rotations
        + RowOperations
        + RowScaling
        + StoredTensors
        + Streams
        + Tensors
        + Vocabulary
{
}
