//! A plain implementation in 16 bits, the measure for what rounding may cost: the CPU's operations
//! in float32, of which every result is rounded to the type in which it would be stored.
//!
//! It is a strict measure. Learned vectors, rotations, and everything inside an operation (softmax
//! and its weights among them) stay in float32, where PyTorch rounds many of them as well.

use std::ops::Range;

use massact::{
    Result,
    backend::{
        Attention, AttentionOutput, AttentionRequest, Cells, Change, Compression, Convolutions,
        DeltaRequest, Elementwise, Experts, Filter, HeadRequest, InnerProducts, KeyChoice, KeyMask,
        Magnitudes, Moments, NormWeights, Norms, Precision, Products, Profile, ProfileRequest,
        Profiles, Recurrences, Rescaling, Rotation, Rotations, RowOperations, RowScaling, Rows,
        SelectiveScanRequest, StateSpaceRequest, Statistics, StatisticsRequest, StoredTensors,
        StreamRequest, Streams, Target, Tensors, Vocabulary, Xielu,
        cpu::{self, Cpu},
    },
    model::{
        dtype::DType,
        rope::RopeTable,
        spec::{Activation, Routing},
        weights::{AssembledMatrix, Elements, MatrixView, WeightMatrix},
    },
};

use crate::bench::rounded;

/// The CPU with rounding.
#[derive(Debug)]
pub(crate) struct Plain {
    cpu: cpu::Cpu,
    precision: Precision,
}

/// Values that the type holds.
pub(crate) struct Tensor {
    values: cpu::Tensor,
    dtype: DType,
}

impl Plain {
    pub(crate) fn new(precision: impl Into<Precision>) -> Self {
        Self {
            cpu: cpu::Cpu::new(),
            precision: precision.into(),
        }
    }

    fn round(&self, exact: cpu::Tensor, dtype: DType) -> Result<Tensor> {
        let columns = self.cpu.columns(&exact);
        let values = exact.values().iter().map(|x| rounded(*x, dtype));
        let values: Vec<f32> = values.collect();
        let rows = values.len() / columns;
        Ok(Tensor {
            values: self.cpu.upload(rows, columns, values)?,
            dtype,
        })
    }

    fn target(&self, target: Target) -> DType {
        match target {
            Target::Part => self.precision.arithmetic(),
            Target::Stream => self.precision.residual(),
        }
    }

    /// Changes `x` by one of the CPU's operations.
    fn change(
        &self,
        x: &mut Tensor,
        operation: impl FnOnce(&mut cpu::Tensor) -> Result<()>,
    ) -> Result<()> {
        operation(&mut x.values)?;
        *x = self.round(self.cpu.duplicate(&x.values)?, x.dtype)?;
        Ok(())
    }

    /// What a product reads of `x`.
    fn input(&self, x: &Tensor) -> Result<Tensor> {
        self.round(self.cpu.duplicate(&x.values)?, self.precision.arithmetic())
    }

    fn weight(&self, view: MatrixView<'_>) -> AssembledMatrix {
        let copy = AssembledMatrix::gather(view, 0..view.out_features);
        let values = copy.view().elements.to_f32();
        let dtype = self.precision.arithmetic();
        let values: Vec<f32> = values.iter().map(|x| rounded(*x, dtype)).collect();
        AssembledMatrix::from_f32(&values, view.out_features, view.in_features)
    }
}

impl Tensors for Plain {
    type Tensor = Tensor;
    type Matrix<'w> = cpu::Matrix<'w>;
    type Vector = Vec<f32>;
    type Visitors = <Cpu as Tensors>::Visitors;
    type KeyMask = KeyMask;
    type Pending = Vec<Statistics>;
    type PendingProfile = Vec<Profile>;

    fn precision(&self) -> Precision {
        self.precision
    }

    fn micro_batch_rows(&self, width: usize) -> usize {
        self.cpu.micro_batch_rows(width)
    }

