//! The CUDA backend: host code that launches the kernels of `kernels/`.
//!
//! It is generic over the [`Device`] it runs on, so that the emulator of the tests executes this
//! very code without a card. Every call only starts work; what brings numbers to the host waits.
pub mod attention;
mod device;
pub mod driver;
mod elementwise;
mod embedding;
mod memory;
mod nll;
mod norm;
mod resident;
mod rotate;
mod routing;
mod rows;
mod statistics;
mod tensor;
mod tvr;
mod weights;

pub use device::{Address, Argument, Device, Launch, Limits, Operand, Product};
pub use memory::Buffer;
pub use routing::Visitors;
pub use statistics::Pending;
pub use tensor::Tensor;
pub use tvr::{ChunkMoments, StoredValues};
pub use weights::Matrix;

use std::{cell::RefCell, rc::Rc};

use self::resident::Resident;

use super::{
    AttentionOutput, AttentionRequest, Backend, Change, HeadRequest, NormWeights, Precision,
    Rotation, Rows, Statistics, StatisticsRequest, Target,
};
use crate::{
    error::Result,
    model::{
        dtype::DType,
        rope::RopeTable,
        spec::{Activation, Routing},
        weights::{Elements, WeightMatrix},
    },
};

/// A card, or what behaves like one.
#[derive(Debug)]
pub struct Cuda<D: Device> {
    device: Rc<D>,
    precision: Precision,
    tables: RefCell<Vec<Rc<rotate::DeviceTable<D>>>>,
    resident: Resident<D>,
    /// Entries of the vocabulary that the head takes at a time, at most.
    vocabulary_piece: usize,
}

impl<D: Device> Cuda<D> {
    /// A backend that computes in these types on this device.
    pub fn new(device: D, precision: impl Into<Precision>) -> Self {
        Self::sharing(Rc::new(device), precision)
    }

    /// As [`Cuda::new`], on a device that others use too.
    pub fn sharing(device: Rc<D>, precision: impl Into<Precision>) -> Self {
        Self {
            device,
            precision: precision.into(),
            tables: RefCell::default(),
            resident: Resident::default(),
            vocabulary_piece: 16_384,
        }
    }

    /// Keeps weights on the device, up to three fifths of its memory. The checkpoint must outlive
    /// this backend, which knows a weight by its place in memory.
    #[must_use]
    pub fn keeping_weights(mut self) -> Self {
        self.resident = Resident::new(self.device.limits().memory_bytes / 5 * 3);
        self
    }

    /// What it runs on.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Memory that weights which stay on the device leave free for all else.
    pub fn activation_bytes(&self) -> u64 {
        (self.device.limits().memory_bytes - self.resident.most()) as u64
    }

    /// With another most of vocabulary entries at a time.
    #[must_use]
    pub fn with_vocabulary_piece(mut self, entries: usize) -> Self {
        self.vocabulary_piece = entries.max(256);
        self
    }
}

impl<D: Device> Backend for Cuda<D> {
    type Tensor = Tensor<D>;
    type Matrix<'w> = Matrix<D>;
    type Vector = Buffer<D>;
    type Visitors = Visitors<D>;
    type Pending = Pending<D>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn micro_batch_rows(&self, width: usize) -> usize {
        memory::micro_batch_rows(self.device.limits().memory_bytes, width)
    }

    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Tensor<D>> {
        let stored = self.list(&values)?;
        let dtype = self.precision.residual();
        Ok(Tensor {
            rows,
            columns,
            dtype,
            buffer: self.cast(stored, rows * columns, DType::Float32, dtype)?,
        })
    }

    fn embed(
        &self,
        table: Elements<'_>,
        width: usize,
        rows: &[usize],
        factor: f32,
    ) -> Result<Tensor<D>> {
        self.embed_rows(table, width, rows, factor)
    }

    fn synchronise(&self) -> Result<()> {
        // Reading waits for what was started before.
        self.device.read(Address::NULL, &mut [])
    }

    fn download(&self, x: &Tensor<D>) -> Result<Vec<f32>> {
        let mut bytes = vec![0; x.len() * x.dtype.size()];
        self.device.read(x.buffer.address(), &mut bytes)?;
        let elements = Elements {
            dtype: x.dtype,
            bytes: &bytes,
        };
        Ok(elements.to_f32().into_owned())
    }

