//! What a device computes: the operations that the forward pass is made of.
//!
//! The engine is generic over [`Backend`]; it never sees a pointer or a thread. Tensors are
//! row-major matrices, one row a token.

pub mod cpu;
pub mod cuda;
mod precision;
mod request;

pub use precision::{Precision, Target};
pub use request::{
    AttentionCapture, AttentionMaps, AttentionOutput, AttentionRequest, Change, Entry, HeadRequest,
    KvBias, Rotation, Statistics, StatisticsRequest,
};

use std::ops::Range;

use crate::{
    error::Result,
    model::{
        rope::RopeTable,
        spec::{Activation, NormKind, Routing},
        weights::{Elements, WeightMatrix},
    },
};

/// Rows of a tensor that belong to one sequence.
pub type Rows = Range<usize>;

/// Learned vectors of a norm, on the device.
#[derive(Debug)]
pub struct NormWeights<V> {
    /// Which formula.
    pub kind: NormKind,
    /// Values that are normalised together; divides the row.
    pub width: usize,
    /// Factor: `width` values for all groups of a row alike, or one per column.
    pub weight: Option<V>,
    /// Offset, as long as the factor may be.
    pub bias: Option<V>,
    /// Factor inside [`NormKind::Tanh`]: one value for all groups of a row, or one per group.
    /// Absent for the other kinds.
    pub alpha: Option<V>,
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
    /// Which rows visit which expert of a mixture; may be on the device.
    type Visitors;
    /// Statistics that may still be on the device.
    type Pending;

    /// The types that it computes in.
    fn precision(&self) -> Precision;
    /// Rows (tokens) that a layer processes efficiently at once, where a token has `width` values
    /// in a layer, all its tensors taken together.
    fn micro_batch_rows(&self, width: usize) -> usize;

    /// Puts `rows x columns` values on the device, as a residual stream.
    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Self::Tensor>;
    /// The rows `rows` of a stored table `[_, width]`, times a factor, as a residual stream.
    fn embed(
        &self,
        table: Elements<'_>,
        width: usize,
        rows: &[usize],
        factor: f32,
    ) -> Result<Self::Tensor> {
        let mut values = vec![0.0; rows.len() * width];
        for (row, out) in rows.iter().zip(values.chunks_exact_mut(width)) {
            table.slice(row * width, (row + 1) * width).write_f32(out);
            for value in out {
                *value *= factor;
            }
        }
        self.upload(rows.len(), width, values)
    }
    /// Waits until everything asked for so far is done.
    fn synchronise(&self) -> Result<()>;
    /// Copies a tensor to the host.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// Width of a tensor.
    fn columns(&self, x: &Self::Tensor) -> usize;
    /// Makes a weight usable.
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Self::Matrix<'w>>;
    /// Makes a bias or norm vector usable.
    fn vector(&self, values: Vec<f32>) -> Result<Self::Vector>;

    /// Normalises each row, in groups of `norm.width` values.
    fn norm(
        &self,
        x: &Self::Tensor,
        norm: &NormWeights<Self::Vector>,
        target: Target,
    ) -> Result<Self::Tensor>;
    /// `x += other`, and the norm of the sum, for a part of a layer: [`Backend::add`] and
    /// [`Backend::norm`] in one pass, with the same bits.
    fn add_norm(
        &self,
        x: &mut Self::Tensor,
        other: &Self::Tensor,
        norm: &NormWeights<Self::Vector>,
    ) -> Result<Self::Tensor>;
    /// `x W^T + b`: `[rows, in] -> [rows, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        weight: &Self::Matrix<'_>,
        bias: Option<&Self::Vector>,
        target: Target,
    ) -> Result<Self::Tensor>;
    /// Applies the activation in place.
    fn activate(&self, x: &mut Self::Tensor, activation: Activation) -> Result<()>;
    /// `gate = activation(gate) * up`, elementwise: [`Backend::activate`] and [`Backend::multiply`]
    /// in one pass, with the same bits.
    fn gate(
        &self,
        gate: &mut Self::Tensor,
        up: &Self::Tensor,
        activation: Activation,
    ) -> Result<()>;
    /// `x *= other`, elementwise; both are for the same target, as in [`Backend::add`].
    fn multiply(&self, x: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
    /// `x += other`, elementwise.
    fn add(&self, x: &mut Self::Tensor, other: &Self::Tensor) -> Result<()>;
    /// `x = x * factor + offset`.
    fn affine(&self, x: &mut Self::Tensor, factor: f32, offset: f32) -> Result<()>;
    /// Clamps every value to `low..=high`.
    fn clamp(&self, x: &mut Self::Tensor, low: f32, high: f32) -> Result<()>;
    /// Rotates `2 * table.pairs` dimensions of every head; the position of a row is its distance
    /// from its sequence's first row.
    fn rotate(
        &self,
        x: &mut Self::Tensor,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()>;
    /// Causal attention within each sequence, with the maps and the subset's part that `request`
    /// asks for.
    fn attention(
        &self,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Self::Vector>,
    ) -> Result<AttentionOutput<Self::Tensor>>;
    /// Every head of `own` (there are `heads`) followed by the one head `shared`.
    fn join_heads(
        &self,
        own: &Self::Tensor,
        shared: &Self::Tensor,
        heads: usize,
    ) -> Result<Self::Tensor>;
    /// The rows `rows` of `x`, in this order.
    fn gather_rows(&self, x: &Self::Tensor, rows: &[usize]) -> Result<Self::Tensor>;
    /// Adds row `i` of `x` times value `i` of `factors`, `[rows, 1]`, to row `i` of `out`.
    fn add_scaled(
        &self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        factors: &Self::Tensor,
    ) -> Result<()>;

    /// Picks the experts of every row from the router's logits, `[rows, experts]`; `correction` holds
    /// the values of the routing's tensor of that name. Among equals the earlier expert wins.
    fn route(
        &self,
        logits: &Self::Tensor,
        routing: &Routing,
        correction: Option<&Self::Vector>,
    ) -> Result<Self::Visitors>;
    /// How many rows visit each expert.
    fn visits(&self, visitors: &Self::Visitors) -> Vec<usize>;
    /// The rows of `x` that visit the expert, in their order.
    fn gather_visitors(
        &self,
        x: &Self::Tensor,
        visitors: &Self::Visitors,
        expert: usize,
    ) -> Result<Self::Tensor>;
    /// Adds what the expert made of its visitors, times their weights, to their rows of `out`.
    fn add_visitors(
        &self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        visitors: &Self::Visitors,
        expert: usize,
    ) -> Result<()>;
    /// A residual stream of zeros, as large as `x`.
    fn zeros(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// A tensor of its own with the same values.
    fn duplicate(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// The values at (row, dimension), in the order of `cells`.
    fn values_at(&self, x: &Self::Tensor, cells: &[(usize, usize)]) -> Result<Vec<f32>>;
    /// Changes the values at (row, dimension), each named once.
    fn overwrite(&self, x: &mut Self::Tensor, cells: &[(usize, usize, Change)]) -> Result<()>;

    /// Magnitude statistics of each sequence's rows.
    fn statistics(
        &self,
        x: &Self::Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Self::Pending>;
    /// Brings statistics to the host, one per sequence.
    fn read_statistics(&self, pending: Self::Pending) -> Result<Vec<Statistics>>;

    /// `-log softmax(logits)[target]` of every row that has a target (0 elsewhere), in nats.
    fn token_nll(
        &self,
        x: &Self::Tensor,
        head: &HeadRequest<'_, Self::Vector>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>>;
}