    fn synchronise(&self) -> Result<()> {
        self.cpu.synchronise()
    }

    fn keep_weights(&self, _: usize) {}

    fn loads_ahead(&self) -> bool {
        false
    }

    fn upload(&self, rows: usize, columns: usize, values: Vec<f32>) -> Result<Tensor> {
        let exact = self.cpu.upload(rows, columns, values)?;
        self.round(exact, self.precision.residual())
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.cpu.download(&x.values)
    }

    fn columns(&self, x: &Tensor) -> usize {
        self.cpu.columns(&x.values)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        self.cpu.vector(values)
    }

    fn in_rows_of(&self, x: Tensor, columns: usize) -> Tensor {
        Tensor {
            values: self.cpu.in_rows_of(x.values, columns),
            dtype: x.dtype,
        }
    }

    fn zeros(&self, x: &Tensor) -> Result<Tensor> {
        self.round(self.cpu.zeros(&x.values)?, self.precision.residual())
    }

    fn duplicate(&self, x: &Tensor) -> Result<Tensor> {
        self.round(self.cpu.duplicate(&x.values)?, x.dtype)
    }
}

impl Products for Plain {
    fn matrix<'w>(&self, weight: WeightMatrix<'w>) -> Result<cpu::Matrix<'w>> {
        let rounded = match &weight {
            WeightMatrix::Stored(view) => self.weight(*view),
            WeightMatrix::Packed(packed) => self.weight(packed.assemble().view()),
            WeightMatrix::Assembled(copy) => self.weight(copy.view()),
        };
        self.cpu.matrix(rounded.into())
    }

    fn linear(
        &self,
        x: &Tensor,
        weight: &cpu::Matrix<'_>,
        bias: Option<&Vec<f32>>,
        target: Target,
    ) -> Result<Tensor> {
        let x = self.input(x)?;
        let exact = self.cpu.linear(&x.values, weight, bias, target)?;
        self.round(exact, self.target(target))
    }

    fn linear_of(
        &self,
        x: &Tensor,
        weight: &cpu::Matrix<'_>,
        inputs: Range<usize>,
        target: Target,
    ) -> Result<Tensor> {
        let x = self.input(x)?;
        let exact = self.cpu.linear_of(&x.values, weight, inputs, target)?;
        self.round(exact, self.target(target))
    }
}

impl InnerProducts for Plain {
    fn inner_products(&self, a: &Tensor, b: &Tensor, parts: usize) -> Result<Vec<f64>> {
        self.cpu.inner_products(&a.values, &b.values, parts)
    }
}

impl Norms for Plain {
    fn norm(&self, x: &Tensor, norm: &NormWeights<Vec<f32>>, target: Target) -> Result<Tensor> {
        let exact = self.cpu.norm(&x.values, norm, target)?;
        self.round(exact, self.target(target))
    }
}

impl Elementwise for Plain {
    fn activate(&self, x: &mut Tensor, activation: Activation) -> Result<()> {
        self.change(x, |x| self.cpu.activate(x, activation))
    }

    fn gate_halves(&self, both: &Tensor, activation: Activation) -> Result<Tensor> {
        let exact = self.cpu.gate_halves(&both.values, activation)?;
        self.round(exact, self.precision.arithmetic())
    }

    fn multiply(&self, x: &mut Tensor, other: &Tensor) -> Result<()> {
        self.change(x, |x| self.cpu.multiply(x, &other.values))
    }

    fn xielu(&self, x: &mut Tensor, scalars: Xielu) -> Result<()> {
        self.change(x, |x| self.cpu.xielu(x, scalars))
    }

    fn multiply_heads(&self, x: &mut Tensor, factors: &Tensor) -> Result<()> {
        self.change(x, |x| self.cpu.multiply_heads(x, &factors.values))
    }

    fn add(&self, x: &mut Tensor, other: &Tensor) -> Result<()> {
        self.change(x, |x| self.cpu.add(x, &other.values))
    }