    fn columns(&self, x: &Tensor<D>) -> usize {
        x.columns
    }

    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<Matrix<D>> {
        match weight {
            WeightMatrix::Stored(view) => self.resident_matrix(view),
            WeightMatrix::Assembled(copy) => self.upload_matrix(copy.view()),
        }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Buffer<D>> {
        self.list(&values)
    }

    fn norm(
        &self,
        x: &Tensor<D>,
        norm: &NormWeights<Buffer<D>>,
        target: Target,
    ) -> Result<Tensor<D>> {
        self.normalise(x, norm, self.precision.of(target))
    }

    fn add_norm(
        &self,
        x: &mut Tensor<D>,
        other: &Tensor<D>,
        norm: &NormWeights<Buffer<D>>,
    ) -> Result<Tensor<D>> {
        debug_assert_eq!(x.dtype, other.dtype);
        self.launch_norm(x, Some(other), norm, self.precision.arithmetic())
    }

    fn linear(
        &self,
        x: &Tensor<D>,
        weight: &Matrix<D>,
        bias: Option<&Buffer<D>>,
        target: Target,
    ) -> Result<Tensor<D>> {
        let dtype = self.precision.of(target);
        // A bias of the checkpoint's own type loses nothing on the way back to it.
        let rounded = match bias {
            Some(bias) if dtype != DType::Float32 => {
                let count = weight.out_features;
                Some(self.converted(bias, count, DType::Float32, dtype)?)
            }
            _ => None,
        };
        let bias = rounded.as_ref().or(bias).map(Buffer::address);
        self.product(x, weight, bias, dtype)
    }

    fn activate(&self, x: &mut Tensor<D>, activation: Activation) -> Result<()> {
        self.apply_activation(x, activation)
    }

    fn gate(&self, gate: &mut Tensor<D>, up: &Tensor<D>, activation: Activation) -> Result<()> {
        self.apply_gate(gate, up, activation)
    }

    fn multiply(&self, x: &mut Tensor<D>, other: &Tensor<D>) -> Result<()> {
        debug_assert_eq!(x.dtype, other.dtype);
        self.update("multiply", x, &[other.buffer.address().into()], &[])
    }

    fn add(&self, x: &mut Tensor<D>, other: &Tensor<D>) -> Result<()> {
        debug_assert_eq!(x.dtype, other.dtype);
        self.update("add", x, &[other.buffer.address().into()], &[])
    }

    fn affine(&self, x: &mut Tensor<D>, factor: f32, offset: f32) -> Result<()> {
        self.update("affine", x, &[], &[factor.into(), offset.into()])
    }

    fn clamp(&self, x: &mut Tensor<D>, low: f32, high: f32) -> Result<()> {
        self.update("clamp", x, &[], &[low.into(), high.into()])
    }

    fn rotate(
        &self,
        x: &mut Tensor<D>,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()> {
        self.rotate_rows(x, sequences, rotation, tables)
    }

    fn attention(
        &self,
        q: &Tensor<D>,
        k: &Tensor<D>,
        v: &Tensor<D>,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Buffer<D>>,
    ) -> Result<AttentionOutput<Tensor<D>>> {
        let inputs = attention::Inputs {
            dtype: q.dtype,
            rows: q.rows,
            q: q.buffer.address(),
            k: k.buffer.address(),
            v: v.buffer.address(),
        };
        let found = attention::run(&self.device, inputs, sequences, request)?;
        let tensor = |buffer| Tensor {
            rows: q.rows,
            columns: request.heads * request.value_dim,
            dtype: q.dtype,
            buffer,
        };
        Ok(AttentionOutput {
            context: tensor(found.context),
            maps: found.maps,
            subset: found.subset.map(tensor),
        })
    }

    fn join_heads(&self, own: &Tensor<D>, shared: &Tensor<D>, heads: usize) -> Result<Tensor<D>> {
        self.join(own, shared, heads)
    }

    fn gather_rows(&self, x: &Tensor<D>, rows: &[usize]) -> Result<Tensor<D>> {
        self.gather(x, rows)
    }

    fn add_scaled(&self, out: &mut Tensor<D>, x: &Tensor<D>, factors: &Tensor<D>) -> Result<()> {
        self.add_every_row(out, x, factors)
    }

    fn route(
        &self,
        logits: &Tensor<D>,
        routing: &Routing,
        correction: Option<&Buffer<D>>,
    ) -> Result<Visitors<D>> {
        self.choose_experts(logits, routing, correction)
    }

    fn visits(&self, visitors: &Visitors<D>) -> Vec<usize> {
        visitors.counts.clone()
    }

    fn gather_visitors(
        &self,
        x: &Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
    ) -> Result<Tensor<D>> {
        self.gather_of_expert(x, visitors, expert)
    }

    fn add_visitors(
        &self,
        out: &mut Tensor<D>,
        x: &Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
    ) -> Result<()> {
        self.add_of_expert(out, x, visitors, expert)
    }

    fn zeros(&self, x: &Tensor<D>) -> Result<Tensor<D>> {
        let zeros = self.tensor(x.rows, x.columns, self.precision.residual())?;
        self.device
            .clear(zeros.buffer.address(), zeros.buffer.bytes())?;
        Ok(zeros)
    }

    fn duplicate(&self, x: &Tensor<D>) -> Result<Tensor<D>> {
        let copy = self.tensor(x.rows, x.columns, x.dtype)?;
        let bytes = x.len() * x.dtype.size();
        self.device
            .copy(x.buffer.address(), copy.buffer.address(), bytes)?;
        Ok(copy)
    }

    fn values_at(&self, x: &Tensor<D>, cells: &[(usize, usize)]) -> Result<Vec<f32>> {
        self.read_cells(x, cells)
    }

    fn overwrite(&self, x: &mut Tensor<D>, cells: &[(usize, usize, Change)]) -> Result<()> {
        self.write_cells(x, cells)
    }

    fn statistics(
        &self,
        x: &Tensor<D>,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Pending<D>> {
        self.measure(x, sequences, request)
    }

    fn read_statistics(&self, pending: Pending<D>) -> Result<Vec<Statistics>> {
        self.fetch_statistics(&pending)
    }

    fn token_nll(
        &self,
        x: &Tensor<D>,
        head: &HeadRequest<'_, Buffer<D>>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>> {
        self.negative_log_likelihood(x, head, targets)
    }
}
