//! What a device computes: the operations that the forward pass is made of.
//!
//! The engine is generic over [`Backend`]; it never sees a pointer or a thread. Tensors are
//! row-major matrices, one row a token.

pub mod cpu;
pub mod gpus;
mod request;

pub use request::{
    AttentionCapture, AttentionMaps, AttentionRequest, Entry, Statistics, StatisticsRequest,
};

use std::ops::Range;

use crate::{
    error::Result,
    model::{
        rope::RopeTable,
        spec::{Activation, NormKind},
        weights::{Elements, MatrixView},
    },
};

/// Rows of a tensor that belong to one sequence.
pub type Rows = Range<usize>;

/// Learned vectors of a norm, on the device.
#[derive(Debug)]
pub struct NormWeights<V> {
    /// Which formula.
    pub kind: NormKind,
    /// Factor.
    pub weight: Option<V>,
    /// Offset.
    pub bias: Option<V>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// A device that runs decoder layers.
pub trait Backend {
    /// A matrix of activations on the device.
    type Tensor;
    /// A weight matrix on the device, possibly borrowed from the checkpoint.
    type Matrix<'w>;
    /// A float32 vector on the device.
    type Vector;
    /// Statistics that may still be on the device.
    type Pending;

    /// Rows (tokens) that a layer processes efficiently at once.
    const MICRO_BATCH_ROWS: usize;

    /// Puts `rows x columns` values on the device.
    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Self::Tensor>;
    /// Copies a tensor to the host.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// Width of a tensor.
    fn columns(&self, x: &Self::Tensor) -> usize;
    /// Makes a weight usable.
    fn matrix<'w>(&self, view: MatrixView<'w>) -> Result<Self::Matrix<'w>>;
    /// Makes a bias or norm vector usable.
    fn vector(&self, elements: Elements<'_>) -> Result<Self::Vector>;

    /// Normalises each row.
    fn norm(&self, x: &Self::Tensor, norm: &NormWeights<Self::Vector>) -> Result<Self::Tensor>;
    /// `x W^T + b`: `[rows, in] -> [rows, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Matrix<'_>,
        bias: Option<&Self::Vector>,
    ) -> Result<Self::Tensor>;
    /// Applies the activation in place.
    fn activate(&self, x: &mut Self::Tensor, activation: Activation) -> Result<()>;
    /// `x *= other`, elementwise.
    fn multiply(&self, x: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
    /// `x += other`, elementwise.
    fn add(&self, x: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
    /// Rotates the first `2 * table.pairs` dimensions of every head, halves paired; the position
    /// of a row is its distance from its sequence's first row.
    fn rotate(
        &self,
        x: &mut Self::Tensor,
        sequences: &[Rows],
        head_dim: usize,
        tables: &[&RopeTable],
    ) -> Result<()>;
    /// Causal attention within each sequence, with the maps that `request` asks for.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        sequences: &[Rows],
        request: &AttentionRequest,
    ) -> Result<(Self::Tensor, Vec<AttentionMaps>)>;

    /// Magnitude statistics of each sequence's rows.
    fn statistics(
        &self,
        x: &Self::Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Self::Pending>;
    /// Brings statistics to the host, one per sequence.
    fn read_statistics(&self, pending: Self::Pending) -> Result<Vec<Statistics>>;

    /// `-log softmax(x W^T)[target]` of every row that has a target (0 elsewhere), in nats.
    fn token_nll(
        &self,
        x: &Self::Tensor,
        head: MatrixView<'_>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>>;
}