    fn affine(&self, x: &mut Tensor, factor: f32, offset: f32) -> Result<()> {
        self.change(x, |x| self.cpu.affine(x, factor, offset))
    }

    fn clamp(&self, x: &mut Tensor, low: f32, high: f32) -> Result<()> {
        self.change(x, |x| self.cpu.clamp(x, low, high))
    }
}

impl Convolutions for Plain {
    fn convolve(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        filter: &Filter<Vec<f32>>,
    ) -> Result<Tensor> {
        let exact = self.cpu.convolve(&x.values, sequences, filter)?;
        self.round(exact, self.precision.arithmetic())
    }
}

impl Recurrences for Plain {
    fn state_space(
        &self,
        x: &Tensor,
        b: &Tensor,
        c: &Tensor,
        dt: &Tensor,
        sequences: &[Rows],
        request: &StateSpaceRequest<'_, Vec<f32>>,
    ) -> Result<Tensor> {
        let (x, b, c, dt) = (&x.values, &b.values, &c.values, &dt.values);
        let exact = self.cpu.state_space(x, b, c, dt, sequences, request)?;
        self.round(exact, self.precision.arithmetic())
    }

    fn selective_scan(
        &self,
        x: &Tensor,
        dt: &Tensor,
        b: &Tensor,
        c: &Tensor,
        sequences: &[Rows],
        request: &SelectiveScanRequest<'_, Vec<f32>>,
    ) -> Result<Tensor> {
        let (x, dt, b, c) = (&x.values, &dt.values, &b.values, &c.values);
        let exact = self.cpu.selective_scan(x, dt, b, c, sequences, request)?;
        self.round(exact, self.precision.arithmetic())
    }

    fn delta_rule(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        decay: &Tensor,
        beta: &Tensor,
        sequences: &[Rows],
        request: &DeltaRequest<'_, Vec<f32>>,
    ) -> Result<Tensor> {
        let [q, k, v, decay, beta] = [q, k, v, decay, beta].map(|x| &x.values);
        let exact = self
            .cpu
            .delta_rule(q, k, v, decay, beta, sequences, request)?;
        self.round(exact, self.precision.arithmetic())
    }
}

impl Rotations for Plain {
    fn rotate(
        &self,
        x: &mut Tensor,
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<()> {
        self.change(x, |x| self.cpu.rotate(x, sequences, rotation, tables))
    }

    fn split_rotated(
        &self,
        joined: &Tensor,
        widths: [usize; 3],
        sequences: &[Rows],
        rotation: Rotation,
        tables: &[&RopeTable],
    ) -> Result<[Tensor; 3]> {
        let values = &joined.values;
        let [q, k, v] = self
            .cpu
            .split_rotated(values, widths, sequences, rotation, tables)?;
        let round = |part| self.round(part, self.precision.arithmetic());
        Ok([round(q)?, round(k)?, round(v)?])
    }
}

impl Attention for Plain {
    fn attention(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Vec<f32>>,
    ) -> Result<AttentionOutput<Tensor>> {
        let (q, k, v) = (&q.values, &k.values, &v.values);
        let found = self.cpu.attention(q, k, v, sequences, request)?;
        let dtype = self.precision.arithmetic();
        Ok(AttentionOutput {
            context: self.round(found.context, dtype)?,
            maps: found.maps,
            parts: found
                .parts
                .map(|parts| parts.map(|x| self.round(x, dtype)))
                .transpose()?,
        })
    }
}

impl RowOperations for Plain {
    fn put_rows(&self, out: &mut Tensor, first: usize, x: &Tensor) -> Result<()> {
        self.cpu.put_rows(&mut out.values, first, &x.values)
    }

    fn gather_rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        self.round(self.cpu.gather_rows(&x.values, rows)?, x.dtype)
    }

    fn add_scaled(&self, out: &mut Tensor, x: &Tensor, factors: &Tensor) -> Result<()> {
        let (x, factors) = (&x.values, &factors.values);
        self.change(out, |out| self.cpu.add_scaled(out, x, factors))
    }

    fn scale_rows(&self, x: &mut Tensor, factors: &Vec<f32>) -> Result<()> {
        self.change(x, |x| self.cpu.scale_rows(x, factors))
    }

    fn gather_columns(&self, x: &Tensor, columns: Range<usize>) -> Result<Tensor> {
        let gathered = self.cpu.gather_columns(&x.values, columns)?;
        self.round(gathered, x.dtype)
    }

    fn join_heads(&self, own: &Tensor, shared: &Tensor, heads: usize) -> Result<Tensor> {
        let joined = self.cpu.join_heads(&own.values, &shared.values, heads)?;
        self.round(joined, own.dtype)
    }
}

impl RowScaling for Plain {
    fn match_magnitude(&self, x: &mut Tensor, like: &Tensor, floor: f32) -> Result<()> {
        self.change(x, |x| self.cpu.match_magnitude(x, &like.values, floor))
    }

    fn keep_largest(&self, x: &mut Tensor, deviations: f32) -> Result<()> {
        self.change(x, |x| self.cpu.keep_largest(x, deviations))
    }

    fn multiply_columns(&self, x: &mut Tensor, factors: &Vec<f32>) -> Result<()> {
        self.change(x, |x| self.cpu.multiply_columns(x, factors))
    }
}

impl Experts for Plain {
    fn route(
        &self,
        logits: &Tensor,
        routing: &Routing,
        correction: Option<&Vec<f32>>,
        chosen: Option<&[u32]>,
    ) -> Result<Self::Visitors> {
        self.cpu.route(&logits.values, routing, correction, chosen)
    }

    fn visits(&self, visitors: &Self::Visitors) -> Vec<usize> {
        self.cpu.visits(visitors)
    }

    fn visiting_rows(&self, visitors: &Self::Visitors) -> Result<Vec<Vec<usize>>> {
        self.cpu.visiting_rows(visitors)
    }

    fn gather_visitors(
        &self,
        x: &Tensor,
        visitors: &Self::Visitors,
        expert: usize,
    ) -> Result<Tensor> {
        let gathered = self.cpu.gather_visitors(&x.values, visitors, expert)?;
        self.round(gathered, x.dtype)
    }

    fn weigh_visitors(
        &self,
        x: &mut Tensor,
        visitors: &Self::Visitors,
        expert: usize,
    ) -> Result<()> {
        self.change(x, |x| self.cpu.weigh_visitors(x, visitors, expert))
    }

    fn add_visitors(
        &self,
        out: &mut Tensor,
        x: &Tensor,
        visitors: &Self::Visitors,
        expert: usize,
        weighted: bool,
    ) -> Result<()> {
        let x = &x.values;
        self.change(out, |out| {
            self.cpu.add_visitors(out, x, visitors, expert, weighted)
        })
    }
}

impl KeyChoice for Plain {
    fn choose_keys(
        &self,
        q: &Tensor,
        k: &Tensor,
        weights: &Tensor,
        sequences: &[Rows],
        keys: (&[Rows], usize),
        most: usize,
    ) -> Result<KeyMask> {
        let (q, k, weights) = (&q.values, &k.values, &weights.values);
        self.cpu.choose_keys(q, k, weights, sequences, keys, most)
    }

    fn gather_choices(&self, mask: &KeyMask, rows: &[usize]) -> Result<KeyMask> {
        self.cpu.gather_choices(mask, rows)
    }
}

impl Streams for Plain {
    fn spread(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        self.round(self.cpu.spread(&x.values, count)?, x.dtype)
    }

    fn stream_weights(
        &self,
        products: &mut Tensor,
        request: &StreamRequest<'_, Vec<f32>>,
    ) -> Result<()> {
        self.change(products, |x| self.cpu.stream_weights(x, request))
    }

    fn collapse(&self, x: &Tensor, count: usize, weights: Option<&Tensor>) -> Result<Tensor> {
        let weights = weights.map(|weights| &weights.values);
        self.round(self.cpu.collapse(&x.values, count, weights)?, x.dtype)
    }

    fn mix_streams(&self, x: &Tensor, y: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let mixed = self
            .cpu
            .mix_streams(&x.values, &y.values, &weights.values)?;
        self.round(mixed, x.dtype)
    }
}

impl Compression for Plain {
    fn compress(
        &self,
        values: &Tensor,
        gate: &Tensor,
        bias: &Vec<f32>,
        sequences: &[Rows],
        rate: usize,
        overlaps: bool,
    ) -> Result<Tensor> {
        let (dtype, values, gate) = (values.dtype, &values.values, &gate.values);
        let made = self
            .cpu
            .compress(values, gate, bias, sequences, rate, overlaps)?;
        self.round(made, dtype)
    }

    fn gather_both(&self, first: &Tensor, second: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let both = self.cpu.gather_both(&first.values, &second.values, rows)?;
        self.round(both, first.dtype)
    }

    fn see_entries(
        &self,
        sequences: &[Rows],
        rate: usize,
        window: Option<usize>,
        choice: Option<&KeyMask>,
    ) -> Result<KeyMask> {
        self.cpu.see_entries(sequences, rate, window, choice)
    }
}

impl Cells for Plain {
    fn values_at(&self, x: &Tensor, cells: &[(usize, usize)]) -> Result<Vec<f32>> {
        self.cpu.values_at(&x.values, cells)
    }

    fn overwrite(&self, x: &mut Tensor, cells: &[(usize, usize, Change)]) -> Result<()> {
        self.change(x, |x| self.cpu.overwrite(x, cells))
    }
}

impl Magnitudes for Plain {
    fn statistics(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Vec<Statistics>> {
        self.cpu.statistics(&x.values, sequences, request)
    }

    fn add_statistics(
        &self,
        x: &mut Tensor,
        other: &Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Vec<Statistics>> {
        self.add(x, other)?;
        self.statistics(x, sequences, request)
    }

    fn read_statistics(&self, pending: Vec<Statistics>) -> Result<Vec<Statistics>> {
        self.cpu.read_statistics(pending)
    }
}

impl Profiles for Plain {
    fn profile(
        &self,
        x: &Tensor,
        sequences: &[Rows],
        request: &ProfileRequest,
    ) -> Result<Vec<Profile>> {
        self.cpu.profile(&x.values, sequences, request)
    }

    fn read_profiles(&self, pending: Vec<Profile>) -> Result<Vec<Profile>> {
        self.cpu.read_profiles(pending)
    }
}

impl Vocabulary for Plain {
    fn token_nll(
        &self,
        x: &Tensor,
        head: &HeadRequest<'_, Vec<f32>>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>> {
        let x = self.input(x)?;
        let weight = match &head.weight {
            WeightMatrix::Stored(view) => self.weight(*view),
            WeightMatrix::Packed(packed) => self.weight(packed.assemble().view()),
            WeightMatrix::Assembled(copy) => self.weight(copy.view()),
        };
        let head = HeadRequest {
            weight: weight.into(),
            bias: head.bias.clone(),
            scale: head.scale,
            soft_cap: head.soft_cap,
        };
        self.cpu.token_nll(&x.values, &head, targets)
    }
}

impl StoredTensors for Plain {
    fn moments(&self, elements: Elements<'_>, change: Option<Rescaling>) -> Result<Vec<Moments>> {
        self.cpu.moments(elements, change)
    }

    fn rescale(&self, elements: Elements<'_>, change: Rescaling, out: &mut [u8]) -> Result<()> {
        self.cpu.rescale(elements, change, out)
    }
}
